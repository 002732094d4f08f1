"""A Parquet file's types are looked at in its footer: what is declared is read or refused, nothing else matters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Project, Row

pytestmark = pytest.mark.usefixtures("spark")

UTC = timezone.utc
STAMP = "20250101_000000"
IDS = pa.array([1, 2, 3])
NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 3, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0\4\0\0\0\5\0\0\0"), pa.py_buffer(b"ok\xff\xfe\xfd")]
)
NANOS = 1_735_725_600_000_000_000  # 2025-01-01 10:00:00 UTC


class Case(NamedTuple):
    """The files of a table, and what becomes of them."""

    schema: str
    files: Sequence[pa.Table]
    rows: Sequence[tuple[Any, ...]] = ()
    quarantined: Sequence[tuple[str, str, str]] = ()  # column, value, reason
    refused: str = ""
    note: str = ""
    keys: str = "id"
    options: tuple[tuple[str, str], ...] = ()


def files(*columns: pa.Array, names: str) -> list[pa.Table]:
    return [pa.Table.from_arrays([IDS[: len(columns[0])], *columns], names=["id", *names.split()])]


def int96(tables: list[pa.Table]) -> list[pa.Table]:
    """Mark files to be written with instants in Parquet's oldest notation."""
    return [table.replace_schema_metadata({"int96": "yes"}) for table in tables]


def null_columns(names: Sequence[str]) -> list[pa.Table]:
    return files(*[pa.nulls(2) for _ in names], names=" ".join(names))


