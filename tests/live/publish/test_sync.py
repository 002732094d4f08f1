"""Tables of the lake are published to a real PostgreSQL: exactly, each in one transaction, and never in part."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from helpers import Project, Result, sort_rows
from psycopg.rows import dict_row
from pyspark.sql import SparkSession
from servers.postgres import PASSWORD, Server

from lakehouse.errors import ConfigError, DataRefused, InfrastructureError, LakeBusy, LakehouseError
from lakehouse.failpoints import Interruption, handled_by, parse
from lakehouse.lake import delta
from lakehouse.publish import catalog as databases
from lakehouse.publish import copy_rows, sync
from lakehouse.publish.connection import connect
from lakehouse.publish.sync import Publication, PublishResult
from lakehouse.retention import RetentionLimit, vacuum_table
from lakehouse.runner import publishing
from lakehouse.runner.context import Run, open_run
from lakehouse.spark.session import isolated_session
from lakehouse.storage.paths import Lake
from lakehouse.verify.check import Check
from lakehouse.verify.published import check_published

REPOSITORY = Path(__file__).parents[3]
CRASH_POINTS = REPOSITORY / "tests/lake/crash_points.py"
UTC = timezone.utc
FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"

# A single table of the lake


@dataclass
class Cube:
    """A Delta table, and the PostgreSQL table that it is published to."""

    spark: SparkSession
    lake: Lake
    server: Server
    name: str
    keys: tuple[str, ...] = ("city", "kind")

    @property
    def publication(self) -> Publication:
        return Publication("shop", f"gold.{self.name}", self.server.url, self.name, self.keys)

    @property
    def path(self) -> str:
        return self.lake.table(f"gold.{self.name}")

    def make(self, rows: str, columns: str = "city STRING, kind STRING, qty INT, price DECIMAL(12,2)") -> None:
        table = delta.sql_name(self.path)
        self.spark.sql(
            f"CREATE TABLE {table} ({columns}) USING delta TBLPROPERTIES (delta.enableChangeDataFeed = true)"
        )
        self.write(f"INSERT INTO {table} VALUES {rows}")

    def write(self, statement: str) -> None:
        self.spark.sql(statement.replace("THIS", delta.sql_name(self.path)))

    def publish(self, full_refresh: bool = False) -> PublishResult:
        return sync.publish(self.publication, self.lake, lambda: isolated_session(self.spark, 0), full_refresh)

    def rows(self) -> list[tuple[Any, ...]]:
        return self.server.execute(f'SELECT * FROM "{self.name}" ORDER BY 1 NULLS FIRST, 2 NULLS FIRST')

    def position(self) -> tuple[Any, ...]:
        query = "SELECT lake_table_id, version FROM lakehouse_publish WHERE table_name = 'public.{}'"
        return next(iter(self.server.execute(query.format(self.name))), ())

    def failing(self, kind: type[LakehouseError]) -> LakehouseError:
        """The error of an attempt, which must leave the table and its position unchanged and contain no password."""
        before = self.server.execute("SELECT to_regclass('lakehouse_publish')::text")[0][0] and self.position()
        with pytest.raises(kind) as error:
            self.publish()
        assert PASSWORD not in error.value.to_text() + repr(error.value) + repr(error.value.__dict__) + repr(
            self.publication
        )
        assert not before or self.position() == before
        return error.value


@pytest.fixture(scope="module")
def server(postgres_server: Server) -> Iterator[Server]:
    own = postgres_server.new_database("publish")
    yield own
    own.drop()


@pytest.fixture
def cube(spark: SparkSession, server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Cube:
    name = request.node.name.removeprefix("test_")[:40]
    return Cube(isolated_session(spark, 0), Lake(str(tmp_path / "lake")), server, name)


ROWS = "('Recife', 'a', 1, 1.10), ('Recife', 'b', 2, 2.20), ('Natal', NULL, 3, 3.30), (NULL, NULL, 6, 6.60)"
PUBLISHED = [
    (None, None, 6, Decimal("6.60")),
    ("Natal", None, 3, Decimal("3.30")),
    ("Recife", "a", 1, Decimal("1.10")),
    ("Recife", "b", 2, Decimal("2.20")),
]


def test_only_rows_that_differ_are_written_and_nulls_in_keys_are_values(cube: Cube) -> None:
    cube.make(ROWS)
    first = cube.publish()
    assert (first.status, first.reason, first.counts) == (
        "compared",
        "first publish",
        {"inserted": 4, "updated": 0, "deleted": 0},
    )
    assert cube.rows() == PUBLISHED
    written = dict(cube.server.execute(f'SELECT qty, xmin::text FROM "{cube.name}"'))

    cube.write("INSERT INTO THIS VALUES ('Natal', 'x', 9, NULL), ('Olinda', 'x', 1, 1), ('Recife', NULL, 5, 5)")
    # One row is written with equal values, one changes twice, and one gets another key.
    cube.write("UPDATE THIS SET qty = CASE kind WHEN 'a' THEN 1 ELSE 7 END WHERE city IS NULL OR kind = 'a'")
    cube.write(
        "UPDATE THIS SET qty = CASE kind WHEN 'b' THEN 2 ELSE 8 END, kind = CASE kind WHEN 'b' THEN 'c' END"
        " WHERE city IS NULL OR kind = 'b'"
    )
    cube.write(
        "DELETE FROM THIS WHERE city = 'Natal' AND kind IS NULL OR city = 'Olinda'"
    )  # the latter was inserted since
    done = cube.publish()

    assert (done.status, done.counts) == ("published", {"inserted": 3, "updated": 1, "deleted": 2})
    assert cube.rows() == [
        (None, None, 8, Decimal("6.60")),
        ("Natal", "x", 9, None),
        ("Recife", None, 5, Decimal("5.00")),
        ("Recife", "a", 1, Decimal("1.10")),
        ("Recife", "c", 2, Decimal("2.20")),
    ]
    assert dict(cube.server.execute(f'SELECT qty, xmin::text FROM "{cube.name}"'))[1] == written[1]
    assert cube.position()[1] == 5
    assert cube.publish() == PublishResult("current")


def test_a_key_that_is_spelled_otherwise_than_its_column_deletes_too(cube: Cube) -> None:
    cube = replace(cube, keys=("City", "KIND"))
    cube.make("('Recife', 'a', 1, 1.10), ('Recife', 'b', 2, 2.20)")
    cube.publish()
    cube.write("DELETE FROM THIS WHERE kind = 'a'")

    assert cube.publish().counts == {"inserted": 0, "updated": 0, "deleted": 1}
    assert cube.rows() == [("Recife", "b", 2, Decimal("2.20"))]


ALL_TYPES = """
    id STRING, t TINYINT, s SMALLINT, i INT, l BIGINT, f FLOAT, d DOUBLE, n DECIMAL(38,18), y BOOLEAN, b BINARY,
    day DATE COMMENT 'o dia', at TIMESTAMP, local TIMESTAMP_NTZ, `Preço` STRING
