"""Refuses files with rows that are too large, before a reader holds them: a row of a gigabyte ends Spark's JVM.

Landing measures the lines of text files. A Parquet file is measured here: its footer shows most files to be small, and
of the others, the headers of their pages, and the columns that are still in question are read in small batches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.parquet_pages import page_sizes
from lakehouse.text import visible

MAX_ROW_BYTES = 64 << 20
# A text that many rows share is stored once, so that a column may be larger than its file by any factor.
_ALWAYS_ALLOWED_BYTES, _MAX_EXPANSION = 1 << 30, 200
_BATCH_ROWS, _BATCH_BYTES = 1 << 16, 256 << 20
_MAX_PAGE_BYTES = 4 * MAX_ROW_BYTES  # a page has a megabyte, unless its values are large
_PEEKED_ROWS, _FIRST_BYTES = 1 << 10, 1 << 12


def require_moderate_rows(table: Table, snapshot: LandedSnapshot) -> None:
    """Raise if a file has a row that is too large, or a column that is much larger than the file.

    The elements of a JSON array that is one line are measured when it is split.

    Args:
        table: The table's configuration.
        snapshot: The snapshot, with files that can be read.

    Raises:
        DataRefused: With the size, the limit and the place.
    """
    for file, path in zip(snapshot.files, snapshot.paths, strict=True):
        if table.format == "parquet":
            parquet_batch_rows(path, [column.name for column in table.columns_in_files])
        elif file.longest_line > MAX_ROW_BYTES and not (table.format == "json" and _is_array(path)):
            raise too_large(f"{path.name} has a line of {file.longest_line:,} bytes", str(path))


def too_large(found: str, where: str) -> DataRefused:
    """Return the refusal of a row that is too large."""
    return DataRefused(
        found,
        expected=f"rows of at most {MAX_ROW_BYTES:,} bytes",
        where=where,
        next_step="look at the file: its line ends may be missing; and large documents belong in files of their own",
    )


def _is_array(path: StorePath) -> bool:
    with path.open("rb") as source:
        return source.read(_FIRST_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


# --- Parquet --------------------------------------------------------------------------------------------------------


def parquet_batch_rows(path: StorePath, names: Collection[str] | None = None) -> int:
    """Return the number of rows of a Parquet file that a batch may have, so that its columns fit in memory.

    Args:
        path: The file.
        names: The columns that are read, in any case; None: all.

    Raises:
        DataRefused: A column has a row that is too large, or is much larger than the file.
    """
    wanted = None if names is None else {name.lower() for name in names}
    longest, sizes = 1, dict[str, int]()
    try:
        with path.open("rb") as source:
            file_bytes = source.seek(0, 2)
            file = pq.ParquetFile(source)
            for group, name, chunk in _text_chunks(file, wanted):
                is_large = chunk.total_uncompressed_size > MAX_ROW_BYTES and _has_large_page(source, chunk, name)
                shared = _longest_shared_value(source, group, chunk)
                is_nested = chunk.path_in_schema != name
                if not is_nested and chunk.num_values * shared > _BATCH_BYTES:
                    longest = max(longest, shared)
                # A nested row has any number of values, on any number of pages.
                is_large = is_large or (is_nested and chunk.total_uncompressed_size > MAX_ROW_BYTES)
                if is_large or chunk.num_values * shared > (MAX_ROW_BYTES if is_nested else _BATCH_BYTES):
                    sizes[name] = sizes.get(name, 0) + _measure(source, group, chunk, f"{path.name}: {visible(name)}")
    except DataRefused as refused:
        refused.where = str(path)
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk or the network, not of the file
            raise
        return _BATCH_ROWS  # the reader of the file reports what is wrong
    limit = max(_ALWAYS_ALLOWED_BYTES, _MAX_EXPANSION * file_bytes)
    for name, size in sizes.items():
        if size > limit:
            raise DataRefused(
                f"the column {visible(name)} has {size:,} bytes, in a file of {file_bytes:,}",
                expected=f"at most {_ALWAYS_ALLOWED_BYTES:,} bytes, or {_MAX_EXPANSION} times those of the file",
                where=str(path),
                next_step="have the source deliver it again, with a time of its own",
            )
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // longest))


def _text_chunks(file: pq.ParquetFile, wanted: set[str] | None) -> Iterator[tuple[int, str, pq.ColumnChunkMetaData]]:
    """Yield the chunks of the wanted columns whose values have no fixed length: row group, column and chunk."""
    fields = [field.name for field in file.schema_arrow for _ in range(count_leaves(field.type))]
    leaves = [(n, name) for n, name in enumerate(fields) if wanted is None or name.lower() in wanted]
    texts = [(n, name) for n, name in leaves if file.schema.column(n).physical_type == "BYTE_ARRAY"]
    for group in range(file.metadata.num_row_groups):
        row_group = file.metadata.row_group(group)
        yield from ((group, name, row_group.column(n)) for n, name in texts)


def _has_large_page(source: IO[bytes], chunk: pq.ColumnChunkMetaData, name: str) -> bool:
    """Return whether a page of a chunk may have a value that is too large.

    Raises:
        DataRefused: A page is too large for a reader, which unpacks it at once; or its size cannot be read.
    """
    try:
        largest = max(page_sizes(source, chunk), default=0)
    except ValueError as error:
        raise DataRefused(
            f"the sizes of the pages cannot be read in the column {visible(name)}: {error}",
            expected="a complete Parquet file",
            next_step="have the source deliver it again, with a time of its own",
        ) from error
    if largest > _MAX_PAGE_BYTES:
        raise too_large(f"a page has {largest:,} bytes in the column {visible(name)}", "")
    return largest > MAX_ROW_BYTES


def _longest_shared_value(source: IO[bytes], group: int, chunk: pq.ColumnChunkMetaData) -> int:
    """Return the length of the longest value that several rows may share, which a chunk then has once; 0 if none is."""
    if not chunk.has_dictionary_page or chunk.num_values * chunk.total_uncompressed_size <= MAX_ROW_BYTES:
        return 0
    for values in map(_leaf, _batches(source, group, chunk, _PEEKED_ROWS)):
        if pa.types.is_dictionary(values.type) and len(values.dictionary):
            return pc.max(pc.binary_length(values.dictionary)).as_py() or 0
    return 0


def _measure(source: IO[bytes], group: int, chunk: pq.ColumnChunkMetaData, name: str) -> int:
    """Return the bytes of all values of a chunk.

    Raises:
        DataRefused: Those of one row are too many.
    """
    total, average = 0, chunk.total_uncompressed_size // max(1, chunk.num_values)
    for batch in _batches(source, group, chunk, max(1, min(_BATCH_ROWS, MAX_ROW_BYTES // max(1, average)))):
        of_batch = _count_bytes(batch)
        of_row = (
            max((_count_bytes(batch.slice(n, 1)) for n in range(len(batch))), default=0)
            if of_batch > MAX_ROW_BYTES
            else 0
        )
        if of_row > MAX_ROW_BYTES:
            raise too_large(f"a row has {of_row:,} bytes in {name}", "")
        total += of_batch
    return total


def _batches(source: IO[bytes], group: int, chunk: pq.ColumnChunkMetaData, rows: int) -> Iterator[pa.Array]:
    """Yield the values of a chunk in arrays of so many rows, in which a value that rows share is there once."""
    path = chunk.path_in_schema
    file = pq.ParquetFile(source, read_dictionary=[path] if chunk.has_dictionary_page else None)
    yield from (batch.column(0) for batch in file.iter_batches(rows, row_groups=[group], columns=[path]))


def _count_bytes(values: pa.Array) -> int:
    values = _leaf(values)
    if not pa.types.is_dictionary(values.type):
        return int(values.nbytes)
    return pc.sum(pc.take(pc.binary_length(values.dictionary), values.indices)).as_py() or 0


def _leaf(values: pa.Array) -> pa.Array:
    """Return the plain values in a column of one leaf."""
    while pa.types.is_nested(values.type) and not pa.types.is_map(values.type):
        values = values.flatten()[0] if pa.types.is_struct(values.type) else values.flatten()
    return values


def count_leaves(arrow_type: pa.DataType) -> int:
    """Return the number of columns of plain values that a type consists of.

    Args:
        arrow_type: The type of a column.
    """
    if isinstance(arrow_type, pa.BaseExtensionType):
        return count_leaves(arrow_type.storage_type)
    if pa.types.is_dictionary(arrow_type):
        return count_leaves(arrow_type.value_type)
    if not pa.types.is_nested(arrow_type):
        return 1
    return sum(count_leaves(arrow_type.field(n).type) for n in range(arrow_type.num_fields))
