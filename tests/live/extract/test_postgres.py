"""PostgreSQL as a source: all tables at one instant with exact values, or nothing at all. No JVM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
import stamina
from servers.postgres import PASSWORD, USER, Server

from lakehouse import retry
from lakehouse.config import Pipeline, load
from lakehouse.errors import ConfigError, DataRefused, ExitCode, InfrastructureError, LakehouseError
from lakehouse.extract import ExtractResult, extract_table, open_source, peek
from lakehouse.extract.postgres import queries, reader
from lakehouse.extract.postgres.source import to_libpq_url
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
UTC = timezone.utc
ITEMS = {"file": "items", "format": "parquet", "schema": "id INT, qty INT, note STRING", "keys": ["id"]}
ROWS = "INSERT INTO items SELECT i, i % 7, 'note ' || i FROM generate_series(1, 1000) AS i"


class Shop:
    """A pipeline over a database, and the lake it lands in."""

    def __init__(self, folder: Path, database: Server) -> None:
        self.folder, self.database, self.lake = folder, database, Lake(str(folder / "lake"))
        self.tables: dict[str, dict[str, Any]] = {"items": dict(ITEMS)}
        self.source: dict[str, Any] = {"url": database.jdbc_url, "user": USER, "password": PASSWORD}

    @property
    def pipeline(self) -> Pipeline:
        file = self.folder / "pipeline.json"
        source = {"type": "jdbc", **self.source}
        document = {"name": "shop", "lake": self.lake.root, "source": source, "tables": self.tables}
        file.write_text(json.dumps(document))
        return load(file, {})

    def extract(self, now: datetime = NOW, as_of: datetime | None = None) -> list[ExtractResult]:
        with open_source(self.pipeline, self.lake, self.tables) as source:
            return [extract_table(source, table, now, as_of) for table in self.tables]

    def landed(self, table: str = "items") -> list[landing.LandedSnapshot]:
        return landing.list_snapshots(self.lake, table)

    def rows(self, table: str = "items") -> list[dict[str, Any]]:
        """The rows of the newest landed snapshot, in the order of its files."""
        return [row for path in self.landed(table)[-1].paths for row in pl.read_parquet(path).to_dicts()]

    def types(self, table: str = "items") -> dict[str, Any]:
        return dict(pl.read_parquet(self.landed(table)[-1].paths[0]).schema)

    @property
    def left_behind(self) -> list[Path]:
        return [path for path in Path(self.lake.root).rglob("*") if path.is_file() and "landing" not in path.parts]


@pytest.fixture(scope="module")
def database(postgres_server: Server) -> Iterator[Server]:
    """One database for all tests of this file, emptied by each, because its creation takes longer than most tests."""
    database = postgres_server.new_database("jdbc")
    yield database
    database.drop()


@pytest.fixture
def shop(tmp_path: Path, database: Server, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(tmp_path)
    database.execute("DROP SCHEMA IF EXISTS out CASCADE", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    database.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
    database.execute("CREATE TABLE items (id int PRIMARY KEY, qty int, note text)", ROWS)
    return Shop(tmp_path, database)


@pytest.fixture(autouse=True)
def nobody_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=retry.ATTEMPTS):
        yield


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divides tables of a thousand rows, too."""
    monkeypatch.setattr(queries, "MIN_PART_ROWS", 10)


