"""The role that deploy/connect/postgres.sql creates has what Debezium needs of PostgreSQL, and no more. No JVM.

Debezium reads the tables, creates a replication slot, and reads the slot. Here the same SQL does so; test_chain.py runs
Debezium with this role. With less, `lakehouse connect` names the right and the statement; a double stands for Connect.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from chain import _TABLE, CDC_PASSWORD, IPCA, PRE
from connect_double import Connect, running_connect
from local_kafka import HERE
from servers import postgres
from servers.postgres import Server

from lakehouse.config import load
from lakehouse.errors import ConfigError, ExitCode
from lakehouse.publish.kafka_connect import connectors
from lakehouse.publish.kafka_connect.database_rights import check_rights

SLOT = "SELECT pg_create_logical_replication_slot('lakehouse_test', 'pgoutput')"
CHANGES = (
    "SELECT count(*) FROM pg_logical_slot_get_binary_changes('lakehouse_test', NULL, NULL, 'proto_version', '1',"
    " 'publication_names', 'lakehouse_gold')"
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of its own: a role belongs to all databases of a server, and other tests create this one too."""
    with postgres.postgres() as server:
        yield server


@pytest.fixture
def database(server: Server) -> Iterator[Server]:
    """A database with the published tables and one that is not, after postgres.sql."""
    own = server.new_database("cdc_rights")
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
        server.execute("DROP ROLE IF EXISTS lakehouse_cdc")


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


# What `lakehouse connect` finds of it

TABLES = f"public.{IPCA}, public.{PRE}"
LESS = {  # what takes the right, what is found, and the statement that gives it back
    "replication": (
        "ALTER ROLE lakehouse_cdc NOREPLICATION",
        "lakehouse_cdc lacks REPLICATION",
        "ALTER ROLE lakehouse_cdc REPLICATION",
    ),
    "login": ("ALTER ROLE lakehouse_cdc NOLOGIN", "lakehouse_cdc may not log in", "ALTER ROLE lakehouse_cdc LOGIN"),
    "connect": (
        "REVOKE CONNECT ON DATABASE cdc_rights FROM public",
        "lakehouse_cdc may not connect to cdc_rights",
        "GRANT CONNECT ON DATABASE cdc_rights TO lakehouse_cdc",
    ),
    "select": (
        f"REVOKE SELECT ON {IPCA} FROM lakehouse_cdc",
        f"lakehouse_cdc lacks SELECT on public.{IPCA}",
        f"GRANT SELECT ON public.{IPCA} TO lakehouse_cdc",
    ),
    "a column": (
        f"REVOKE SELECT ON {IPCA} FROM lakehouse_cdc; GRANT SELECT (tipo) ON {IPCA} TO lakehouse_cdc",
        f"lakehouse_cdc lacks SELECT on public.{IPCA}",
        f"GRANT SELECT ON public.{IPCA} TO lakehouse_cdc",
    ),
    "usage": (
        "REVOKE USAGE ON SCHEMA public FROM public, lakehouse_cdc",
        "lakehouse_cdc lacks USAGE on the schema public",
        "GRANT USAGE ON SCHEMA public TO lakehouse_cdc",
    ),
    "publication": (
        "DROP PUBLICATION lakehouse_gold",
        "there is no publication lakehouse_gold",
        f"CREATE PUBLICATION lakehouse_gold FOR TABLE {TABLES}",
    ),
    "a published table": (
        f"ALTER PUBLICATION lakehouse_gold DROP TABLE {PRE}",
        f"the publication lakehouse_gold does not have public.{PRE}",
        f"ALTER PUBLICATION lakehouse_gold ADD TABLE public.{PRE}",
    ),
}
FILTERED = {"publication.autocreate.mode": "filtered"}


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    monkeypatch.setenv("CDC_USER", "lakehouse_cdc")
    with running_connect(monkeypatch) as connect:
        yield connect


def pipeline(folder: Path, database: Server, url: str = "http://127.0.0.1:1", **config: str) -> Any:
    """Return a pipeline with the shipped source connector, some of whose settings are changed."""
    document = json.loads((HERE / "postgres-source.json").read_text())
    document["config"] |= config
    (folder / "source.json").write_text(json.dumps(document))
    table = {"file": "t", "format": "json", "schema": "a STRING", "keys": ["a"]}
    document = {
        "name": "shop",
        "lake": str(folder / "lake"),
        "source": {"type": "files", "path": str(folder)},
        "tables": {"t": table},
        "publish": {"postgres": {"url": database.url, "tables": {"bronze.t": IPCA}}},
        "connect": {"url": url, "connectors": ["source.json"]},
    }
    (folder / "pipeline.json").write_text(json.dumps(document))
    return load(folder)