"""
NASTY = "a\tb\nc\r\\d \\N \\. 'q' \"q\" é🙂, %s"


def test_every_value_is_exact_in_a_first_load_and_in_changes(cube: Cube) -> None:
    cube = replace(cube, keys=("id",))
    values = """
        127, -32768, 2147483647, -9223372036854775808, CAST('1.1' AS FLOAT), 0.1D,
        12345678901234567890.123456789012345678,
        true, X'00FF5C', DATE'0001-01-01', TIMESTAMP'2024-02-29 23:59:59.123456Z', TIMESTAMP_NTZ'1969-12-31 23:00:00',
    """
    nasty = ", ".join(f"unhex('{text.encode().hex()}')" for text in (NASTY, NASTY + "2"))
    first, second = (f"CAST({text} AS STRING)" for text in nasty.split(", "))
    nothing = (
        "NULL, NULL, NULL, NULL, CAST('NaN' AS FLOAT), CAST('-Infinity' AS DOUBLE), 0, NULL, X'', NULL, NULL, NULL"
    )
    cube.make(f"({first}, {values} ''), ('', {nothing}, NULL)", ALL_TYPES)
    assert cube.publish().counts["inserted"] == 2
    cube.write(f"INSERT INTO THIS VALUES ({second}, {values} {first})")
    assert cube.publish().status == "published"

    row = (
        *(127, -32768, 2147483647, -9223372036854775808, 1.1, 0.1, Decimal("12345678901234567890.123456789012345678")),
        *(True, b"\x00\xff\\", date(1, 1, 1), datetime(2024, 2, 29, 23, 59, 59, 123456, UTC)),
        datetime(1969, 12, 31, 23),
    )
    found = {row[0]: row[1:] for row in cube.rows()}
    assert found[NASTY] == (*row, "")
    assert found[NASTY + "2"] == (*row, NASTY)
    assert str(found[""][4:6]) == "(nan, -inf)"
    assert found[""][:4] + found[""][6:] == (*[None] * 4, Decimal(0), None, b"", *[None] * 4)
    with connect(cube.server.url) as connection:
        table = databases.resolve_table(connection, cube.name)
        assert list(databases.read_column_types(connection, table).items()) == [
            *(("id", "text"), ("t", "smallint"), ("s", "smallint"), ("i", "integer"), ("l", "bigint"), ("f", "real")),
            *(("d", "double precision"), ("n", "numeric(38,18)"), ("y", "boolean"), ("b", "bytea"), ("day", "date")),
            *(("at", "timestamp with time zone"), ("local", "timestamp without time zone"), ("Preço", "text")),
        ]
        assert databases.read_key_constraint(connection, table, f"lakehouse_key_{'x'}") is None
        (comments,) = connection.execute(
            "SELECT array_agg(col_description(%s::regclass, n)) FROM unnest(ARRAY[1, 8, 11]) AS n", [str(table)]
        ).fetchall()
    source = f"gold.{cube.name}"
    assert comments[0] == [f"{source}.id, STRING, key", f"{source}.n, DECIMAL(38,18)", "o dia"]


NESTED = """
    id STRING, numbers ARRAY<DECIMAL(38,18)>, days MAP<DATE, TIMESTAMP>, names MAP<STRING, STRING>,
    one STRUCT<`a-b`: DOUBLE, at: TIMESTAMP, local: TIMESTAMP_NTZ, bytes: BINARY,
        many: ARRAY<STRUCT<n: BIGINT, f: FLOAT>>>
