"""A real PostgreSQL raises an error of each class that it can be brought to raise, and the exit code is right. No JVM.

Classes that are missing here are those that no statement or setting of a client raises: 03, 09, 0F, 0L, 0Z, 20, 24, 27,
34, 39, 44 (only a view has it), 58, 72, F0, HV and XX. The table has a rule for each (tests/unit/config).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from servers.postgres import PASSWORD, Server

from lakehouse.config import sqlstates
from lakehouse.errors import ConfigError, DataRefused, ExitCode, InfrastructureError, LakehouseError
from lakehouse.extract.postgres import reader
from lakehouse.publish import catalog, table
from lakehouse.publish.connection import Connection, connect
from lakehouse.publish.statements import TargetTable
from lakehouse.publish.types import Column

COLUMNS = (Column("id", "text"), Column("no: 2", "integer"), Column("name", "text"), Column("doc", "jsonb"))

# One statement for each class or code, after these objects exist.
OBJECTS = """
    CREATE TABLE one (id int PRIMARY KEY, small smallint NOT NULL CHECK (small < 100), parent int REFERENCES one);
    INSERT INTO one VALUES (1, 1, NULL);
    CREATE VIEW checked AS SELECT * FROM one WHERE small < 50 WITH CHECK OPTION;
    CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no, %', NEW.id; END $$;
    CREATE TABLE guarded (id int); CREATE TRIGGER no BEFORE INSERT ON guarded FOR EACH ROW EXECUTE FUNCTION no();
    CREATE FUNCTION own() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'own' USING ERRCODE = 'ZZ001'; END $$;
    CREATE FUNCTION nothing() RETURNS int LANGUAGE plpgsql AS $$ BEGIN END $$;
    CREATE TABLE wide (id text PRIMARY KEY);
