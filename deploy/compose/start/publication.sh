#!/usr/bin/env bash
# Waits until the first tables are published, and gives Debezium access to them with deploy/connect/postgres.sql.
# psql takes the connection from its own variables (PGHOST, ...).
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
