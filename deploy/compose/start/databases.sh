#!/usr/bin/env bash
# Run once by PostgreSQL's image, on an empty volume: a database for what is published, and one for Airflow, each with
# its owner. Passwords come to psql by its environment: they are in no argv.
set -euo pipefail
: "${PUBLISH_PASSWORD:?}" "${AIRFLOW_DB_PASSWORD:?}"
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv publish PUBLISH_PASSWORD
\getenv airflow AIRFLOW_DB_PASSWORD
CREATE ROLE lakehouse LOGIN PASSWORD :'publish';
CREATE ROLE airflow LOGIN PASSWORD :'airflow';
CREATE DATABASE tesouro OWNER lakehouse;
CREATE DATABASE airflow OWNER airflow;
SQL