def before_the_first_part(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Do something once, after the snapshot is taken and before the first part is read."""
    write_part, done = reader._ReadAttempt._write_part, threading.Event()
    lock = threading.Lock()

    def act_and_write_part(self: reader._ReadAttempt, *arguments: Any) -> int:
        with lock:
            if not done.is_set():
                done.set()
                action()
        return write_part(self, *arguments)

    monkeypatch.setattr(reader._ReadAttempt, "_write_part", act_and_write_part)


def failing(shop: Shop, kind: type[LakehouseError]) -> LakehouseError:
    """The error of an extraction that landed nothing; the error does not contain the password."""
    with pytest.raises(kind) as error:
        shop.extract()
    assert not [table for table in shop.tables if shop.landed(table)]
    assert shop.left_behind == []
    assert PASSWORD not in error.value.to_text() + repr(error.value) + repr(error.value.__dict__)
    return error.value


# Snapshots


def test_a_table_lands_completely_in_the_order_of_its_keys(shop: Shop) -> None:
    (done,) = shop.extract()

    assert done.landed_times == (NOW,)
    assert shop.rows() == [{"id": i, "qty": i % 7, "note": f"note {i}"} for i in range(1, 1001)]
    assert [file.name for file in shop.landed()[0].files] == ["part-00000.parquet"]
    assert shop.left_behind == []


@pytest.mark.usefixtures("small_parts")
def test_a_large_table_is_read_in_parts_by_its_keys(shop: Shop) -> None:
    shop.source["options"] = {"numPartitions": 3, "fetchsize": 100}
    shop.extract()

    (landed,) = shop.landed()
    parts = [pl.read_parquet(path)["id"].to_list() for path in landed.paths]
    assert parts == [list(range(1, 335)), list(range(335, 669)), list(range(669, 1001))]


@pytest.mark.usefixtures("small_parts")
def test_the_same_parts_land_in_a_lake_on_s3_and_only_once(
    shop: Shop, moto: str, new_bucket: Callable[[str], str], aws: Callable[[str], None]
) -> None:
    shop.source["options"] = {"numPartitions": 3}
    shop.extract()
    (on_disk,) = shop.landed()
    aws(moto)
    shop.lake = Lake(f"s3a://{new_bucket(moto)}/shop")
    shop.extract()

    (on_s3,) = shop.landed()
    assert [file.name for file in on_s3.files] == [file.name for file in on_disk.files]
    assert [path.read_bytes() for path in on_s3.paths] == [path.read_bytes() for path in on_disk.paths]
    assert shop.extract(NOW + timedelta(days=1)) == [ExtractResult("items")]
    assert shop.landed() == [on_s3]


@pytest.mark.usefixtures("small_parts")
def test_equal_rows_do_not_land_again_whatever_their_order_in_the_database(shop: Shop) -> None:
    shop.extract()
    shop.database.execute(
        "CREATE TABLE other AS SELECT * FROM items ORDER BY random()", "TRUNCATE items", "INSERT INTO items TABLE other"
    )

    assert shop.extract(NOW + timedelta(days=1)) == [ExtractResult("items")]
    shop.database.execute("UPDATE items SET qty = qty + 1 WHERE id = 500")
    assert shop.extract(NOW + timedelta(days=2))[0].landed_times == (NOW + timedelta(days=2),)


def test_the_snapshots_time_is_that_of_the_run_or_as_of(shop: Shop) -> None:
    assert shop.extract(as_of=datetime(2025, 5, 5, tzinfo=UTC))[0].landed_times == (datetime(2025, 5, 5, tzinfo=UTC),)


def test_peek_lands_nothing(shop: Shop) -> None:
    with open_source(shop.pipeline, shop.lake, shop.tables) as source:
        found, warning = peek(source, "items", NOW)
        assert pl.read_parquet(found.paths[0]).height == 1000
    assert (found.time, warning, shop.landed(), shop.left_behind) == (NOW, "", [], [])


def test_an_empty_table_is_a_snapshot_without_rows(shop: Shop) -> None:
    shop.database.execute("TRUNCATE items")
    shop.extract()

    assert shop.rows() == []
    assert shop.types() == {"id": pl.Int32, "qty": pl.Int32, "note": pl.String}


# One snapshot for all tables


@pytest.mark.usefixtures("small_parts")
def test_changes_during_the_read_are_in_no_part_and_no_table(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.database.execute("CREATE TABLE others AS TABLE items")
    shop.tables["others"] = ITEMS | {"file": "public.others"}

    def write() -> None:
        shop.database.execute(
            "DELETE FROM items WHERE id % 2 = 0",
            "UPDATE items SET note = 'torn'",
            "INSERT INTO items VALUES (-1, 0, 'torn'), (2000, 0, 'torn')",
            "UPDATE others SET note = 'torn'",
        )

    before_the_first_part(monkeypatch, write)
    shop.extract()

    for table in ("items", "others"):
        assert shop.rows(table) == [{"id": i, "qty": i % 7, "note": f"note {i}"} for i in range(1, 1001)]
    assert shop.database.execute("SELECT count(*) FROM others WHERE note = 'torn'") == [(1000,)]


def test_a_table_cannot_be_truncated_during_the_read(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRUNCATE removes rows that older snapshots see, so the lock must exist before the snapshot is taken."""
    calls, read_columns = [], queries.read_columns

    def truncate(*arguments: Any) -> list[Any]:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            shop.database.execute("SET lock_timeout = '50ms'", "TRUNCATE items")
        calls.append(arguments)
        return read_columns(*arguments)

    monkeypatch.setattr(queries, "read_columns", truncate)
    shop.extract()

    assert calls
    assert len(shop.rows()) == 1000


@pytest.mark.usefixtures("small_parts")
def test_missing_rows_are_detected(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    scan_table = queries.scan_table

    def miscount(*arguments: Any) -> queries.TableScan:
        scan = scan_table(*arguments)
        return replace(scan, count=scan.count + 1)

    monkeypatch.setattr(queries, "scan_table", miscount)

    assert "has 1,001 rows, but 1,000 were read" in failing(shop, InfrastructureError).found


# Lost connections


KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lakehouse'"


@pytest.mark.usefixtures("small_parts")
def test_a_lost_connection_restarts_the_read_in_a_new_snapshot(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before_the_first_part(monkeypatch, lambda: shop.database.execute("UPDATE items SET qty = 99", KILL))

    shop.extract()

    assert {row["qty"] for row in shop.rows()} == {99}
    assert "attempt 2 of 6" in capsys.readouterr().err


@pytest.mark.usefixtures("small_parts")
def test_connections_that_fail_in_every_attempt_leave_no_files(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.tables["others"] = ITEMS | {"keys": ["qty", "id"]}
    broken = []

    def batches(self: reader._ReadAttempt, rows: Any) -> Iterator[list[Any]]:
        yield [row for row, _ in zip(rows, range(100), strict=False)]
        broken.append(shop.database.execute(KILL))
        time.sleep(0.05)
        yield list(rows)

    monkeypatch.setattr(reader._ReadAttempt, "_batches", batches)

    error = failing(shop, InfrastructureError)

    assert error.exit_code == ExitCode.INFRASTRUCTURE
    assert len(broken) >= retry.ATTEMPTS


def test_files_of_a_killed_reader_are_deleted_by_the_next_one(shop: Shop) -> None:
    program = (
        "import sys, os, signal; from lakehouse.extract import extract_table, open_source;"
        "from lakehouse.extract.postgres import reader;"
        "from lakehouse.config import load;"
        "from lakehouse.storage.paths import Lake; from datetime import datetime, timezone;"
        "complete = reader._ReadAttempt._complete_folder;"
        "reader._ReadAttempt._complete_folder = lambda *a: (complete(*a), os.kill(os.getpid(), signal.SIGKILL));"
        "p = load(sys.argv[1], {});\n"
        "with open_source(p, Lake(p.lake), ['items']) as s: extract_table(s, 'items', datetime.now(timezone.utc), None)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(shop.pipeline.path)], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert shop.left_behind
    assert not shop.landed()

    shop.extract()

    assert len(shop.rows()) == 1000
    assert shop.left_behind == []


def test_a_server_that_cannot_be_reached_is_an_infrastructure_error(shop: Shop) -> None:
    shop.source["url"] = "jdbc:postgresql://127.0.0.1:1/shop"

    assert "the database failed" in failing(shop, InfrastructureError).found


# Errors


@pytest.mark.parametrize(
    "source", [{"password": "wrong"}, {"user": "nobody_there"}, {"url": "jdbc:postgresql://127.0.0.1:{port}/nowhere"}]
)
def test_a_denied_login_is_reported_at_once(
    shop: Shop, capsys: pytest.CaptureFixture[str], source: dict[str, str]
) -> None:
    shop.source |= {k: v.format(port=shop.database.port) for k, v in source.items()}

    error = failing(shop, ConfigError)

    assert error.exit_code == ExitCode.USAGE
    assert "denies access" in error.found
    assert "attempt" not in capsys.readouterr().err


def test_a_missing_table_is_reported_with_the_nearest_name_and_the_others_land(shop: Shop) -> None:
    shop.tables["clients"] = ITEMS | {"file": "public.itmes"}
    with open_source(shop.pipeline, shop.lake, shop.tables) as source:
        assert extract_table(source, "items", NOW, None).landed_times
        with pytest.raises(ConfigError) as error:
            extract_table(source, "clients", NOW, None)

    assert 'no table public.itmes; did you mean "public.items"?' in error.value.found


def test_a_table_that_may_not_be_read_is_reported_with_the_missing_privilege(shop: Shop) -> None:
    shop.database.execute("DROP ROLE IF EXISTS reader", f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
    shop.source["user"] = "reader"

    error = failing(shop, ConfigError)

    assert "permission denied for table items" in error.found
    assert "GRANT SELECT ON items" in error.next_step


@pytest.mark.parametrize("change", ["", "ALTER TABLE items DROP CONSTRAINT items_pkey"])
def test_the_privilege_for_the_declared_columns_is_enough(shop: Shop, change: str) -> None:
    shop.database.execute(
        change,
        "DROP ROLE IF EXISTS reader",
        f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'",
        "ALTER TABLE items ADD COLUMN secret text DEFAULT 'not to be read'",
        "GRANT SELECT (id, qty, note) ON items TO reader",
    )
    shop.source["user"] = "reader"
    shop.extract()

    assert list(shop.types()) == ["id", "qty", "note"]


def test_a_missing_declared_column_is_left_out_of_the_files(shop: Shop) -> None:
    shop.tables["items"] |= {"schema": "ID INT, qty INT, price DECIMAL(10,2)", "keys": ["ID"]}
    shop.extract()

    assert list(shop.types()) == ["id", "qty"]


# Keys


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", "E'é''\\\\\\\\' || i"),
        ("char(12)", "'x' || i"),
        ("uuid", "md5(i::text)::uuid"),
        ("numeric", "i / 7.0"),
        ("float8", "i / 7.0::float8"),
        ("timestamptz", "timestamptz '2025-03-30 00:00 Europe/Berlin' + i * interval '7 min'"),
        ("date", "date '2024-02-28' + i"),
        ("bytea", "decode(lpad(to_hex(i), 8, '0'), 'hex')"),
        ("inet", "inet '10.0.0.0' + i"),
        ("boolean", "i % 2 = 0"),
    ],
)
def test_a_table_is_divided_by_keys_of_any_type_without_losing_rows(shop: Shop, kind: str, value: str) -> None:
    shop.database.execute(f"CREATE TABLE t AS SELECT ({value})::{kind} AS k, i FROM generate_series(1, 1000) AS i")
    shop.database.execute("INSERT INTO t VALUES (NULL, 0), (NULL, -1)")
    declared = {"boolean": "BOOLEAN", "float8": "DOUBLE", "timestamptz": "TIMESTAMP", "date": "DATE", "bytea": "BINARY"}
    shop.tables = {"t": ITEMS | {"file": "t", "schema": f"k {declared.get(kind, 'STRING')}, i INT", "keys": ["k"]}}
    shop.extract()

    assert sorted(row["i"] for row in shop.rows("t")) == list(range(-1, 1001))
    assert [row["i"] for row in shop.rows("t") if row["k"] is None] == [-1, 0]
    *parts, keyless = [pl.read_parquet(path).height for path in shop.landed("t")[0].paths]
    assert (sorted(parts), keyless) == ([0, 0, 500, 500] if kind == "boolean" else [250] * 4, 2)


@pytest.mark.usefixtures("small_parts")
def test_null_and_duplicate_keys_lose_no_row_and_give_equal_files(shop: Shop) -> None:
    shop.database.execute(
        'CREATE TABLE t AS SELECT nullif(i % 5, 0) AS a, nullif(i % 13, 0)::text AS "B", i'
        " FROM generate_series(1, 600) AS i"
    )
    shop.tables = {"t": ITEMS | {"file": "t", "schema": "a INT, b STRING, i INT", "keys": ["a", "b"]}}
    shop.extract()
    shop.database.execute(
        "CREATE TABLE u AS SELECT * FROM t ORDER BY random()", "DROP TABLE t", "ALTER TABLE u RENAME TO t"
    )

    assert sorted(row["i"] for row in shop.rows("t")) == list(range(1, 601))
    assert shop.extract(NOW + timedelta(days=1)) == [ExtractResult("t")]


def test_keys_without_an_order_are_rejected_with_a_fix(shop: Shop) -> None:
    shop.database.execute("CREATE TABLE t (k json, i int)")
    shop.tables = {"t": ITEMS | {"file": "t", "schema": "k STRING, i INT", "keys": ["k"]}}

    assert "have no order" in failing(shop, ConfigError).found


@pytest.mark.parametrize("name", ["MixedCase", "order", 'with"quote', "_lakehouse_number", "ação"])
def test_tables_and_columns_may_have_any_name(shop: Shop, name: str) -> None:
    quoted = name.replace('"', '""')
    shop.database.execute(f'CREATE TABLE "{quoted}s" AS SELECT 1 AS "{quoted}", 2 AS b')
    shop.tables = {"t": ITEMS | {"file": f"{name}s", "schema": f"`{name.upper()}` INT, b INT", "keys": [name.upper()]}}
    shop.extract()

    assert shop.rows("t") == [{name: 1, "b": 2}]


def test_a_view_is_read_as_a_table_is(shop: Shop) -> None:
    shop.database.execute("CREATE SCHEMA out", "CREATE VIEW out.items AS SELECT id, qty, note FROM items WHERE id < 3")
    shop.tables["items"]["file"] = "out.items"
    shop.extract()

    assert [row["id"] for row in shop.rows()] == [1, 2]


# Values

VALUES = """
    CREATE TABLE v (
        id int PRIMARY KEY, s smallint, l bigint, f real, g double precision, b boolean, n numeric(12, 3), m numeric,
        d date, t timestamptz, w timestamp, x bytea, c char(4), v varchar(9), u uuid, j jsonb, a int[], e text[][],
        p numeric(5, 2)[], o text
    )
"""
SCHEMA = """
    id INT, s SMALLINT, l BIGINT, f FLOAT, g DOUBLE, b BOOLEAN, n DECIMAL(12,3), m DECIMAL(30,15), d DATE, t TIMESTAMP,
    w TIMESTAMP_NTZ, x BINARY, c STRING, v STRING, u STRING, j STRING, a ARRAY<INT>, e ARRAY<ARRAY<STRING>>,
    p ARRAY<DECIMAL(5,2)>, o STRING
"""
TEXT = "\ufeff'a';\"b\"\\,\t\r\n\\N é 漢 😀 "


def values(shop: Shop, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Insert rows into the database, and return them as they landed."""
    shop.database.execute(VALUES)
    with psycopg.connect(shop.database.url) as connection:
        for row in rows:
            marks = ", ".join(["%s"] * len(row))
            connection.execute(f"INSERT INTO v ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    shop.tables = {"v": ITEMS | {"file": "v", "schema": SCHEMA}}
    shop.extract()
    return shop.rows("v")


def test_every_value_lands_as_it_is(shop: Shop) -> None:
    moment = datetime(2024, 2, 29, 23, 59, 59, 999999)
    row: dict[str, Any] = {
        "id": -(2**31),
        "s": 2**15 - 1,
        "l": -(2**63),
        "f": 0.5,
        "g": 0.1 + 0.2,
        "b": False,
        "n": Decimal("-123456789.123"),
        "m": Decimal("0.000000000000001"),
        "d": date(1, 1, 1),
        "t": moment.replace(tzinfo=timezone(timedelta(hours=-3))),
        "w": moment,
        "x": bytes(range(256)),
        "c": "ab",
        "v": "",
        "u": "00000000-0000-0000-0000-00000000000a",
        "j": '{"b": 1.10, "a": [null]}',
        "a": [1, None, -1],
        "e": [["a", None], ["", "NULL"]],
        "p": [Decimal("1.10"), None],
        "o": TEXT,
    }

    complete, empty = values(shop, row, {"id": 0})

    assert complete == row | {
        "m": "0.000000000000001",
        "t": row["t"].astimezone(UTC),
        "c": "ab  ",
        "j": '{"a": [null], "b": 1.10}',
    }
    assert complete["t"].utcoffset() == timedelta(0)
    assert empty == dict.fromkeys(row) | {"id": 0}
    types = shop.types("v")
    assert types["n"] == pl.Decimal(12, 3)
    assert types["t"] == pl.Datetime("us", "UTC")
    assert types["w"] == pl.Datetime("us")
    assert types["p"] == pl.List(pl.Decimal(5, 2))


def test_values_that_parquet_cannot_represent_land_as_text_and_none_becomes_null(shop: Shop) -> None:
    odd = {"n": "NaN", "m": "NaN", "d": "infinity", "t": "-infinity", "w": "0044-03-15 12:00 BC"}
    plain = {"n": "1.5", "m": "1.5", "d": "2024-01-31", "t": "2024-01-31 10:00-03", "w": "9999-12-31 23:59:59.999999"}

    first, second, third = values(shop, odd | {"id": 1}, plain | {"id": 2}, {"id": 3})

    assert {k: first[k] for k in odd} == odd | {"w": "0044-03-15T12:00:00 BC"}
    assert {k: second[k] for k in plain} == {
        "n": "1.500",
        "m": "1.5",
        "d": "2024-01-31",
        "t": "2024-01-31T13:00:00+00:00",
        "w": "9999-12-31T23:59:59.999999",
    }
    assert {k: third[k] for k in odd} == dict.fromkeys(odd)


@pytest.mark.parametrize("value", [{"d": "10000-01-01"}, {"t": "10000-01-01 00:00:00+00"}, {"w": "0001-12-31 BC"}])
def test_dates_outside_the_years_1_to_9999_are_text(shop: Shop, value: dict[str, str]) -> None:
    (row,) = values(shop, {"id": 1} | value)

    assert row[next(iter(value))] in ("10000-01-01", "10000-01-01T00:00:00+00:00", "0001-12-31T00:00:00 BC")


@pytest.mark.parametrize("value", [{"p": ["NaN"]}, {"a": [[1], [2]]}, {"e": ["flat"]}])
def test_an_array_that_parquet_cannot_represent_is_rejected_with_its_column(shop: Shop, value: dict[str, Any]) -> None:
    with pytest.raises(DataRefused) as error:
        values(shop, {"id": 1} | value)

    assert f"the column {next(iter(value))} of v" in error.value.found
    assert error.value.exit_code == ExitCode.REFUSED


def test_a_declared_struct_is_rejected_with_a_fix(shop: Shop) -> None:
    shop.database.execute("CREATE TABLE t (id int, j jsonb)")
    shop.tables = {"t": ITEMS | {"file": "t", "schema": "id INT, j STRUCT<a: INT>"}}

    error = failing(shop, ConfigError)

    assert "column j as jsonb" in error.found
    assert error.next_step == "declare j STRING"


def test_memory_stays_bounded_with_large_values(shop: Shop) -> None:
    shop.database.execute("UPDATE items SET note = repeat(id::text || 'x', 20000) WHERE id <= 400")
    sizes = []

    def batches(self: reader._ReadAttempt, rows: Any) -> Iterator[list[Any]]:
        for batch in original_batches(self, rows):
            sizes.append(sum(len(row[2]) for row in batch))
            yield batch

    original_batches = reader._ReadAttempt._batches
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader._ReadAttempt, "_batches", batches)
        patch.setattr(reader, "_MAX_BATCH_BYTES", 1 << 20)
        shop.extract()

    assert len(shop.rows()) == 1000
    assert max(sizes) < 1.2 * (1 << 20)


# Addresses


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("jdbc:postgresql://h/d", "postgresql://h/d"),
        ("jdbc:postgresql://h1:1,h2:2/d", "postgresql://h1:1,h2:2/d"),
        ("jdbc:postgresql:d", "postgresql://localhost/d"),
        ("jdbc:postgresql://[::1]:5/d?ssl=true", "postgresql://[::1]:5/d?sslmode=verify-full"),
        ("jdbc:postgresql://h/d?currentSchema=a,b", "postgresql://h/d?options=-csearch_path%3Da%2Cb"),
        ("jdbc:postgresql://h/d?user=u&password=p%26%2F", "postgresql://h/d?user=u&password=p%26%2F"),
    ],
)
def test_a_jdbc_url_is_translated(url: str, address: str) -> None:
    assert to_libpq_url(url) == address


def test_an_unsupported_parameter_is_rejected_without_its_value(shop: Shop) -> None:
    shop.source["url"] += f"?socketFactory={PASSWORD}"

    assert "socketFactory" in failing(shop, ConfigError).found


def test_a_url_that_cannot_be_read_is_not_shown(shop: Shop) -> None:
    shop.source["url"] = f"jdbc:postgresql://a:{PASSWORD}%zz@h:port/d"

    assert "URL cannot be read" in failing(shop, ConfigError).found


def test_tables_are_read_from_the_schema_in_the_url(shop: Shop) -> None:
    shop.database.execute("CREATE SCHEMA out", "CREATE TABLE out.items AS SELECT 7 AS id, 7 AS qty, 'seven' AS note")
    shop.source["url"] += "?currentSchema=out"
    shop.extract()

    assert [row["id"] for row in shop.rows()] == [7]


def test_reading_imports_no_spark(shop: Shop) -> None:
    program = (
        "import sys; from lakehouse.stages import extract; extract(sys.argv[1]); assert 'pyspark' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(shop.pipeline.path)],
        check=False,
        capture_output=True,
        env=os.environ | {"JAVA_HOME": "/nowhere"},
    )

    assert done.returncode == 0, done.stderr
    assert len(shop.rows()) == 1000