def missing(folder: Path, database: Server, **config: str) -> list[tuple[str, str]]:
    loaded = pipeline(folder, database, **config)
    check = check_rights(loaded, json.loads((folder / "source.json").read_text())["config"])
    assert check.reason == ""
    return [tuple(right) for right in check.missing]


@pytest.mark.parametrize("case", LESS)
def test_apply_refuses_with_the_statement_to_type_and_status_names_what_was_revoked_later(
    database: Server, rest: Connect, tmp_path: Path, case: str
) -> None:
    less, found, statement = LESS[case]
    loaded = pipeline(tmp_path, database, rest.url)
    (applied,) = connectors.apply(loaded)["connectors"]
    assert (applied["change"], applied["rights"]) == ("created", "")
    database.execute(less)

    status = connectors.status(loaded)
    assert (status["exit_code"], status["connectors"][0]["state"]) == (ExitCode.REFUSED, "RUNNING")
    assert status["connectors"][0]["rights"] == f"{found}: {statement}"
    rest.configs.clear()
    with pytest.raises(ConfigError) as refused:
        connectors.apply(loaded)
    assert (refused.value.found, rest.configs) == (f"postgres-gold: {found}", {})
    assert f" {statement}; then " in refused.value.next_step

    database.execute(statement)
    assert connectors.apply(loaded)["exit_code"] == ExitCode.OK
    assert connectors.status(loaded)["exit_code"] == ExitCode.OK


def test_everything_that_is_missing_is_found_at_once(database: Server, rest: Connect, tmp_path: Path) -> None:
    database.execute(*(LESS[case][0] for case in ("replication", "select", "usage")))

    assert missing(tmp_path, database) == [LESS[case][1:] for case in ("replication", "usage", "select")]


def test_a_publication_that_debezium_makes_itself_needs_more(database: Server, rest: Connect, tmp_path: Path) -> None:
    owner = "ALTER PUBLICATION lakehouse_gold OWNER TO lakehouse_cdc"
    assert missing(tmp_path, database, **FILTERED) == [
        ("lakehouse_cdc does not own the publication lakehouse_gold, which `filtered` alters", owner)
    ]
    database.execute("GRANT CREATE ON DATABASE cdc_rights TO lakehouse_cdc", owner)
    assert missing(tmp_path, database, **FILTERED) == []
    database.execute("DROP PUBLICATION lakehouse_gold")
    create = [LESS["publication"][1:]]
    assert missing(tmp_path, database, **FILTERED) == create  # it does not own the tables
    database.execute(*(f"ALTER TABLE {table} OWNER TO lakehouse_cdc" for table in (IPCA, PRE)))
    assert missing(tmp_path, database, **FILTERED) == []
    assert missing(tmp_path, database) == create  # which nobody creates by itself


def test_only_columns_that_are_read_count_and_names_are_quoted(database: Server, rest: Connect, tmp_path: Path) -> None:
    database.execute(LESS["a column"][0].replace(";", "; "))
    assert missing(tmp_path, database, **{"column.include.list": f"public.{IPCA}.tipo"}) == []
    database.execute('CREATE TABLE "Odd ""one" (a int)', 'ALTER PUBLICATION lakehouse_gold ADD TABLE "Odd ""one"')

    found = missing(tmp_path, database, **{"table.include.list": 'public.odd "one'})

    assert found == [
        ('lakehouse_cdc lacks SELECT on public.Odd "one', 'GRANT SELECT ON public."Odd ""one" TO lakehouse_cdc')
    ]
    database.execute(found[0][1])
    assert missing(tmp_path, database, **{"table.include.list": 'public.odd "one'}) == []


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"database.user": "${file:/run/cdc:user}"}, "database.user is ${file:/run/cdc:user}; set the variable here"),
        ({"database.dbname": "other"}, "it reads the database other, and publish.postgres names cdc_rights"),
    ],
)
def test_what_cannot_be_checked_is_said_and_changes_no_code(
    database: Server, rest: Connect, tmp_path: Path, config: dict[str, str], reason: str
) -> None:
    (applied,) = connectors.apply(pipeline(tmp_path, database, rest.url, **config))["connectors"]

    assert applied["rights"].startswith(f"not checked: {reason}")
