#!/usr/bin/env bash
# airflow.sh ARGUMENT...: runs Airflow's command line, with the PostgreSQL of AIRFLOW_DATABASE
# (user:password@host:port/name). The only user of the API server is admin, with AIRFLOW_ADMIN_PASSWORD.
set -euo pipefail
export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="postgresql+psycopg2://${AIRFLOW_DATABASE:?}"
if [ "${1:-}" = api-server ]; then
    : "${AIRFLOW_ADMIN_PASSWORD:?}"
    export AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS=admin:admin
    export AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE=$AIRFLOW_HOME/passwords.json
    (umask 077 && printf '{"admin": "%s"}' "$AIRFLOW_ADMIN_PASSWORD" > "$AIRFLOW_HOME/passwords.json")
    unset AIRFLOW_ADMIN_PASSWORD
fi
exec "${AIRFLOW_BIN:-/opt/lakehouse/.venv-airflow/bin}/airflow" "$@"
