"""Tests which Parquet files are refused because of the size of their rows. No JVM: nothing is read by Spark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers import row_sizes

MEGABYTE = "x" * (1 << 20)
LARGE = "x" * (row_sizes.MAX_ROW_BYTES + 1)
MANY = 1 << 16


def configured(schema: str) -> Table:
    return Table.model_validate({"file": "t.parquet", "format": "parquet", "schema": schema, "keys": ["id"]})


def repeated(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [text])


def batch_rows(folder: Path, schema: str, columns: dict[str, Any], **options: Any) -> int:
    table = pa.table({"id": pa.array(range(len(next(iter(columns.values())))))} | columns)
    pq.write_table(table, folder / "t.parquet", **options)
    return row_sizes.parquet_batch_rows(configured(f"id BIGINT, {schema}"), folder / "t.parquet")


@pytest.mark.parametrize("use_dictionary", [True, False])
@pytest.mark.parametrize(
    ("schema", "column"),
    [
        ("v STRING", ["a", LARGE, "b"]),
        ("v BINARY", [b"a", LARGE.encode(), None]),
        ("v ARRAY<STRING>", [["a"], [MEGABYTE] * 65, None]),  # no value is large, and the row is
        ("v STRUCT<x: INT, y: STRING>", [None, {"x": 1, "y": LARGE}, {"x": 2, "y": "b"}]),
        ("v STRING", [*["small"] * MANY, LARGE]),
    ],
)
def test_a_row_that_is_too_large_is_refused_with_its_size_and_column(
    tmp_path: Path, schema: str, column: list[Any], use_dictionary: bool
) -> None:
    with pytest.raises(DataRefused) as refused:
        batch_rows(tmp_path, schema, {"v": column}, use_dictionary=use_dictionary)

    assert refused.value.found.startswith("a row has ") and refused.value.found.endswith(" bytes in t.parquet: v")
    assert len(refused.value.to_text()) < 1_000


@pytest.mark.parametrize(
    ("schema", "columns", "rows"),
    [
        ("v STRING", {"v": [MEGABYTE] * 70}, MANY),  # a chunk of 70 MB by its values
        ("v STRING", {"v": [f"{n:09}" + "x" * 1_000 for n in range(MANY)]}, MANY),
        ("v STRING", {"v": ["a"], "w": [LARGE]}, MANY),  # nobody reads `w`
        ("v STRING", {"v": ["a", None] * MANY}, MANY),
        ("v STRING", {"v": repeated(MEGABYTE[: 1 << 19], 1_200)}, 512),  # 600 MB, of which a batch has 256
        ("v ARRAY<INT>", {"v": [[1]] * 10}, MANY),
    ],
)
def test_any_other_file_is_read_in_batches_that_fit_in_memory(
    tmp_path: Path, schema: str, columns: dict[str, Any], rows: int
) -> None:
    assert batch_rows(tmp_path, schema, columns) == rows


def test_a_small_file_that_stands_for_gigabytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused) as refused:
        batch_rows(tmp_path, "v STRING", {"v": repeated(MEGABYTE[: 1 << 19], 2_200)})

    assert (tmp_path / "t.parquet").stat().st_size < 100_000
    assert f"the column v has {1_100 << 20:,} bytes" in refused.value.found


def test_what_is_no_parquet_file_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no footer")

    assert row_sizes.parquet_batch_rows(configured("id BIGINT"), tmp_path / "t.parquet") == MANY
