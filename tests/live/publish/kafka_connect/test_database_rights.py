"""The role that deploy/connect/postgres.sql creates has what Debezium needs of PostgreSQL, and no more. No JVM.

Debezium reads the tables, creates a replication slot, and reads the slot. Here the same SQL does so; test_chain.py runs
Debezium with this role.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import psycopg
import pytest
from chain import _TABLE, CDC_PASSWORD, IPCA, PRE
from local_kafka import HERE
from servers import postgres
from servers.postgres import Server

SLOT = "SELECT pg_create_logical_replication_slot('lakehouse_test', 'pgoutput')"
CHANGES = (
    "SELECT count(*) FROM pg_logical_slot_get_binary_changes('lakehouse_test', NULL, NULL, 'proto_version', '1',"
    " 'publication_names', 'lakehouse_gold')"
)


@pytest.fixture
def database(postgres_server: Server) -> Iterator[Server]:
    """A database with the published tables and one that is not, after postgres.sql."""
    own = postgres_server.new_database("cdc_rights")
    try:
        own.execute(*(_TABLE.format(table) for table in (IPCA, PRE)), "CREATE TABLE salaries (name text PRIMARY KEY)")
        command = [postgres.program_folder() / "psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", own.url]
        environment = {**os.environ, "CDC_PASSWORD": CDC_PASSWORD}
        subprocess.run(
            [*command, "-f", HERE / "postgres.sql"], check=True, capture_output=True, timeout=60, env=environment
        )
        yield own
    finally:
        own.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'lakehouse_test'"
        )
        own.drop()
        postgres_server.execute("DROP ROLE IF EXISTS lakehouse_cdc")


def run_as_cdc(database: Server, *statements: str) -> list[tuple[object, ...]]:
    """Run statements as the role of the connector; return the rows of the last one."""
    address = f"host=127.0.0.1 port={database.port} dbname={database.database} user=lakehouse_cdc"
    with psycopg.connect(f"{address} password={CDC_PASSWORD}", autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_the_role_reads_the_tables_and_their_changes(database: Server) -> None:
    run_as_cdc(database, f"SELECT * FROM {IPCA}", f"SELECT * FROM {PRE}", SLOT)
    database.execute(f"INSERT INTO {IPCA} (data_base, tipo) VALUES ('2024-01-30', 'X')")

    assert run_as_cdc(database, CHANGES) >= [(3,)]  # begin, insert, commit


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO {IPCA} (data_base, tipo) VALUES ('2024-01-30', 'X')",
        f"UPDATE {IPCA} SET tipo = 'Y'",
        f"DELETE FROM {PRE}",
        f"TRUNCATE {PRE}",
        f"ALTER TABLE {PRE} REPLICA IDENTITY FULL",
        "SELECT * FROM salaries",
        "CREATE TABLE mine (a int)",
        "CREATE ROLE another",
        "ALTER ROLE lakehouse_cdc SUPERUSER",
        f"CREATE PUBLICATION mine FOR TABLE {PRE}",
        "DROP PUBLICATION lakehouse_gold",
        "SELECT pg_read_file('postgresql.conf')",
        "COPY (SELECT 1) TO '/tmp/x'",
    ],
)
def test_the_role_can_do_nothing_else(database: Server, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run_as_cdc(database, statement)


@pytest.mark.parametrize(
    ("less", "statement", "missing"),
    [
        ("ALTER ROLE lakehouse_cdc NOREPLICATION", SLOT, "REPLICATION"),
        (f"REVOKE SELECT ON {IPCA} FROM lakehouse_cdc", f"SELECT * FROM {IPCA}", f"permission denied for table {IPCA}"),
        (
            "REVOKE USAGE ON SCHEMA public FROM public, lakehouse_cdc",
            f"SELECT * FROM public.{IPCA}",
            "permission denied for schema public",
        ),
        ("DROP PUBLICATION lakehouse_gold", CHANGES, 'publication "lakehouse_gold" does not exist'),
        ("ALTER ROLE lakehouse_cdc NOLOGIN", "SELECT 1", 'role "lakehouse_cdc" is not permitted to log in'),
    ],
)
def test_with_less_the_message_names_what_is_missing(database: Server, less: str, statement: str, missing: str) -> None:
    if statement is CHANGES:
        run_as_cdc(database, SLOT)
    database.execute(less)
    if statement is CHANGES:
        database.execute(f"INSERT INTO {IPCA} (data_base, tipo) VALUES ('2024-01-30', 'X')")

    with pytest.raises(psycopg.Error) as error:
        run_as_cdc(database, statement)

    diagnostic = error.value.diag
    assert missing in f"{error.value} {diagnostic.message_detail or ''}"