"""


def test_nested_values_are_exact_jsonb_and_verify_reads_them(cube: Cube) -> None:
    cube = replace(cube, keys=("id",))
    one = """
        named_struct('a-b', 0.1D, 'at', TIMESTAMP'2024-02-29 23:59:59.123456Z',
            'local', TIMESTAMP_NTZ'0001-01-01 01:00:00', 'bytes', X'00FF',
            'many', array(named_struct('n', 9223372036854775807, 'f', CAST('NaN' AS FLOAT)), NULL))
    """
    days = "map(DATE'2024-02-29', TIMESTAMP'2024-01-01 00:00:00Z', DATE'9999-12-31', NULL)"
    names = f"map('k', CAST(unhex('{NASTY.encode().hex()}') AS STRING), '', NULL)"
    numbers = "array(12345678901234567890.123456789012345678BD, -0.000000000000000001BD, NULL)"
    empty = "named_struct('a-b', 1E300D, 'at', NULL, 'local', NULL, 'bytes', NULL, 'many', array())"
    cube.make(
        f"('a', {numbers}, {days}, {names}, {one}), ('b', array(), map(), map(), {empty}),"
        " ('c', NULL, NULL, NULL, NULL)",
        NESTED,
    )
    assert cube.publish().counts["inserted"] == 3
    cube.write("UPDATE THIS SET numbers = array(1.10BD) WHERE id = 'c'")
    assert cube.publish().counts == {"inserted": 0, "updated": 1, "deleted": 0}

    found = cube.server.execute(
        f'SELECT id, numbers::text, days::text, names, one::text FROM "{cube.name}" ORDER BY id'
    )
    assert found[0][1] == "[12345678901234567890.123456789012345678, -0.000000000000000001, null]"
    assert json.loads(found[0][2]) == {"2024-02-29": "2024-01-01T00:00:00Z", "9999-12-31": None}
    assert found[0][3] == {"k": NASTY, "": None}
    assert json.loads(found[0][4]) == {
        **{"a-b": 0.1, "at": "2024-02-29T23:59:59.123456Z", "local": "0001-01-01T01:00:00", "bytes": "AP8="},
        "many": [{"n": 9223372036854775807, "f": "NaN"}, None],
    }
    assert found[1][1:4] == ("[]", "{}", {})
    assert found[2] == ("c", "[1.100000000000000000]", None, None, None)

    def published() -> Check:
        # Spark cannot compare a MAP, and no table of a pipeline has one: `verify` never meets it.
        run = SimpleNamespace(lake=cube.lake)
        postgres = SimpleNamespace(url=cube.server.url, tables={f"gold.{cube.name}": cube.name})
        return check_published(cube.spark, run, postgres, f"gold.{cube.name}")  # type: ignore[arg-type]

    cube.write("ALTER TABLE THIS SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name')")
    cube.write("ALTER TABLE THIS DROP COLUMNS (days, names)")
    cube.server.execute(f'ALTER TABLE "{cube.name}" DROP COLUMN days, DROP COLUMN names')
    cube.publish(full_refresh=True)
    assert published().result == "holds", published()
    cube.server.execute(
        f"""UPDATE "{cube.name}" SET one = jsonb_set(one, '{{at}}', '"2024-02-29T23:59:59.123457Z"') WHERE id = 'a'"""
    )
    assert published().result == "failed"
    cube.server.execute(f"""UPDATE "{cube.name}" SET numbers = '{{"not": "a list"}}' WHERE id = 'a'""")
    assert "not of the lake's type" in published().figures


def test_without_a_usable_change_feed_all_rows_are_compared_and_only_differences_are_written(
    cube: Cube, tmp_path: Path
) -> None:
    folder = Path(cube.path)
    cube.make(ROWS)
    cube.publish()
    cube.write("UPDATE THIS SET qty = 10 WHERE kind = 'a'")

    # The files of the change feed are removed.
    shutil.rmtree(folder / "_change_data")
    lost = cube.publish()
    assert (lost.status, lost.counts) == ("compared", {"inserted": 0, "updated": 1, "deleted": 0})
    assert "can no longer be read" in lost.reason

    # The lake is restored from a backup, and changes in another way from there.
    shutil.copytree(folder, tmp_path / "backup")
    cube.write("UPDATE THIS SET qty = 11 WHERE kind = 'a'")
    cube.publish()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    cube.write("DELETE FROM THIS WHERE kind = 'b'")
    assert cube.position()[1] == 3  # also the current version of the table
    diverged = cube.publish()
    assert (diverged.status, diverged.counts) == ("compared", {"inserted": 0, "updated": 1, "deleted": 1})

    # Restored to an older version.
    cube.write("RESTORE TABLE THIS TO VERSION AS OF 1")
    restored = cube.publish()
    assert (restored.reason, restored.counts) == (
        f"gold.{cube.name} was restored",
        {"inserted": 1, "updated": 1, "deleted": 0},
    )
    assert cube.rows() == PUBLISHED

    # Rebuilt, with fewer rows and as many versions.
    shutil.rmtree(folder)
    cube.make("('Recife', 'a', 1, 1.10), ('Natal', NULL, 4, 3.30)")
    rebuilt = cube.publish()
    assert (rebuilt.reason, rebuilt.counts) == (
        f"gold.{cube.name} was replaced",
        {"inserted": 0, "updated": 1, "deleted": 2},
    )

    # Changed by hand in PostgreSQL, which the position does not show: a full refresh compares the rows.
    cube.server.execute(f'UPDATE "{cube.name}" SET qty = 99', f"DELETE FROM \"{cube.name}\" WHERE city = 'Natal'")
    assert cube.publish() == PublishResult("current")
    by_hand = cube.publish(full_refresh=True)
    assert (by_hand.reason, by_hand.counts) == ("full refresh requested", {"inserted": 1, "updated": 1, "deleted": 0})

    # Dropped in PostgreSQL, and then compacted in the lake.
    cube.server.execute(f'DROP TABLE "{cube.name}"')
    cube.write("OPTIMIZE THIS")
    assert cube.publish().counts == {"inserted": 2, "updated": 0, "deleted": 0}
    assert cube.rows() == [("Natal", None, 4, Decimal("3.30")), ("Recife", "a", 1, Decimal("1.10"))]


@pytest.mark.parametrize("interval", [4, 1])  # with a checkpoint of each version, the feed skips a commit in silence
def test_a_gap_in_the_log_leads_to_a_full_comparison(cube: Cube, interval: int) -> None:
    cube.make(ROWS)
    cube.publish()
    cube.write(f"ALTER TABLE THIS SET TBLPROPERTIES ('delta.checkpointInterval' = '{interval}')")
    cube.write("UPDATE THIS SET qty = 10 WHERE kind = 'a'")
    cube.write("UPDATE THIS SET qty = 20 WHERE kind = 'b'")
    log = Path(cube.path, "_delta_log")
    assert list(log.glob(f"{4:020d}.checkpoint*"))  # the table itself stays readable
    (log / f"{3:020d}.json").unlink()

    done = cube.publish()

    assert (done.status, done.counts) == ("compared", {"inserted": 0, "updated": 2, "deleted": 0})
    assert "the change feed" in done.reason and "can no longer be read" in done.reason


def test_commits_that_change_no_row_open_no_transaction_and_a_new_column_is_added(
    cube: Cube, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube.make(ROWS)
    cube.publish()
    cube.write("OPTIMIZE THIS")
    with monkeypatch.context() as patch:
        patch.setattr(databases, "publish_transaction", None)
        assert cube.publish() == PublishResult("current")

    cube.write("ALTER TABLE THIS ADD COLUMNS (note STRING)")
    cube.write("UPDATE THIS SET note = 'new' WHERE city IS NULL")
    assert cube.publish().counts == {"inserted": 0, "updated": 1, "deleted": 0}
    assert [row[-1] for row in cube.rows()] == ["new", None, None, None]


def test_what_cannot_be_published_is_rejected_and_nothing_is_changed(cube: Cube) -> None:
    cube.make(ROWS)
    table = f'"{cube.name}"'
    cube.server.execute(f"CREATE TABLE {table} (mine text)", f"INSERT INTO {table} VALUES ('mine')")
    assert "was not made by publishing" in cube.failing(ConfigError).found
    assert cube.server.execute(f"SELECT * FROM {table}") == [("mine",)]
    cube.server.execute(f"DROP TABLE {table}")
    cube.publish()

    cube.server.execute(f"UPDATE lakehouse_publish SET pipeline = 'other' WHERE source = 'gold.{cube.name}'")
    assert f"follows gold.{cube.name} of the pipeline other" in cube.failing(ConfigError).found
    cube.server.execute(f"UPDATE lakehouse_publish SET pipeline = 'shop' WHERE source = 'gold.{cube.name}'")

    cube.write("INSERT INTO THIS VALUES ('Recife', concat('a', chr(0)), 1, 1)")
    assert cube.failing(DataRefused).exit_code == 5
    cube.write("DELETE FROM THIS WHERE kind = concat('a', chr(0))")
    assert cube.publish().counts == {"inserted": 0, "updated": 0, "deleted": 0}

    cube.write("INSERT INTO THIS VALUES ('Recife', 'a', 2, 2)")
    with pytest.raises(DataRefused, match=r"more than one row for a key, such as \('Recife', 'a'\)"):
        cube.publish(full_refresh=True)
    assert cube.rows() == PUBLISHED

    cube.write("ALTER TABLE THIS ADD COLUMNS (tags ARRAY<VARIANT>)")
    assert "tags is ARRAY<VARIANT>" in cube.failing(ConfigError).found
    assert cube.rows() == PUBLISHED


def test_no_server_failure_leaves_a_partial_result(cube: Cube, monkeypatch: pytest.MonkeyPatch) -> None:
    cube.make(ROWS)
    cube.publish()
    cube.write("UPDATE THIS SET qty = 10")
    inner = copy_rows.read_blocks

    def cut_connection(text: Any) -> Iterator[str]:
        yield from inner(text)
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lakehouse publish'"
        cube.server.execute(query)

    with monkeypatch.context() as patch:
        patch.setattr(copy_rows, "read_blocks", cut_connection)
        assert cube.failing(InfrastructureError).exit_code == 3
    assert cube.rows() == PUBLISHED

    urls = {
        ConfigError: cube.server.url.replace(PASSWORD, PASSWORD + "x"),
        InfrastructureError: cube.server.url.replace(f":{cube.server.port}/", ":1/"),
    }
    for kind, url in urls.items():
        with pytest.raises(kind) as error:
            sync.publish(replace(cube.publication, url=url), cube.lake, lambda: cube.spark)
        assert PASSWORD not in error.value.to_text()

    with psycopg.connect(cube.server.url) as other, other.transaction():
        table, pid = databases.resolve_table(other, cube.name), other.info.backend_pid
        databases._lock_name(other, str(table))
        monkeypatch.setattr(databases, "_TRANSACTION_SETTINGS", ())
        monkeypatch.setattr(databases, "_SET_LOCK_TIMEOUT", "SET LOCAL lock_timeout = '200ms'")
        busy = cube.failing(LakeBusy)
    assert busy.found.startswith(f"process {pid} of the server (for tests, from ")
    assert cube.publish().counts["updated"] == 4


# A pipeline

ITEMS = {
    "file": "items.csv",
    "format": "csv",
    "schema": "id STRING, city STRING, day DATE, price DECIMAL(12,2), seen TIMESTAMP",
    "keys": ["id"],
    "guard": {"max_deleted": 1},
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "silver.items": ("SELECT i.id AS id, i.city AS city, i.day AS day, i.price AS price FROM bronze.items AS i",
                     {"keys": ["id"]}),
    "gold.cities": ("SELECT i.city AS city, i.day AS day, GROUPING_ID() AS level, SUM(i.price) AS price"
                    " FROM silver.items AS i GROUP BY ROLLUP(i.city, i.day)", {}),
    "gold.days": ("SELECT i.day AS day, SUM(i.price) AS price FROM silver.items AS i GROUP BY i.day", {}),
}  # fmt: skip
TABLES = {"bronze.items": "raw.items", "silver.items": "items_silver", "gold.cities": "cities", "gold.days": "Days"}
SNAPSHOTS = {
    FIRST: "a,Recife,2025-01-01,1.10,2025-01-01T10:00:00Z\nb,Natal,2025-01-01,2.20,\nc,,2025-01-02,4.40,\n",
    SECOND: "a,Recife,2025-01-01,1.15,2025-01-01T10:00:00Z\nb,Natal,2025-01-01,2.20,\nd,Natal,2025-01-03,8,\n",
    THIRD: "b,Natal,2025-01-01,2.20,\nd,Natal,2025-01-03,9,\n",
}


class Shop(Project):
    """The pipeline, and the database that it is published to by a role with the fewest privileges."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.server = server
        url = server.url.replace("://tests:", "://lakehouse_publisher:")
        publish = {"postgres": {"url": url, "tables": TABLES}}
        super().__init__(folder, {"items": dict(ITEMS)}, MODELS, publish=publish)
        self.results: dict[str, Result] = {}

    def run_snapshot(self, stamp: str) -> None:
        self.snapshot(stamp, items="id,city,day,price,seen\n" + SNAPSHOTS[stamp])
        self.results[stamp] = self.run()
        assert self.results[stamp].code == 0, self.results[stamp].document

    def table(self, source: str) -> list[dict[str, Any]]:
        """The rows of a published table, as Polars reads those of the lake."""
        name = TABLES[source].replace("Days", '"Days"')
        with psycopg.connect(self.server.url, row_factory=dict_row) as connection:
            return sort_rows(connection.execute(f"SELECT * FROM {name}").fetchall())

    def published(self) -> dict[str, dict[str, Any]]:
        return {row["source"]: row for row in self("status").document["published"]}

    def newest(self) -> dict[str, int]:
        return {source: self.versions()[source.replace(".", "/")] for source in TABLES}

    def version(self, source: str) -> int:
        ((version,),) = self.server.execute(f"SELECT version FROM lakehouse_publish WHERE source = '{source}'")
        return int(version)

    def kept_by_expire(self) -> str:
        """Why no version of gold.days may be removed; empty if old ones may."""
        run = open_run(self.pipeline)
        pending = publishing.pending_readers(run.spark, run, "gold.days")
        limit = RetentionLimit(datetime.now(timezone.utc), timedelta(days=7), dry_run=True)
        return vacuum_table(run.spark, run.lake.table("gold.days"), pending, limit).reason

    def i6(self) -> dict[str, str]:
        """The one check of `verify` that is about PostgreSQL, by table."""
        run = open_run(self.pipeline)
        postgres, spark = publishing.postgres_config(run), isolated_session(run.spark, 0)
        checks = [check_published(spark, run, postgres, source) for source in TABLES]
        return {check.name: check.result for check in checks}


