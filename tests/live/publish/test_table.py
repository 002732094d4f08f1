"""A table in a real PostgreSQL becomes equal to its stage, whatever is NULL in its keys. No JVM."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers.postgres import Server

from lakehouse.errors import ConfigError, DataRefused
from lakehouse.publish import catalog, statements, table
from lakehouse.publish.connection import Connection, connect
from lakehouse.publish.statements import TargetTable
from lakehouse.publish.types import Column

Rows = dict[tuple[Any, ...], tuple[Any, ...]]  # values by key

COLUMNS = (Column("a", "text"), Column("B b", "integer"), Column("v", "numeric(6,2)"), Column("w", "double precision"))
KEYS = ("a", "B b")
PARTS = st.tuples(st.sampled_from(["x", "y", "", None]), st.sampled_from([1, 2, None]))
VALUES = st.tuples(st.sampled_from(["1.10", "2.00", None]), st.sampled_from(["NaN", "-0.0", "0.0", "1.5", None]))
TABLES = st.dictionaries(PARTS, VALUES, max_size=12)


@pytest.fixture(scope="module")
def server(postgres_server: Server) -> Iterator[Server]:
    own = postgres_server.new_database("publish_table")
    yield own
    own.drop()


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[Connection]:
    with connect(server.url) as opened:
        yield opened


@pytest.fixture
def target(connection: Connection, request: pytest.FixtureRequest) -> TargetTable:
    postgres_table = catalog.resolve_table(connection, request.node.name.partition("[")[0][:40])
    connection.execute(f'DROP TABLE IF EXISTS "{postgres_table.name}"')  # type: ignore[call-overload]
    return TargetTable(postgres_table, COLUMNS, KEYS, "a test's")


def line(key: Iterable[Any], values: Iterable[Any], flag: str = "f") -> str:
    return "\t".join([flag, *("\\N" if v is None else str(v) for v in (*key, *values))]) + "\n"


def apply_all(connection: Connection, target: TargetTable, rows: Rows) -> dict[str, int]:
    with connection.transaction():
        assert table.load_stage(connection, target, (line(*row) for row in rows.items())) == len(rows)
        return table.apply_stage(connection, target, is_complete=True)


def apply_changes(
    connection: Connection, target: TargetTable, now: Rows, deleted: Iterable[tuple[Any, ...]]
) -> dict[str, int]:
    lines = [*(line(*row) for row in now.items()), *(line(key, (None, None), "t") for key in deleted)]
    with connection.transaction():
        table.load_stage(connection, target, lines)
        return table.apply_stage(connection, target, is_complete=False)


def content(connection: Connection, target: TargetTable) -> Rows:
    rows = connection.execute(statements.sql.SQL("SELECT * FROM {}").format(target.identifier)).fetchall()
    found = {(a, b): (v, "NaN" if w is not None and math.isnan(w) else w) for a, b, v, w in rows}
    assert len(found) == len(rows)
    return found


def stored(rows: Rows) -> Rows:
    """The rows as PostgreSQL returns them; -0.0 equals 0.0 in it, too."""
    return {
        key: (None if v is None else Decimal(v), None if w is None else "NaN" if w == "NaN" else float(w))
        for key, (v, w) in rows.items()
    }


def differences(before: Rows, after: Rows) -> dict[str, int]:
    old, new = stored(before), stored(after)
    updated = sum(new[key] != old[key] for key in new.keys() & old.keys())
    return {"inserted": len(new.keys() - old.keys()), "updated": updated, "deleted": len(old.keys() - new.keys())}


@given(before=TABLES, after=TABLES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_table_equals_its_stage_and_only_differences_are_counted(
    connection: Connection, target: TargetTable, before: Rows, after: Rows
) -> None:
    with connection.transaction(force_rollback=True):
        assert apply_all(connection, target, before) == {"inserted": len(before), "updated": 0, "deleted": 0}
        assert content(connection, target) == stored(before)
        with connection.transaction(force_rollback=True):
            connection.execute("DROP TABLE _lakehouse_stage")
            assert apply_all(connection, target, after) == differences(before, after)
            assert content(connection, target) == stored(after)
        connection.execute("DROP TABLE _lakehouse_stage")
        assert apply_changes(connection, target, after, before.keys() - after.keys()) == differences(before, after)
        assert content(connection, target) == stored(after)
        connection.execute("DROP TABLE _lakehouse_stage")
        assert apply_changes(connection, target, after, before.keys() - after.keys()) == differences(after, after)


def test_a_primary_key_becomes_a_unique_constraint_when_a_key_has_a_null(
    connection: Connection, target: TargetTable
) -> None:
    rows: Rows = {("x", 1): ("1.00", None), ("x", 2): ("2.00", None)}
    apply_all(connection, target, rows)
    assert catalog.read_key_constraint(connection, target.table, target.key_constraint) == ("p", KEYS)

    apply_changes(connection, target, {("x", None): ("3.00", None)}, [])

    assert catalog.read_key_constraint(connection, target.table, target.key_constraint) == ("u", KEYS)
    assert content(connection, target) == stored(rows | {("x", None): ("3.00", None)})
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(statements.sql.SQL("INSERT INTO {} VALUES ('x', NULL)").format(target.identifier))


def test_a_server_that_cannot_compare_nulls_is_reported(
    connection: Connection, target: TargetTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "NULLS_NOT_DISTINCT_VERSION", connection.info.server_version + 1)
    apply_all(connection, target, {("x", 1): ("1.00", None)})
    with pytest.raises(ConfigError, match="treats every NULL as a different value"):
        apply_changes(connection, target, {("x", None): ("3.00", None)}, [])
    assert content(connection, target) == stored({("x", 1): ("1.00", None)})


def test_a_table_with_another_key_is_refilled_in_one_transaction(connection: Connection, target: TargetTable) -> None:
    apply_all(connection, target, {("x", 1): ("1.00", None), ("x", 2): ("1.00", None)})
    other = replace(target, keys=("a", "v"))
    assert table.has_different_key(connection, other)
    with connection.transaction():
        table.load_stage(connection, other, [line(("x", 2), ("1.00", None))])
        assert table.apply_stage(connection, other, is_complete=True) == {"inserted": 1, "updated": 0, "deleted": 2}
    assert catalog.read_key_constraint(connection, other.table, other.key_constraint) == ("p", ("a", "v"))
    assert content(connection, target) == stored({("x", 2): ("1.00", None)})


def test_a_new_column_is_added_and_another_type_is_rejected_with_the_statements(
    connection: Connection, target: TargetTable
) -> None:
    apply_all(connection, target, {("x", 1): ("1.00", "2.5")})
    wider = replace(target, columns=(*COLUMNS, Column("n", "timestamp with time zone", "new")))
    table.check_columns(connection, wider, "gold.x")
    with connection.transaction():
        table.load_stage(connection, wider, [line(("x", 1), ("1.00", "2.5", "2025-01-01 00:00:00+00"))])
        assert table.apply_stage(connection, wider, is_complete=False)["updated"] == 1
    assert list(catalog.read_column_types(connection, wider.table)) == ["a", "B b", "v", "w", "n"]

    other = replace(target, columns=(COLUMNS[0], Column("B b", "bigint"), COLUMNS[2]))
    with pytest.raises(ConfigError) as error:
        table.check_columns(connection, other, "gold.x")
    assert error.value.found == "the columns of gold.x changed: B b: integer is now bigint; w is gone; n is gone"
    typed = [row for row in error.value.next_step.splitlines() if row.startswith("ALTER")]
    for statement in typed:
        connection.execute(statement.encode())
    table.check_columns(connection, other, "gold.x")
    assert content_of_three(connection, target) == [("x", 1, Decimal("1.00"))]


def test_a_renamed_column_is_renamed_and_keeps_its_values(connection: Connection, target: TargetTable) -> None:
    apply_all(connection, target, {("x", 1): ("1.00", "2.5")})
    renamed = replace(
        target,
        columns=(Column("A", "text"), COLUMNS[1], Column("value", "numeric(6,2)"), Column("w", "text")),
        keys=("A", "B b"),
    )
    with pytest.raises(ConfigError) as error:
        table.check_columns(connection, renamed, "gold.x")
    typed = [row for row in error.value.next_step.splitlines() if row.startswith("ALTER")]
    assert [row.partition(f'"{target.table.name}" ')[2] for row in typed] == [
        'RENAME COLUMN "a" TO "A";',
        'RENAME COLUMN "v" TO "value";',
        'ALTER COLUMN "w" TYPE text USING "w"::text;',
    ]
    for statement in typed:
        connection.execute(statement.encode())
    table.check_columns(connection, renamed, "gold.x")
    assert not table.has_different_key(connection, renamed)  # PostgreSQL renames it in the constraint as well
    assert content_of_three(connection, target) == [("x", 1, Decimal("1.00"), "2.5")]


def content_of_three(connection: Connection, target: TargetTable) -> list[Any]:
    return connection.execute(statements.sql.SQL("SELECT * FROM {}").format(target.identifier)).fetchall()


def test_the_table_has_comments(connection: Connection, target: TargetTable) -> None:
    apply_all(connection, replace(target, columns=(*COLUMNS[:3], Column("w", "real", "gold.x.w's \u20ac; --"))), {})
    query = "SELECT obj_description(oid), col_description(oid, 4) FROM pg_class WHERE relname = %s"
    (found,) = connection.execute(query, [target.table.name]).fetchall()
    assert found == ("a test's", "gold.x.w's \u20ac; --")


@pytest.mark.parametrize("last", [3, None])
def test_the_log_has_each_change_once_and_of_a_delete_the_key_only_unless_it_has_nulls(
    connection: Connection, target: TargetTable, last: int | None
) -> None:
    before: Rows = {("x", 1): ("1.00", None), ("x", 2): ("2.00", None), ("y", last): ("3.00", None)}
    apply_all(connection, target, before)
    assert catalog.has_full_replica_identity(connection, target.table) == (last is None)
    with publication(connection, target) as changes:
        after: Rows = {("x", 1): ("1.00", None), ("x", 2): ("2.50", None), ("z", last): ("4.00", None)}
        apply_changes(connection, target, after, [("y", last)])
        apply_all(connection, target, after)
        by_kind = changes()
    assert {kind: len(found) for kind, found in by_kind.items()} == {b"I": 1, b"U": 1, b"D": 1, b"T": 0}
    assert (b"3.00" in by_kind[b"D"][0]) == (last is None)


def test_a_key_can_change_while_the_table_is_followed_and_a_chosen_identity_stays(
    connection: Connection, target: TargetTable
) -> None:
    rows: Rows = {("x", 1): ("1.00", None)}
    apply_all(connection, target, rows)
    other = replace(target, keys=("a", "v"))
    with publication(connection, target) as changes:
        apply_all(connection, other, rows)
        assert not catalog.has_full_replica_identity(connection, target.table)
        connection.execute(statements.set_replica_identity(target, is_full=True))
        apply_all(connection, target, rows)
        by_kind = changes()
    assert catalog.has_full_replica_identity(connection, target.table)
    assert {kind: len(found) for kind, found in by_kind.items()} == {b"I": 2, b"U": 0, b"D": 2, b"T": 0}


@contextmanager
def publication(connection: Connection, target: TargetTable) -> Iterator[Callable[[], dict[bytes, list[bytes]]]]:
    """Provide a function that returns what a follower of the log has received: messages by kind."""
    connection.execute(statements.sql.SQL("CREATE PUBLICATION p FOR TABLE {}").format(target.identifier))
    connection.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")

    def changes() -> dict[bytes, list[bytes]]:
        query = "SELECT data FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, 'proto_version', '1', %s, 'p')"
        messages = [data for (data,) in connection.execute(query, ["publication_names"])]
        return {kind: [m for m in messages if m[:1] == kind] for kind in (b"I", b"U", b"D", b"T")}

    try:
        yield changes
    finally:
        connection.execute("SELECT pg_drop_replication_slot('s')")
        connection.execute("DROP PUBLICATION p")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("CREATE ON SCHEMA public", "permission denied for schema public"),
        ("USAGE ON SCHEMA public", "no schema of the user's search_path exists or may be used"),
        ("TEMPORARY ON DATABASE publish_table", "permission denied to create temporary tables in database"),
        ("CONNECT ON DATABASE publish_table", "permission denied for database"),
    ],
)
def test_missing_privileges_are_reported(server: Server, connection: Connection, missing: str, message: str) -> None:
    rights = ["CREATE, USAGE ON SCHEMA public", f"CONNECT, TEMPORARY ON DATABASE {server.database}"]
    url = f"postgresql://nobody_much:canary@127.0.0.1:{server.port}/{server.database}"

    def publish_one() -> None:
        with connect(url) as own:
            target = TargetTable(catalog.resolve_table(own, "of_nobody"), COLUMNS, KEYS)
            catalog.create_position_table(own, target.table)
            apply_all(own, target, {("x", 1): ("1.00", None)})

    with connection.transaction():
        connection.execute("CREATE ROLE nobody_much LOGIN PASSWORD 'canary'")
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        connection.execute(f"REVOKE ALL ON DATABASE {server.database} FROM PUBLIC".encode())
        for right in rights:
            connection.execute(f"GRANT {right} TO nobody_much".encode())
    try:
        connection.execute("DROP TABLE IF EXISTS lakehouse_publish")
        connection.execute(f"REVOKE {missing} FROM nobody_much".encode())
        with pytest.raises(ConfigError, match=message) as error:
            publish_one()
        assert "canary" not in error.value.to_text()
        connection.execute(f"GRANT {missing} TO nobody_much".encode())
        publish_one()  # these rights are enough
    finally:
        connection.execute("DROP OWNED BY nobody_much")
        connection.execute("DROP ROLE nobody_much")
        connection.execute("GRANT ALL ON SCHEMA public TO PUBLIC")


def test_an_unsupported_value_is_rejected_with_its_column(server: Server, target: TargetTable) -> None:
    with pytest.raises(DataRefused) as error, connect(server.url) as own, own.transaction():
        table.load_stage(own, target, [line(("x", 1), ("1.00", None)), line(("x", 2), ("12345.00", None))])
    assert error.value.where == "the column v"


def test_two_rows_with_one_key_are_rejected(connection: Connection, target: TargetTable) -> None:
    rejection = pytest.raises(DataRefused, match=r"gold.x has more than one row for a key, such as \('x', None\)")
    with rejection, connection.transaction():
        table.load_stage(connection, target, [line(("x", None), (v, None)) for v in ("1.00", "2.00")])
        table.check_unique_keys(connection, target, "gold.x")


def test_tables_that_a_pipeline_published_before_are_named(server: Server, connection: Connection) -> None:
    position = catalog.PublishPosition("shop", "gold.x", "id", 1, "c")
    tables = {name: catalog.resolve_table(connection, name) for name in ("f_now", "F former", "f_dropped", "f_other")}
    catalog.create_position_table(connection, tables["f_now"])
    for name, one in tables.items():
        connection.execute(f'CREATE TABLE "{name}" (id int)')  # type: ignore[call-overload]
        pipeline = "another" if name == "f_other" else "shop"
        catalog.write_position(connection, one, replace(position, pipeline=pipeline))
    connection.execute("DROP TABLE f_dropped")

    assert catalog.read_former_tables(server.url, "shop", ["public.f_now"]) == ["public.F former"]
    assert catalog.read_former_tables(server.url, "none", []) == []
