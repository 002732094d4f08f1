#!/usr/bin/env bash
# Creates a database for the published tables and one for Airflow, each with its owner. PostgreSQL's image runs it once, on
# an empty volume. psql reads the passwords from its environment, so that they are in no process list.
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
