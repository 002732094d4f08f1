#!/usr/bin/env bash
# Waits for the first tables that were published, and lets Debezium follow them: deploy/connect/postgres.sql.
# psql finds the database, and who it is there, by its own variables (PGHOST, ...).
set -euo pipefail
: "${CDC_PASSWORD:?}"
sql=${CONNECT_SQL:-/connect/postgres.sql}
there="SELECT count(*) = 2 FROM pg_tables WHERE schemaname = 'public'
    AND tablename IN ('dadostesouroipca_gold', 'dadostesouropre_gold')"
until [ "$(psql --no-psqlrc --tuples-only --no-align --command "$there")" = t ]; do
    sleep "${PUBLICATION_LOOK:-5}"
done
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 <<SQL
\getenv cdc CDC_PASSWORD
\set password '\'' :cdc '\''
\i $sql
SQL
