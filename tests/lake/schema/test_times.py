"""Which texts and values are a day or a time, in every format: gaps, repeated hours, days, the years 1 to 9999."""

from __future__ import annotations

import json
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Project

pytestmark = pytest.mark.usefixtures("spark")

STAMP = "20250101_000000"
GUARD = {"max_deleted": 1.0, "max_quarantined": 1.0}
ZONE = "America/Sao_Paulo"  # 2018-11-04 had no 00:00 to 01:00; on 2018-02-17, 23:00 to 24:00 came twice


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)  # type: ignore[arg-type,misc]


# (type, options): texts with the value that they have, or None if they are malformed
CASES: list[tuple[str, dict[str, str], dict[str, Any]]] = [
    (
        "DATE",
        {"dateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX"},
        {
            "2024-12-31T00:00:00-03:00": date(2024, 12, 31),  # a day begins in the zone
            "2025-01-01T00:00:00Z": date(2025, 1, 1),  # a day begins in UTC
            "2024-12-31T23:30:00-03:00": None,
            "2024-12-31T12:00:00Z": None,
        },
    ),
    (
        "DATE",
        {"dateFormat": "dd/MM/yyyy HH:mm"},
        {"31/12/2024 00:00": date(2024, 12, 31), "31/12/2024 12:00": None, "04/11/2018 01:00": date(2018, 11, 4)},
    ),
    ("DATE", {"dateFormat": "[dd/MM/yyyy][yyyy-MM-dd]"}, {"31/12/2024": date(2024, 12, 31), "x": None}),
    (
        "DATE",
        {},
        {"0001-01-01": date(1, 1, 1), "9999-12-31": date(9999, 12, 31), "0000-01-01": None, "2023-02-29": None},
    ),
    (
        "TIMESTAMP",
        {},
        {
            "2018-11-03 23:59:59": utc(2018, 11, 4, 2, 59, 59),
            "2018-11-04 00:30:00": None,  # the zone skips it
            "2018-11-04 01:30:00": utc(2018, 11, 4, 3, 30),
            "2018-11-04": utc(2018, 11, 4, 3),  # a day alone is its first instant
            "2018-02-17 23:30:00": utc(2018, 2, 18, 1, 30),  # the first of two
            "9999-12-31 23:59:59": None,  # the year 10000 in UTC
            "9999-12-31 20:59:59": utc(9999, 12, 31, 23, 59, 59),
            "0001-01-01 00:00:00Z": utc(1, 1, 1),
            "0001-01-01 00:00:00+01:00": None,
        },
    ),
    (
        "TIMESTAMP",
        {"timestampFormat": "dd/MM/yyyy HH:mm"},
        {"04/11/2018 00:30": None, "04/11/2018 01:30": utc(2018, 11, 4, 3, 30)},
    ),
    (
        "TIMESTAMP",
        {"timestampFormat": "dd MMM yyyy HH:mm", "locale": "en-US"},
        {"04 Nov 2018 00:30": None, "04 Nov 2018 01:30": utc(2018, 11, 4, 3, 30)},
    ),
    (
        "TIMESTAMP_NTZ",
        {},
        {
            "2018-11-04 00:30:00": datetime(2018, 11, 4, 0, 30),  # a local time has no gaps
            "2018-11-04 00:30:00Z": None,  # an instant is no local time
            "0000-01-01 00:00:00": None,
        },
    ),
]


# Instants as keys: the hour that the zone skips is no key of the row beside it, whether their values differ or not.
KEYED = ["2018-11-03 23:59:59", "2018-11-04 00:30:00", "2018-11-04 01:30:00"]
KEYED_VALUES = {"differing": [1, 2, 3], "equal": [1, 2, 2]}


