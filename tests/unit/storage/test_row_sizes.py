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


def varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


SIZES = b"\x15\0\x15" + varint(2 * 300) + b"\x15" + varint(2 * 10)  # kind, unpacked and packed: fields 1 to 3
HEADERS = {  # the fields that follow the sizes
    "plain": b"",
    "a large text": b"\x2c\x18" + varint(20 << 20) + b"x" * (20 << 20) + b"\0",
    "a map": b"\x1b\x02\x58" + b"\x02\x01a" + b"\x04\x01b",
    "an empty map": b"\x1b\0",
    "lists": b"\x19\x31\1\2\1" + b"\x19\xf7" + varint(100) + b"d" * 800 + b"\x19\x28\1a\1b",
    "many levels": b"\x1c" * 50 + b"\0" * 50,
}
BROKEN = {
    "a text that never ends": b"\x18" + varint(1 << 62),
    "truths that never end": b"\x19\xf1" + varint(1 << 62),
    "numbers that never end": b"\x19\xf7" + varint(1 << 62),
    "texts that never end": b"\x19\xf8" + varint(1 << 62) + b"\0" * (1 << 21),
    "levels that never end": b"\x1c" * 5_000,
    "no type": b"\x1d",
}


class CountingFile(io.BytesIO):
    """A file in memory that counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.count += len(content)
        return content


def sizes_in(content: bytes) -> tuple[list[int], int]:
    """Return the sizes of the pages of a chunk, and how many bytes were read."""
    chunk = SimpleNamespace(dictionary_page_offset=None, data_page_offset=4, total_compressed_size=len(content))
    source = CountingFile(b"PAR1" + content + b"rest of the file")
    return list(page_sizes(source, chunk)), source.count  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", HEADERS.values(), ids=HEADERS)
def test_a_header_of_any_size_is_read_without_its_texts(fields: bytes) -> None:
    sizes, read = sizes_in((SIZES + fields + b"\0" + b"0123456789") * 2)

    assert (sizes, read < 500) == ([300, 300], True)


@pytest.mark.parametrize("fields", BROKEN.values(), ids=BROKEN)
def test_a_header_without_an_end_is_refused_at_once(fields: bytes) -> None:
    with pytest.raises(ValueError, match=r"header|type"):
        sizes_in(SIZES + fields)


def test_a_column_whose_pages_have_no_sizes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"v": [MEGABYTE] * 70}), tmp_path / "t.parquet", use_dictionary=False)
    start = pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(0).column(0).data_page_offset
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(content[:start] + b"\x1c" * 100 + content[start + 100 :])

    with pytest.raises(DataRefused, match="the sizes of the pages cannot be read in the column v: a header with"):
        row_sizes.parquet_batch_rows(tmp_path / "t.parquet")


@given(st.binary(max_size=60))
def test_any_header_ends_in_a_size_or_an_error(content: bytes) -> None:
    chunk = SimpleNamespace(dictionary_page_offset=None, data_page_offset=4, total_compressed_size=len(content))
    with suppress(ValueError):
        assert all(size >= 0 for size in page_sizes(io.BytesIO(b"PAR1" + content), chunk))  # type: ignore[arg-type]


def test_what_is_no_parquet_file_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no footer")

    assert row_sizes.parquet_batch_rows(tmp_path / "t.parquet") == MANY
