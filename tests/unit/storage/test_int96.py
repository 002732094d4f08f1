"""Instants in Parquet's oldest notation that are no whole microsecond become text, in which no digit is lost."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.storage import int96

NANOS = 1_735_725_600_000_000_000  # 2025-01-01 10:00:00 UTC


def write(path: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), path, use_deprecated_int96_timestamps=True, row_group_size=2)
    return path


def test_all_columns_of_a_file_with_such_an_instant_are_text(tmp_path: Path) -> None:
    at = pa.array([NANOS, None, NANOS + 1_000, -1], pa.timestamp("ns"))
    other = pa.array([0, -1_000, None, 0], pa.timestamp("ns"))
    file = write(
        tmp_path / "a.parquet", id=pa.array([1, 2, 3, 4]), at=at, other=other, inside=pa.array([["x"], []] * 2)
    )

    assert int96.has_int96(file)
    assert int96.rewrite(file, tmp_path / "b.parquet")

    copy = pq.read_table(tmp_path / "b.parquet")
    assert copy.column("at").to_pylist() == [
        "2025-01-01 10:00:00.000000Z",
        None,
        "2025-01-01 10:00:00.000001Z",
        "1969-12-31 23:59:59.999999999Z",
    ]
    assert copy.column("other").to_pylist()[:2] == ["1970-01-01 00:00:00.000000Z", "1969-12-31 23:59:59.999999Z"]
    assert copy.drop_columns(["at", "other"]) == pq.read_table(file, columns=["id", "inside"])


def test_whole_microseconds_of_any_year_stay_as_they_are(tmp_path: Path) -> None:
    times = [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999), None]  # nanoseconds overflow here
    file = write(tmp_path / "a.parquet", at=pa.array(times, pa.timestamp("us")))

    assert int96.has_int96(file)
    assert not int96.rewrite(file, tmp_path / "b.parquet")
    assert not (tmp_path / "b.parquet").exists()


def test_other_files_have_none(tmp_path: Path) -> None:
    pq.write_table(pa.table({"at": pa.array([1], pa.timestamp("us"))}), tmp_path / "a.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    (tmp_path / "empty.parquet").write_bytes(b"")

    assert [int96.has_int96(tmp_path / name) for name in ("a.parquet", "cut.parquet", "empty.parquet")] == [False] * 3