"""
RAISED = {
    "0A000": ("SELECT 1 FROM information_schema.tables FOR UPDATE", 2),
    "21000": ("SELECT (SELECT id FROM generate_series(1, 2) AS g (id))", 5),
    "22003": ("INSERT INTO one VALUES (2, 40000)", 5),
    "22012": ("SELECT 1 / 0", 5),
    "22021": (r"SELECT E'\xff'", 5),
    "22023": ("SET TimeZone = 'nowhere'", 2),
    "22P02": ("SELECT CAST('secret' AS int)", 5),
    "22P05": (r"""SELECT '"\u0000"'::jsonb""", 5),
    "23502": ("INSERT INTO one VALUES (2, NULL)", 5),
    "23503": ("INSERT INTO one VALUES (2, 1, 77)", 5),
    "23505": ("INSERT INTO one VALUES (1, 1)", 5),
    "23514": ("INSERT INTO one VALUES (2, 101)", 5),
    "25001": ("BEGIN; SELECT 1; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", 2),
    "25006": ("BEGIN READ ONLY; INSERT INTO one VALUES (2, 2)", 2),
    "25P02": ("BEGIN; SELECT 1 / 0", 2),
    "26000": ("EXECUTE never_prepared", 2),
    "2BP01": ("DROP ROLE of_objects", 2),
    "2F005": ("SELECT nothing()", 5),
    "3B001": ("BEGIN; ROLLBACK TO SAVEPOINT none", 2),
    "3D000": ("ALTER DATABASE none_of_that_name RENAME TO other", 2),
    "3F000": ("CREATE TABLE nowhere.t (a int)", 2),
    "42501": ("SET ROLE nobody_at_all; CREATE TABLE public.t (a int)", 2),
    "42601": ("SELEC 1", 2),
    "42703": ("SELECT nothing FROM one", 2),
    "42P01": ("SELECT * FROM none", 2),
    "42P07": ("CREATE TABLE one (a int)", 2),
    "44000": ("INSERT INTO checked VALUES (2, 60)", 5),
    "54000": ("INSERT INTO wide SELECT string_agg(md5(n::text), '') FROM generate_series(1, 128) AS n", 5),
    "54011": (f"CREATE TABLE t ({', '.join(f'c{n} int' for n in range(1601))})", 2),
    "54001": ("CREATE FUNCTION deep() RETURNS int LANGUAGE sql AS 'SELECT deep()'; SELECT deep()", 2),
    "55000": ("SELECT currval('seq')", 2),
    "55P02": ("SET max_connections = 10", 2),
    "57014": ("SET statement_timeout = '20ms'; SELECT pg_sleep(5)", 3),
    "P0001": ("INSERT INTO guarded VALUES (7)", 5),
    "ZZ001": ("SELECT own()", 5),
}


@pytest.fixture(scope="module")
def server(postgres_server: Server) -> Iterator[Server]:
    own = postgres_server.new_database("sqlstates")
    own.execute(OBJECTS, "CREATE SEQUENCE seq", "CREATE ROLE of_objects", "CREATE ROLE nobody_at_all")
    own.execute("ALTER SEQUENCE seq OWNER TO of_objects")
    yield own
    own.execute("DROP OWNED BY of_objects", "DROP ROLE of_objects", "DROP ROLE nobody_at_all")
    own.drop()


def raised(server: Server, *statements: str, url: str = "") -> LakehouseError:
    """The error that a connection of publishing reports."""
    with pytest.raises(LakehouseError) as error, connect(url or server.url) as connection:
        for statement in statements:
            connection.execute(statement.encode())
    return error.value


@pytest.mark.parametrize("code", RAISED)
def test_each_class_that_a_server_raises_has_its_exit_code(server: Server, code: str) -> None:
    statement, exit_code = RAISED[code]
    parts = (*statement.split("; "), "SELECT 1") if code == "25P02" else statement.split("; ")
    with psycopg.connect(server.url, autocommit=True) as connection, pytest.raises(psycopg.Error) as plain:
        for part in parts:
            try:
                connection.execute(part.encode())
            except psycopg.errors.DivisionByZero:
                if code != "25P02":
                    raise
    assert plain.value.sqlstate == code
    if code != "25P02":
        error = raised(server, *parts)
        assert error.exit_code == exit_code, error.to_text()
        assert error.next_step or exit_code == 2
        assert "secret" not in error.to_text() and "no, 7" not in error.to_record()
    assert sqlstates.meaning(code).exit_code == exit_code
    assert reader._to_lakehouse_error(plain.value).exit_code == exit_code


def test_a_lost_connection_a_full_server_and_a_conflict_are_worth_retrying(server: Server) -> None:
    with connect(server.url) as other, other.transaction():
        other.execute("LOCK TABLE one IN ACCESS EXCLUSIVE MODE")
        locked = raised(server, "SET lock_timeout = '20ms'", "SELECT * FROM one")
    assert (locked.exit_code, locked.where) == (3, "SQLSTATE 55P03")

    ended = raised(server, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert (ended.exit_code, ended.where) == (3, "SQLSTATE 57P01")

    server.execute("CREATE ROLE one_only LOGIN CONNECTION LIMIT 1 PASSWORD 'canary'")
    url = server.url.replace(f"tests:{PASSWORD}", "one_only:canary")
    with connect(url):
        full = raised(server, url=url)
    assert (full.exit_code, "too many connections" in full.found) == (3, True)
    server.execute("DROP ROLE one_only")

    memory = raised(
        server,
        "SET work_mem = '64kB'",
        "SET temp_file_limit = '1MB'",
        "SELECT count(*) FROM (SELECT n FROM generate_series(1, 999999) AS n ORDER BY md5(n::text)) AS s",
    )
    assert (memory.exit_code, memory.where) == (3, "SQLSTATE 53400")

    assert isinstance(raised(server, url=server.url.replace(f":{server.port}/", ":1/")), InfrastructureError)

    server.execute("CREATE TABLE conflict (id int)", "INSERT INTO conflict VALUES (1)")
    with connect(server.url) as first, first.transaction():
        first.execute("UPDATE conflict SET id = 2")
        results: list[LakehouseError] = []
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ"
        waiting = threading.Thread(
            target=lambda: results.append(raised(server, begin, "SELECT 1", "UPDATE conflict SET id = 3"))
        )
        waiting.start()
        time.sleep(0.5)
    waiting.join()
    assert (results[0].exit_code, results[0].where) == (3, "SQLSTATE 40001")


@pytest.mark.parametrize(
    ("user", "database", "parameters"),
    [
        (f"tests:{PASSWORD}x", "", ""),
        ("nobody_of_that_name:x", "", ""),
        (f"tests:{PASSWORD}", "no_such_database", ""),
        (f"tests:{PASSWORD}", "", "?options=-cTimeZone%3Dnowhere"),
        (f"tests:{PASSWORD}", "", "?options=-cno_such_setting%3D1"),
        (f"tests:{PASSWORD}", "", "?sslmode=sometimes"),
        (f"tests:{PASSWORD}", "", "?sslmode=require"),
        (f"tests:{PASSWORD}", "", "?no_such_parameter=1"),
        (f"tests:{PASSWORD}", "", "?keepalives_idle=often"),
    ],
)
def test_what_is_wrong_in_the_address_is_reported_without_the_password(
    server: Server, user: str, database: str, parameters: str
) -> None:
    url = f"postgresql://{user}@127.0.0.1:{server.port}/{database or server.database}{parameters}"
    error = raised(server, url=url)
    assert isinstance(error, ConfigError), error.to_text()
    assert PASSWORD not in error.to_text()


def test_a_database_that_is_read_only_is_a_matter_of_the_address(server: Server) -> None:
    with (
        pytest.raises(ConfigError) as error,
        connect(f"{server.url}?options=-cdefault_transaction_read_only%3Don") as connection,
    ):
        catalog.create_position_table(connection, catalog.resolve_table(connection, "x"))
    assert error.value.where == "SQLSTATE 25006"
    assert "target_session_attrs=read-write" in error.value.next_step


# --- rows -------------------------------------------------------------------------------------------------------


def target(connection: Connection, name: str, keys: tuple[str, ...] = ("id", "no: 2")) -> TargetTable:
    return TargetTable(catalog.resolve_table(connection, name), COLUMNS, keys)


def rejected(url: str, name: str, lines: list[str], keys: tuple[str, ...] = ("id", "no: 2")) -> DataRefused:
    with pytest.raises(DataRefused) as error, connect(url) as connection, connection.transaction():
        table.load_stage(connection, target(connection, name, keys), lines)
        table.apply_stage(connection, target(connection, name, keys), is_complete=True)
    return error.value


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("f\ta\\tb\t99999999999\tsecret\t{}\n", "no: 2"),
        ("f\ta\\tb\t7\tsecret\0\t{}\n", "name"),
        ('f\ta\\tb\t7\tsecret\t{"a": "\\\\u0000secret"}\n', "doc"),
        ("f\ta\\tb\t7\tsecret\t{secret\n", "doc"),
    ],
)
def test_a_rejected_row_is_named_by_key_and_column_without_its_value(server: Server, line: str, column: str) -> None:
    error = rejected(server.url, "t", ["f\tx\t1\tn\t{}\nf\ty\t1\tn\t{}\n", line, "f\tz\t1\tn\t{}\n"])
    assert "the row with id = a\\tb, no: 2 = " in error.found
    assert error.where == f"the column {column}"
    assert "secret" not in error.to_text()
    assert "id = " not in error.to_record()


def test_a_row_rejected_before_many_others_is_still_named(server: Server) -> None:
    rest = ["".join(f"f\t{block}-{n}\t1\t{'x' * 200}\t{{}}\n" for n in range(1000)) for block in range(400)]
    error = rejected(server.url, "t", ["f\tbad\tmany\tn\t{}\n", *rest])
    assert "the row with id = bad, no: 2 = many" in error.found


def test_a_key_too_long_for_an_index_is_named_with_its_size_and_the_limit(server: Server) -> None:
    with connect(server.url) as connection:
        (long,) = connection.execute(
            "SELECT string_agg(md5(n::text), '') FROM generate_series(1, 128) AS n"
        ).fetchone() or ("",)
    error = rejected(server.url, "t", [f"f\tok\t1\tn\t{{}}\nf\t{long}\t2\tn\t{{}}\n"])
    assert error.exit_code == ExitCode.REFUSED
    assert f"id = {long[:20]}" in error.found and long not in error.found
    assert error.where == "the column id: 4,096 bytes, and a key may have 2,704"
    assert long[:20] not in error.to_record()


@pytest.mark.parametrize(
    ("rule", "where"),
    [
        ("ALTER TABLE strict ADD CONSTRAINT short CHECK (length(name) < 4)", "the constraint short"),
        ("CREATE UNIQUE INDEX one_name ON strict ((name || 'x')) WHERE length(name) > 3", "the constraint one_name"),
        ("CREATE TRIGGER no BEFORE INSERT ON strict FOR EACH ROW WHEN (NEW.name > 'm') EXECUTE FUNCTION no()", "P0001"),
        ("ALTER TABLE strict ALTER name SET NOT NULL", "the column name"),
    ],
)
def test_a_row_that_a_rule_of_others_forbids_is_named_by_key(server: Server, rule: str, where: str) -> None:
    with connect(server.url) as connection:
        connection.execute("DROP TABLE IF EXISTS strict")
        with connection.transaction():
            table.load_stage(connection, target(connection, "strict"), ["f\t-\t1\tlong\t{}\n"])
            table.apply_stage(connection, target(connection, "strict"), is_complete=True)
        connection.execute("UPDATE strict SET name = 'abc'" if "CHECK" in rule else "SELECT 1")
        connection.execute(rule.encode())
    value = "\\N" if "NOT NULL" in rule else "long"
    lines = [f"f\t{n}\t1\t{value if n == 37 else 'abc'}\t{{}}\n" for n in range(100)]
    with connect(server.url) as connection, pytest.raises(DataRefused) as error, connection.transaction():
        if "INDEX" in rule:  # with the row that is there
            lines[0] = "f\t-\t1\tlong\t{}\n"
        if "TRIGGER" in rule:
            lines[37] = "f\t37\t1\tz\t{}\n"
        table.load_stage(connection, target(connection, "strict"), lines)
        table.apply_stage(connection, target(connection, "strict"), is_complete=True)
    assert "the row with id = 37, no: 2 = 1" in error.value.found
    assert where in error.value.where
    assert "long" not in error.value.to_text()


@pytest.mark.parametrize("parameters", ["", "?client_encoding=LATIN1", "?options=-cclient_encoding%3DLATIN1"])
def test_the_client_encoding_of_the_address_has_no_effect(server: Server, parameters: str) -> None:
    with connect(server.url + parameters) as connection, connection.transaction(force_rollback=True):
        one = target(connection, "euro")
        table.load_stage(connection, one, ["f\t€\t1\tn\t{}\n"])
        assert table.apply_stage(connection, one, is_complete=True)["inserted"] == 1
        assert connection.execute("SELECT id FROM euro").fetchall() == [("€",)]


def test_a_character_that_the_database_has_not_is_named_by_key_and_column(server: Server) -> None:
    server.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    latin = replace(server, database="latin")
    try:
        error = rejected(latin.url, "t", ["f\tok\t1\té\t{}\nf\tr\t2\t5 €\t{}\n"])
        assert "the row with id = r, no: 2 = 2" in error.found
        assert error.where == "the column name"
        assert "UTF8" in error.next_step
        in_document = rejected(latin.url, "t", ['f\tr\t2\tn\t{"a": "€"}\n'])
        assert in_document.where == "the column doc"
        with connect(latin.url) as connection:
            table.check_encoding(connection, target(connection, "t"), "gold.x")
            named = replace(target(connection, "t"), columns=(Column("€", "text"), Column("b", "text", "in €")))
            with pytest.raises(ConfigError, match="the names or comments of €, b have characters that LATIN1 has not"):
                table.check_encoding(connection, named, "gold.x")
    finally:
        latin.drop()
