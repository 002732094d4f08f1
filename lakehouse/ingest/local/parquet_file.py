"""Reads a landed Parquet file in the driver with PyArrow: columns of the declared type, and text."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import types as T

from lakehouse.ingest.local.errors import NeedsSparkError
from lakehouse.ingest.local.local_file import LocalColumn, LocalFile
from lakehouse.ingest.local.sql_casts import cast_sql, in_range_sql
from lakehouse.ingest.readers import parquet_reader
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake import small_tables
from lakehouse.lake.duckdb_sql import literal
from lakehouse.schema.cast import type_fault
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.landing import LandedFile

_BATCH_ROWS = 1 << 16


def open_file(settings: ReadSettings, _: LandedFile, path: StorePath) -> LocalFile:
    """Return the rows of a Parquet file.

    Args:
        settings: The reader's settings.
        path: Where the file is.

    Raises:
        DataRefused: A column is missing or occurs twice.
        NeedsSparkError: The file or the schema has types that only Spark reads, or the file cannot be read.
    """
    if settings.table.options.keys() - {"locale", "dateFormat", "timestampFormat", "timestampNTZFormat"}:
        raise NeedsSparkError
    try:
        with path.open("rb") as source:
            file = pq.ParquetFile(source)
            schema, metadata = file.schema_arrow, file.metadata.metadata or {}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise NeedsSparkError from error
    if any(key in metadata for key in small_tables.LEGACY_CALENDAR):
        raise NeedsSparkError
    by_lower_name = parquet_reader.locate_columns(settings, path, schema.names)
    wanted = small_tables.arrow_schema(settings.declared)
    columns, fields = {}, []
    for n, declared in enumerate(settings.declared):
        name = by_lower_name.get(settings.names_in_files[declared.name].lower())
        found = schema.field(name).type if name else wanted.field(n).type
        columns[declared.name] = _column_sql(settings, n, declared.dataType, found, wanted.field(n).type)
        fields.append((name, found))
    return LocalFile(
        columns,
        lambda: _read(path, fields),
        _received,
        unknown_columns=tuple(
            name for name in schema.names if name.lower() not in {n.lower() for n in settings.names_in_files.values()}
        ),
        missing_columns=frozenset(f.name for f, (name, _) in zip(settings.declared, fields, strict=True) if not name),
    )


def _column_sql(
    settings: ReadSettings, n: int, data_type: T.DataType, found: pa.DataType, wanted: pa.DataType
) -> LocalColumn:
    text, options = f"c{n}", settings.table.options
    fault = f"CASE WHEN v{n} IS NULL AND {text} IS NOT NULL THEN {literal(type_fault(data_type, options))} END"
    if found == wanted and not pa.types.is_nested(found):
        return LocalColumn(text, in_range_sql(text, data_type), fault)
    cast = cast_sql(text, data_type, settings.time_zone, options) if pa.types.is_string(found) else None
    if cast is None:
        raise NeedsSparkError
    return LocalColumn(text, in_range_sql(cast, data_type), fault)


def _read(path: StorePath, fields: list[tuple[str | None, pa.DataType]]) -> Iterator[pa.RecordBatch]:
    names = [name for name, _ in fields if name]
    try:
        with path.open("rb") as source:
            for batch in pq.ParquetFile(source).iter_batches(_BATCH_ROWS, columns=names):
                arrays = [batch.column(name) if name else pa.nulls(len(batch), found) for name, found in fields]
                for array in arrays:
                    if pa.types.is_string(array.type):
                        array.validate(full=True)  # text that is not UTF-8
                # An instant is a TIMESTAMP in UTC here.
                plain = [a.cast(pa.timestamp("us")) if pa.types.is_timestamp(a.type) else a for a in arrays]
                yield pa.RecordBatch.from_arrays(plain, names=[f"c{n}" for n in range(len(plain))])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise NeedsSparkError from error


def _received(rows: Collection[int]) -> dict[int, str]:
    """Leave rows to quarantine to Spark, which writes them as JSON."""
    if rows:
        raise NeedsSparkError
    return {}