@pytest.mark.parametrize("tuning", [{}, {"driver_compare_bytes": 0}], ids=["driver", "spark"])
@pytest.mark.parametrize("file_format", ["csv", "json"])
def test_a_text_is_the_time_that_the_rules_say_or_in_quarantine(
    tmp_path: Path, file_format: str, tuning: dict[str, int]
) -> None:
    tables = {
        f"t{n}": {
            "file": f"t{n}.{file_format}",
            "format": file_format,
            "schema": f"id INT, v {data_type}",
            "keys": ["id"],
            "options": options,
            "guard": GUARD,
        }
        for n, (data_type, options, _) in enumerate(CASES)
    }
    for name in KEYED_VALUES:
        keyed = {"file": f"{name}.{file_format}", "schema": "seen TIMESTAMP, n INT", "keys": ["seen"], "options": {}}
        tables[name] = tables["t0"] | keyed
    project = Project(tmp_path, tables, tuning=tuning)
    project.document = {"timezone": ZONE}
    project.configure()
    folder = project.snapshot(STAMP)
    for name, numbers in KEYED_VALUES.items():
        pairs = list(zip(KEYED, numbers, strict=True))
        lines = ["seen,n", *(f"{seen},{n}" for seen, n in pairs)]
        if file_format == "json":
            lines = ["", *(json.dumps({"seen": seen, "n": n}) for seen, n in pairs)]
        (folder / f"{name}.{file_format}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for n, (_, _, texts) in enumerate(CASES):
        rows = list(enumerate(texts, start=2))
        lines = ["id,v", *(f"{i},{text}" for i, text in rows)]
        if file_format == "json":
            lines = ["", *(json.dumps({"id": i, "v": text}) for i, text in rows)]
        (folder / f"t{n}.{file_format}").write_text("\n".join(lines) + "\n", encoding="utf-8")

    assert project.run().code == 0

    for n, (data_type, options, texts) in enumerate(CASES):
        found = {row["id"]: row["v"] for row in project.rows(f"bronze/t{n}")}
        wanted = {i: value for i, value in enumerate(texts.values(), start=2) if value is not None}
        assert found == wanted, (data_type, options)
        bad = project("quarantine", f"t{n}").document["rows"]
        assert sorted(row["line"] for row in bad) == [i for i, v in enumerate(texts.values(), start=2) if v is None]
    for name, (first, _, last) in KEYED_VALUES.items():
        assert project.rows(f"bronze/{name}") == [
            {"seen": utc(2018, 11, 4, 2, 59, 59), "n": first},
            {"seen": utc(2018, 11, 4, 3, 30), "n": last},
        ]
        assert [row["line"] for row in project("quarantine", name).document["rows"]] == [3]


@pytest.mark.parametrize("tuning", [{}, {"driver_compare_bytes": 0}], ids=["driver", "spark"])
def test_a_time_of_parquet_is_in_the_years_that_every_reader_holds(tmp_path: Path, tuning: dict[str, int]) -> None:
    table = {"file": "t.parquet", "format": "parquet", "keys": ["id"], "guard": GUARD}
    schema = "id INT, day DATE, at TIMESTAMP, local TIMESTAMP"
    project = Project(tmp_path, {"t": {**table, "schema": schema}}, tuning=tuning)
    project.document = {"timezone": ZONE}
    project.configure()
    last = 253_402_300_800_000_000  # the first microsecond of the year 10000
    columns = {
        "id": pa.array([1, 2, 3, 4], pa.int32()),
        "day": pa.array([0, -719_163, 0, 0], pa.int32()).cast(pa.date32()),  # the year 0
        "at": pa.array([0, 0, last, 0], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
        "local": pa.array([datetime(2024, 1, 1)] * 3 + [datetime(2018, 11, 4, 0, 30)], pa.timestamp("us")),
    }
    pq.write_table(pa.table(columns), project.snapshot(STAMP) / "t.parquet")

    assert project.run().code == 0

    assert [row["id"] for row in project.rows("bronze/t")] == [1]
    assert project.rows("bronze/t")[0]["local"] == utc(2024, 1, 1, 3)
    bad = project("quarantine", "t").document["rows"]
    assert sorted(row["column"] for row in bad) == ["at", "day", "local"]


def test_nan_and_infinity_without_quotes_are_no_json(tmp_path: Path) -> None:
    table = {"file": "t.json", "format": "json", "schema": "id INT, v DOUBLE", "keys": ["id"], "guard": GUARD}
    for name, tuning in {"driver": {}, "spark": {"driver_compare_bytes": 0}}.items():
        project = Project(tmp_path / name, {"items": table}, tuning=tuning)
        lines = ['{"id":1,"v":NaN}', '{"id":2,"v":-Infinity}', '{"id":3,"v":1}', '{"id":4,"v":"NaN"}']
        (project.snapshot(STAMP) / "t.json").write_text("\n".join(lines), encoding="utf-8")
        assert project.run().code == 0
        assert [row["id"] for row in project.rows("bronze/items")] == [3, 4]
        assert sorted(row["line"] for row in project.quarantine()) == [1, 2]