@pytest.fixture(scope="module")
def shop(spark: SparkSession, postgres_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    own = postgres_server.new_database("publish_shop")
    grants = (REPOSITORY / "deploy/postgres/grants.sql").read_text()
    own.execute(f"REVOKE ALL ON DATABASE {own.database} FROM PUBLIC")
    own.execute(grants.replace("DATABASE shop", f"DATABASE {own.database}"))
    own.execute(
        "CREATE SCHEMA raw AUTHORIZATION lakehouse_publisher", f"ALTER ROLE lakehouse_publisher PASSWORD '{PASSWORD}'"
    )
    shop = Shop(tmp_path_factory.mktemp("shop"), own)
    for stamp in (FIRST, SECOND):
        shop.run_snapshot(stamp)
    yield shop
    own.drop()


def test_a_run_publishes_every_layer_and_only_the_changes(shop: Shop) -> None:
    first, second = shop.results[FIRST], shop.results[SECOND]
    assert set(first.statuses("publish").values()) == {"compared"}
    assert first.outcome("publish", "bronze.items")["counts"] == {"inserted": 3, "updated": 0, "deleted": 0}
    assert set(second.statuses("publish").values()) == {"published"}
    assert second.outcome("publish", "bronze.items")["counts"] == {"inserted": 1, "updated": 1, "deleted": 1}
    assert second.outcome("publish", "gold.days")["counts"] == {"inserted": 1, "updated": 1, "deleted": 1}
    for source in TABLES:
        assert shop.table(source) == shop.rows_with_cdc(source.replace(".", "/")), source
    assert None in [row["city"] for row in shop.table("gold.cities")]
    verified = shop("verify")
    assert (verified.code, {c["result"] for c in verified.document["checks"]}) == (0, {"holds"})
    assert [c["name"] for c in verified.document["checks"] if c["invariant"] == "I6"] == [*TABLES]
    assert {s: (r["waiting"], r["note"], r["version"]) for s, r in shop.published().items()} == {
        source: (False, None, version) for source, version in shop.newest().items()
    }


def test_nothing_new_starts_no_jvm_unless_postgres_has_lost_something(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_spark = property(lambda run: pytest.fail("no Spark is needed"))
    with monkeypatch.context() as patch:
        patch.setattr(Run, "spark", without_spark)
        assert shop.run().document["nothing_new"]

    # For example, PostgreSQL was restored from an older backup.
    shop.server.execute("""DELETE FROM lakehouse_publish WHERE source = 'gold.days'""", 'DROP TABLE "Days"')
    done = shop.run()
    assert done.statuses("publish") == dict.fromkeys(TABLES, "current") | {"gold.days": "compared"}
    with monkeypatch.context() as patch:
        patch.setattr(Run, "spark", without_spark)
        assert shop.run().document["nothing_new"]
        assert set(shop("publish").statuses("publish").values()) == {"current"}


POINTS = ("after_publish_staged", "after_publish_applied", "before_publish_commit", "after_publish_commit")


def test_a_publish_that_is_broken_off_anywhere_is_completed_by_the_next_one(cube: Cube) -> None:
    cube.make(ROWS)
    cube.publish()
    for number, point in enumerate(POINTS):
        before = cube.rows()
        cube.write(f"INSERT INTO THIS VALUES ('new', '{number}', {number}, {number})")
        with handled_by(parse(f"{point}:raise")), pytest.raises(Interruption):
            cube.publish()
        is_committed = point == "after_publish_commit"
        assert (cube.rows() != before) == is_committed, point
        done = cube.publish()
        assert done.status == ("current" if is_committed else "published")
        assert len(cube.rows()) == len(before) + 1
        assert dict(done.counts) == ({} if is_committed else {"inserted": 1, "updated": 0, "deleted": 0})


def test_what_could_not_be_published_is_published_by_the_next_run(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    url = shop.publish["postgres"]["url"]
    shop.snapshot(THIRD, items="id,city,day,price,seen\n" + SNAPSHOTS[THIRD])
    unreachable, wrong = url.replace(f":{shop.server.port}/", ":1/"), url.replace(PASSWORD, PASSWORD + "x")
    for verb, bad, code in (("run", unreachable, 3), ("publish", wrong, 2)):
        shop.publish["postgres"]["url"] = bad
        shop.configure()
        failed = shop(verb)
        assert failed.code == code, failed.document
        assert PASSWORD not in json.dumps(failed.document) + failed.stderr
        assert shop.newest()["gold.days"] > shop.version("gold.days")
    (status,) = {row["note"] for row in shop("status").document["published"]}
    assert "rejects the login" in status
    assert set(shop.i6().values()) == {"not checkable"}
    assert shop.kept_by_expire() == "PostgreSQL, which does not answer, has still to read its changes"
    shop.publish["postgres"]["url"] = url
    shop.configure()
    assert shop.published()["gold.days"]["waiting"]
    assert shop.kept_by_expire() == "public.Days in PostgreSQL has still to read its changes"

    killed = subprocess.run(
        [sys.executable, CRASH_POINTS, "published-half", "publish", shop.pipeline],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert shop.newest()["gold.days"] > shop.version("gold.days")
    assert dict.fromkeys(TABLES, "holds") == shop.i6()  # each at its own position

    assert shop.run().code == 0
    assert dict.fromkeys(TABLES, "holds") == shop.i6()
    assert shop.kept_by_expire() == ""
    assert [row["id"] for row in shop.table("bronze.items")] == ["b", "d"]
    assert shop.run().document["nothing_new"]


def test_verify_finds_what_others_changed_and_a_full_refresh_repairs_it(shop: Shop) -> None:
    shop.server.execute("UPDATE cities SET price = price + 0.01 WHERE city IS NULL AND level = 3")
    found = shop("verify")
    (failed,) = [c for c in found.document["checks"] if c["result"] == "failed"]
    assert (found.code, failed["invariant"], failed["name"]) == (5, "I6", "gold.cities")
    assert "1 row only in the lake, 1 only in PostgreSQL" in failed["figures"]
    assert shop("publish", "gold.cities", "--full-refresh").outcome("publish", "gold.cities")["counts"]["updated"] == 1
    assert shop.i6()["gold.cities"] == "holds"
    assert shop("publish", "gold.none").code == 2


def test_a_forgotten_subject_is_deleted_from_postgres_too(shop: Shop) -> None:
    done = shop("forget", "items", "d")
    assert done.code == 0, done.document
    assert done.document["published"] == {"bronze.items": 1, "silver.items": 1, "gold.cities": 1, "gold.days": 1}
    assert [row["id"] for row in (*shop.table("bronze.items"), *shop.table("silver.items"))] == ["b", "b"]
    assert dict.fromkeys(TABLES, "holds") == shop.i6()
