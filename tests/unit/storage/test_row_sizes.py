"""Tests which Parquet files are refused because of the size of their rows."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import DataRefused
from lakehouse.storage import row_sizes
from lakehouse.storage.parquet_pages import page_sizes

MEGABYTE = "x" * (1 << 20)
LARGE = "x" * (row_sizes.MAX_ROW_BYTES + 1)
MANY = 1 << 16


def repeated(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [text])


def batch_rows(folder: Path, columns: dict[str, Any], **options: Any) -> int:
    table = pa.table({"id": pa.array(range(len(next(iter(columns.values())))))} | columns)
    pq.write_table(table, folder / "t.parquet", **options)
    return row_sizes.parquet_batch_rows(folder / "t.parquet", ["ID", "V"])


@pytest.mark.parametrize("use_dictionary", [True, False])
@pytest.mark.parametrize(
    "column",
    [
        ["a", LARGE, "b"],
        [b"a", LARGE.encode(), None],
        [["a"], [MEGABYTE] * 65, None],  # no value is large, and the row is
        [None, {"x": 1, "y": LARGE}, {"x": 2, "y": "b"}],
        [*["small"] * MANY, LARGE],
    ],
    ids=["text", "bytes", "array", "struct", "the last of many"],
)
def test_a_row_that_is_too_large_is_refused_with_its_size_and_column(
    tmp_path: Path, column: list[Any], use_dictionary: bool
) -> None:
    with pytest.raises(DataRefused) as refused:
        batch_rows(tmp_path, {"v": column}, use_dictionary=use_dictionary)

    assert refused.value.found.startswith("a row has ") and refused.value.found.endswith(" bytes in t.parquet: v")
    assert refused.value.where == str(tmp_path / "t.parquet")
    assert len(refused.value.to_text()) < 1_000


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ({"v": [MEGABYTE] * 70}, MANY),  # a chunk of 70 MB by its values
        ({"v": [f"{n:09}" + "x" * 1_000 for n in range(MANY)]}, MANY),
        ({"v": ["a"], "w": [LARGE]}, MANY),  # nobody reads `w`
        ({"v": ["a", None] * MANY}, MANY),
        ({"v": repeated(MEGABYTE[: 1 << 19], 1_200)}, 512),  # 600 MB, of which a batch has 256
        ({"v": [[1]] * 10}, MANY),
    ],
    ids=["large in sum", "many", "not read", "nulls", "shared", "no text"],
)
def test_any_other_file_is_read_in_batches_that_fit_in_memory(
    tmp_path: Path, columns: dict[str, Any], rows: int
) -> None:
    assert batch_rows(tmp_path, columns) == rows


def test_a_small_file_that_stands_for_gigabytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused) as refused:
        batch_rows(tmp_path, {"v": repeated(MEGABYTE[: 1 << 19], 2_200)})

    assert (tmp_path / "t.parquet").stat().st_size < 100_000
    assert f"the column v has {1_100 << 20:,} bytes" in refused.value.found


@pytest.mark.parametrize("use_dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_page_that_no_reader_should_unpack_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_dictionary: bool, version: str
) -> None:
    columns = {"v": ["a", "b", LARGE * 4 + "x"]}
    monkeypatch.setattr(row_sizes, "_batches", lambda *_: pytest.fail("the page is unpacked"))
    with pytest.raises(DataRefused) as refused:
        batch_rows(tmp_path, columns, use_dictionary=use_dictionary, data_page_version=version)

    assert refused.value.found.startswith("a page has 268,4")


@pytest.mark.parametrize("use_dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
def test_the_headers_of_pages_are_read_as_they_were_written(
    tmp_path: Path, use_dictionary: bool, version: str, compression: str
) -> None:
    """The pages of a chunk are as large together as the footer says, with their headers."""
    table = pa.table({"v": [f"{n % 5_000:06}" * (n % 7) for n in range(200_000)], "n": list(range(200_000))})
    pq.write_table(
        table,
        tmp_path / "t.parquet",
        use_dictionary=use_dictionary,
        data_page_version=version,
        compression=compression,
        data_page_size=10_000,
        row_group_size=90_000,
        write_page_checksum=True,
    )
    with (tmp_path / "t.parquet").open("rb") as source:
        file = pq.ParquetFile(source)
        for group in range(3):
            for column in range(2):
                chunk = file.metadata.row_group(group).column(column)
                sizes = list(page_sizes(source, chunk))
                headers = chunk.total_uncompressed_size - sum(sizes)
                assert len(sizes) > 1 and 0 < headers < 150 * len(sizes)


@given(st.binary(max_size=60))
def test_any_header_ends_in_a_size_or_an_error(content: bytes) -> None:
    chunk = SimpleNamespace(dictionary_page_offset=None, data_page_offset=4, total_compressed_size=len(content))
    with suppress(ValueError):
        assert all(size >= 0 for size in page_sizes(io.BytesIO(b"PAR1" + content), chunk))  # type: ignore[arg-type]


def test_what_is_no_parquet_file_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no footer")

    assert row_sizes.parquet_batch_rows(tmp_path / "t.parquet") == MANY