NULLS = {
    "s": "STRING",
    "i": "INT",
    "d": "DATE",
    "t": "TIMESTAMP",
    "l": "TIMESTAMP_NTZ",
    "b": "BINARY",
    "o": "BOOLEAN",
    "n": "DECIMAL(10,2)",
    "f": "DOUBLE",
    "a": "ARRAY<STRUCT<x: INT, y: STRING>>",
}
CASES = {
    # Columns that the schema does not name
    "odd_types": Case(
        "v INT",
        files(
            pa.array([7, 8]),
            pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * 2, pa.binary(16))),
            pa.array([0, 1], pa.time64("us")),
            pa.array([1.5, 2], pa.float16()),
            pa.array([Decimal(1), None], pa.decimal256(60, 2)),
            pa.array([{"a": [{"b": b"\xff"}]}, None]),
            pa.nulls(2),
            pa.array([1, 2], pa.timestamp("ns")),
            pa.array([1, 2], pa.duration("ns")),
            names="v u t h d nested none at took",
        ),
        rows=[(1, 7), (2, 8)],
        note="at, d, h, nested, none, t, took, u",
    ),
    "case_of_others": Case(
        "v INT", files(IDS, IDS, IDS, IDS, names="v x X a`b"), rows=[(1, 1), (2, 2), (3, 3)], note="X, a`b, x"
    ),
    # Columns that it names
    "case": Case("v INT", files(IDS, IDS, names="ID v"), refused="a column twice, if case is ignored: id and ID"),
    "uuid": Case(
        "v STRING",
        files(pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16], pa.binary(16))), names="v"),
        refused="the column is UUID",
    ),
    "clock": Case("v TIMESTAMP", files(pa.array([0], pa.time64("us")), names="v"), refused="the column is TIME"),
    "half": Case("v FLOAT", files(pa.array([1.5], pa.float16()), names="v"), refused="the column is FLOAT16"),
    "wide": Case(
        "v DECIMAL(38,2)",
        files(pa.array([Decimal(1)], pa.decimal256(60, 2)), names="v"),
        refused="the column is DECIMAL(60,2)",
    ),
    "number_in_nanos": Case(
        "v INT",
        files(pa.array([1], pa.timestamp("ns")), names="v"),
        refused="the column is TIMESTAMP_NTZ in nanoseconds",
    ),
    "nulls": Case(
        ", ".join(f"{name} {kind}" for name, kind in NULLS.items()),
        null_columns(list(NULLS)),
        rows=[(1, *[None] * len(NULLS)), (2, *[None] * len(NULLS))],
    ),
    "nulls_inside": Case(
        "a ARRAY<STRING>, b ARRAY<STRUCT<x: INT>>, c STRUCT<x: STRING, y: BIGINT>",
        files(pa.array([[None], []]), pa.array([[], None]), pa.array([{"x": None, "y": 1}, None]), names="a b c"),
        rows=[(1, [None], [], {"x": None, "y": 1}), (2, [], None, None)],
    ),
    "nanos": Case(
        "at TIMESTAMP, local TIMESTAMP_NTZ",
        files(
            pa.array([NANOS, NANOS + 1_000, NANOS + 1], pa.timestamp("ns", tz="America/Sao_Paulo")),
            pa.array([-1_000, None, NANOS], pa.timestamp("ns")),
            names="at local",
        ),
        rows=[
            (1, datetime(2025, 1, 1, 10, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999_999)),
            (2, datetime(2025, 1, 1, 10, 0, 0, 1, UTC), None),
        ],
        quarantined=[("at", "2025-01-01 10:00:00.000000001Z", "not a TIMESTAMP")],
    ),
    "int96": Case(
        "at TIMESTAMP, other TIMESTAMP",
        int96(
            files(
                pa.array([NANOS, NANOS + 1_000, NANOS + 1], pa.timestamp("ns")),
                pa.array([-1_000, None, 0], pa.timestamp("ns")),
                names="at other",
            )
        ),
        rows=[
            (1, datetime(2025, 1, 1, 10, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)),
            (2, datetime(2025, 1, 1, 10, 0, 0, 1, UTC), None),
        ],
        quarantined=[("at", "2025-01-01 10:00:00.000000001Z", "not a TIMESTAMP")],
    ),
    "instant_as_local": Case(
        "local TIMESTAMP_NTZ",
        files(pa.array([0, None], pa.timestamp("us", tz="UTC")), names="local"),
        rows=[(2, None)],
        quarantined=[("local", "1970-01-01 00:00:00Z", "not a TIMESTAMP_NTZ")],
    ),
    "whole_nanos": Case(
        "at TIMESTAMP",
        files(pa.array([NANOS, NANOS + 1_000, None], pa.timestamp("ns")), names="at"),
        rows=[
            (1, datetime(2025, 1, 1, 13, tzinfo=UTC)),
            (2, datetime(2025, 1, 1, 13, 0, 0, 1, UTC)),
            (3, None),
        ],
    ),
    "days": Case(
        "day DATE, at TIMESTAMP",
        files(
            pa.array([0, 1, None], pa.timestamp("ns")),  # pandas has no other type for days
            pa.array([date(2025, 1, 1), date(2018, 11, 4), None]),  # at 2018-11-04, the day begins at one o'clock
            names="day at",
        ),
        rows=[(1, date(1970, 1, 1), datetime(2025, 1, 1, 3, tzinfo=UTC)), (3, None, None)],
        quarantined=[("day", "1970-01-01 00:00:00.000000001", "not a DATE")],
    ),
    "old_day": Case(
        "day DATE",
        files(pa.array([date(1, 1, 1)]), names="day"),
        rows=[(1, date(1, 1, 1))],
        options=(("datetimeRebaseMode", "CORRECTED"),),
    ),
    "old_day_of_either_calendar": Case(
        "day DATE",
        files(pa.array([date(1, 1, 1)]), names="day"),
        refused="`datetimeRebaseMode: EXCEPTION` or `int96RebaseMode: EXCEPTION` refuses",
        options=(("datetimeRebaseMode", "EXCEPTION"),),
    ),
    "first_hour": Case(
        "at TIMESTAMP",
        files(pa.array([date(2018, 11, 4)]), names="at"),
        rows=[(1, datetime(2018, 11, 4, 3, tzinfo=UTC))],
    ),
    "text": Case(
        "v STRING",
        files(NOT_UTF8, names="v"),
        rows=[(1, "ok")],
        quarantined=[("v", "\ufffd", "not UTF-8"), ("v", "\ufffd\ufffd", "not UTF-8")],
    ),
    "text_key": Case(
        "v STRING",
        files(NOT_UTF8, names="v"),
        rows=[(1, "ok")],
        quarantined=[("v", "\ufffd", "not UTF-8"), ("v", "\ufffd\ufffd", "not UTF-8")],
        keys="v",
    ),
    "text_inside": Case(
        "v ARRAY<STRUCT<x: STRING>>",
        files(pa.ListArray.from_arrays([0, 1, 2, 3], pa.StructArray.from_arrays([NOT_UTF8], names=["x"])), names="v"),
        rows=[(1, [{"x": "ok"}])],
        quarantined=[("v", '{"v":[{"x":"\ufffd"}]}', "not UTF-8"), ("v", '{"v":[{"x":"\ufffd\ufffd"}]}', "not UTF-8")],
    ),
    "encoded": Case(
        "v STRING, w STRING",
        files(
            pa.array(["a", "b", None]).dictionary_encode(), pa.array(["x", None, "z"], pa.large_string()), names="v w"
        ),
        rows=[(1, "a", "x"), (2, "b", None), (3, None, "z")],
    ),
    # Several files
    "two_files": Case(
        "v BIGINT, at TIMESTAMP",
        [
            pa.table(
                {"id": [1], "v": pa.array([1], pa.int32()), "at": pa.array([NANOS], pa.timestamp("ns", tz="UTC"))}
            ),
            pa.table({"ID": ["2"], "V": ["2"], "at": pa.nulls(1), "x": pa.array([0], pa.time32("ms"))}),
            pa.table({"id": [3], "v": pa.nulls(1), "at": ["2025-01-01 10:00:00Z"], "X": [True]}),
        ],
        rows=[
            (1, 1, datetime(2025, 1, 1, 10, tzinfo=UTC)),
            (2, 2, None),
            (3, None, datetime(2025, 1, 1, 10, tzinfo=UTC)),
        ],
        note="X, x",
    ),
}


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> list[Project]:
    """The same tables, read by the driver if it can, and by Spark."""
    guard = {"min_rows": 0, "max_quarantined": 1}
    tables = {
        name: {
            "file": f"{name}-*.parquet",
            "format": "parquet",
            "schema": f"id INT, {case.schema}",
            "keys": [case.keys],
            "options": dict(case.options),
            "guard": guard,
        }
        for name, case in CASES.items()
    }
    folder = tmp_path_factory.mktemp("lakes")
    made = []
    for way, tuning in (("driver", {}), ("spark", {"driver_compare_bytes": 0})):
        project = Project(folder / way, tables, tuning=tuning)
        project.document = {"timezone": "America/Sao_Paulo"}
        project.configure()
        source = project.snapshot(STAMP)
        for name, case in CASES.items():
            for number, file in enumerate(case.files):
                is_int96 = b"int96" in (file.schema.metadata or {})
                path = source / f"{name}-{number}.parquet"
                pq.write_table(file, path, use_deprecated_int96_timestamps=is_int96)
        assert project("extract").code == 0
        made.append(project)
    for project in made:
        done = project("ingest")
        assert done.code == 5, [o for o in done.document["outcomes"] if o["code"] not in (0, 5)]
    return made


