"""Rows are found in landed files: the file, the line on which the record begins, the equal one of several."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from lakehouse.config import Table
from lakehouse.ingest.local.locate import Place, locate_rows
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot

CSV = 'id,note\na,x\n"b","y\nz"\n\na,w\nc,\n'
ARRAY = '[\n  {"id": "a",\n   "note": "x"},\n\n  {"id": "b", "note": "y\\nz"}, {"id": "c", "note": null}\n]\n'
LINES = '{"id": "a", "note": "x"}\n\n{"id": "b", "note": "y\\nz"}\n{"id": "c"}\n'


def locate(folder: Path, file_format: str, rows: list[dict[str, Any]], **settings: Any) -> dict[int, Place] | None:
    table = Table.model_validate(
        {"file": "*", "format": file_format, "schema": "id STRING, note STRING", "keys": ["id"], **settings}
    )
    files = tuple(landing.inspect_file(file) for file in sorted(folder.iterdir()))
    snapshot = LandedSnapshot("items", datetime(2025, 1, 1, tzinfo=timezone.utc), folder, files)
    return locate_rows(ReadSettings(cast(SparkSession, None), table, "UTC"), snapshot, rows)


def row(key: str, note: str | None) -> dict[str, Any]:
    return {"id": key, "note": note}


WANTED = [row("a", "x"), row("b", "y\nz"), row("c", None), row("a", "other"), row("d", "x")]


@pytest.mark.parametrize(
    ("file_format", "content", "lines"),
    [("csv", CSV, [2, 3, 7]), ("json", ARRAY, [2, 5, 5]), ("json", LINES, [1, 3, 4])],
    ids=["csv", "array", "lines"],
)
def test_a_row_is_found_by_its_key_and_its_values(
    tmp_path: Path, file_format: str, content: str, lines: list[int]
) -> None:
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    found = locate(tmp_path, file_format, WANTED)
    first, second, third = lines
    assert found == {
        0: Place("a.txt", first, True),
        1: Place("a.txt", second, True),
        2: Place("a.txt", third, True),
        3: Place("a.txt", first, False),
    }


def test_the_equal_row_of_several_files_counts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,note\na,old\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("note,id\nq,b\nx,a\n", encoding="utf-8")
    assert locate(tmp_path, "csv", [row("a", "x")]) == {0: Place("b.csv", 3, True)}


def test_parquet_has_the_number_of_the_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["b", "a"], "note": ["y", "x"]}), tmp_path / "a.parquet")
    assert locate(tmp_path, "parquet", [row("a", "x")]) == {0: Place("a.parquet", 2, True)}


def test_a_personal_key_is_left_to_spark_and_other_personal_columns_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", "k" * 64)
    (tmp_path / "a.csv").write_text("id,note\na,x\n", encoding="utf-8")
    assert locate(tmp_path, "csv", [row("a", "***")], pii={"note": "mask"}) == {0: Place("a.csv", 2, True)}
    assert locate(tmp_path, "csv", [row("a", "x")], pii={"id": "hmac"}) is None


def test_a_row_without_a_key_is_found_by_all_of_its_values(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,note\na,\na,x\na,x\n,\n", encoding="utf-8")
    rows = [{**row("a", "x"), "_cdc_row": "7f", "_cdc_count": 2}, {**row("", None), "_cdc_row": "00", "_cdc_count": 1}]
    rows[1]["id"] = None
    assert locate(tmp_path, "csv", rows, keys="all") == {0: Place("a.csv", 3, True), 1: Place("a.csv", 5, True)}
    assert locate(tmp_path, "csv", rows, keys="all", pii={"note": "mask"}) is None  # the files have it otherwise
