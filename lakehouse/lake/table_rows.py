"""Reads Delta tables of any size in the driver: file by file, without Spark, deletion vectors included.

`small_tables.py` reads all rows of a small table at once. This module leaves the reading to its caller, which may have
a faster way to read a plain Parquet file (`ingest/local/`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyspark.sql import types as T

from lakehouse.lake import delta, small_tables
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath

_BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class TableRows:
    """The rows of one version of a table.

    Attributes:
        names: The columns of the table.
        files: The files with them.
        kept_rows: For files that have deleted rows, which of the rows are left.
    """

    names: frozenset[str] = frozenset()
    files: tuple[StorePath, ...] = ()
    kept_rows: Mapping[str, pa.Array] = field(default_factory=dict)

    @property
    def plain_files(self) -> list[Path]:
        """The files on this machine's disk without deleted rows."""
        return [file for file in self.files if isinstance(file, Path) and file.name not in self.kept_rows]

    def deleted_positions(self, file: StorePath) -> pa.Array | None:
        """Return the positions of the deleted rows of a file, or None if it has none.

        Args:
            file: One of the files.
        """
        kept = self.kept_rows.get(file.name)
        return None if kept is None else pc.indices_nonzero(pc.invert(kept)).cast(pa.int64())

    def batches(self, files: list[StorePath], fields: T.StructType) -> Iterator[pa.RecordBatch]:
        """Yield the rows of some of the files.

        Args:
            files: The files.
            fields: The columns to return; one that a file does not have is null.
        """
        wanted = small_tables.arrow_schema(fields)
        for path in files:
            kept, start = self.kept_rows.get(path.name), 0
            with path.open("rb") as source:
                file = small_tables.open_parquet(source)
                names = set(file.schema_arrow.names)
                for batch in file.iter_batches(_BATCH_ROWS, columns=[n for n in wanted.names if n in names]):
                    rows = pa.RecordBatch.from_arrays(small_tables.columns_of(batch, wanted), schema=wanted)
                    yield rows if kept is None else rows.filter(kept.slice(start, len(rows)))
                    start += len(rows)


def find_rows(address: str, fields: T.StructType, version: int | None = None) -> TableRows | None:
    """Return where the rows of a table are, or None if only Spark can read them.

    Args:
        address: The table's address.
        fields: The columns that are wanted, with the types that they have to have.
        version: The version to read; None: the current one.
    """
    found = delta.data_files(address, version, with_vectors=True)
    return rows_of(address, found, fields) if found else None


def rows_of(address: str, found: delta.DataFiles, fields: T.StructType) -> TableRows | None:
    """Return where the rows of a table are whose files are known, in the order of these files.

    Args:
        address: The table's address.
        found: Its files, those with deletion vectors included.
        fields: The columns that are wanted, with the types that they have to have.

    Returns:
        None if only Spark can read them.
    """
    types = {f.name: f.dataType for f in found.schema}
    if any(types.get(f.name, f.dataType) != f.dataType for f in fields):
        return None
    with_vector = {file.path.name for file in found.listed.files if file.has_vector}
    kept = _kept_rows(address, found.version) if with_vector else {}
    if kept is None or with_vector != kept.keys():
        return None
    files = tuple(file.path for file in found.listed.files)
    try:
        for path in files:
            with path.open("rb") as source:
                small_tables.open_parquet(source)
    except small_tables.UNREADABLE_ERRORS:
        return None
    return TableRows(frozenset(types), files, kept)


def _kept_rows(address: str, version: int) -> dict[str, pa.Array] | None:
    """Return which rows of the files with a deletion vector are left, by the files' names."""
    if not delta.is_plain_path(address):
        return None
    try:
        vectors = DeltaTable(str(file_io.store_path(address)), version=version).deletion_vectors().read_all()
    except (DeltaError, OSError, ValueError):
        return None
    names = [unquote(urlsplit(uri).path).rpartition("/")[2] for uri in vectors.column("filepath").to_pylist()]
    masks = [mask.values for mask in pa.chunked_array(vectors.column("selection_vector"))]
    return dict(zip(names, masks, strict=True))