@pytest.mark.parametrize("way", [0, 1], ids=["driver", "spark"])
@pytest.mark.parametrize("name", CASES)
def test_a_column_is_read_or_refused_by_its_type(lakes: list[Project], name: str, way: int) -> None:
    lake, case = lakes[way], CASES[name]

    (entry,) = lake.ledger(name)
    if case.refused:
        assert (entry["status"], case.refused in entry["reason"]) == ("rejected", True), entry["reason"]
        return
    assert entry["status"] == "accepted", entry["reason"]
    columns = ["id", *(part.split()[0] for part in _top_level(case.schema))]
    assert [tuple(row[c] for c in columns) for row in lake.change_set(entry)] == list(case.rows)
    assert case.note in (entry["reason"] or "") and bool(entry["reason"]) == bool(case.note)
    found = lake("quarantine", name).document["rows"]
    assert sorted(map(_problem, found)) == list(case.quarantined)
    assert entry["quarantined"] == len(case.quarantined)


def _problem(row: Row) -> tuple[str, str, str]:
    return row["column"], row["value"], row["reason"].partition(": ")[2]


def _top_level(schema: str) -> list[str]:
    """Return the columns of a schema whose nested types have no space after a comma at the top level."""
    parts, depth, current = [], 0, ""
    for letter in schema:
        depth += (letter in "<(") - (letter in ">)")
        if letter == "," and not depth:
            parts.append(current)
            current = ""
        else:
            current += letter
    return [*parts, current]


def test_a_file_with_types_of_duckdb_is_read_and_verified(tmp_path: Path) -> None:
    shop = Project(tmp_path)
    shop.configure(format="parquet", file="items.parquet", schema="id STRING, qty INT", guard={"min_rows": 0})
    odd = (
        "uuid() AS u, INTERVAL 1 DAY AS i, TIME '10:00' AS t, map(['a'], [1]) AS m, 1::UBIGINT AS big, '{}'::JSON AS j"
    )
    target = shop.snapshot(STAMP) / "items.parquet"
    duckdb.execute(f"COPY (SELECT 'a' AS id, 1 AS qty, {odd}) TO '{target}' (FORMAT parquet)")

    assert shop.run().code == 0
    assert shop.rows("bronze/items") == [{"id": "a", "qty": 1}]
    assert shop("verify").code == 0
    assert shop("forget", "items", "a").code == 0
    assert shop.rows("bronze/items") == []
