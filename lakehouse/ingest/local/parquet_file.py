"""Reads a landed Parquet file in the driver with PyArrow: columns of the declared type, and text."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import types as T

from lakehouse.ingest.local.errors import NeedsSparkError
from lakehouse.ingest.local.local_file import LocalColumn, LocalFile, column_of_name
from lakehouse.ingest.local.sql_casts import cast_sql, in_range_sql
from lakehouse.ingest.readers import parquet_reader
from lakehouse.ingest.readers.parquet_footer import FileColumn, read_footer
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake import small_tables
from lakehouse.lake.duckdb_sql import literal
from lakehouse.schema.cast import type_fault
from lakehouse.storage import row_sizes
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.landing import LandedFile


def open_file(settings: ReadSettings, file: LandedFile, path: StorePath) -> LocalFile:
    """Return the rows of a Parquet file.

    Args:
        settings: The reader's settings.
        file: The file as landed.
        path: Where it is.

    Raises:
        DataRefused: A column is missing or occurs twice.
        NeedsSparkError: The file or the schema has types that only Spark reads, or the file cannot be read.
    """
    if settings.table.options.keys() - {"locale", "dateFormat", "timestampFormat", "timestampNTZFormat"}:
        raise NeedsSparkError
    footer = read_footer(path)
    batch_rows = row_sizes.parquet_batch_rows(path, settings.names_in_files.values())
    if any(key in footer.metadata for key in small_tables.LEGACY_CALENDAR):
        raise NeedsSparkError
    located, in_name = parquet_reader.locate_columns(settings, path, footer.columns), settings.name_texts(file)
    wanted = small_tables.arrow_schema(settings.declared)
    columns: dict[str, LocalColumn] = {}
    fields: list[tuple[str | None, pa.DataType]] = []
    for n, declared in enumerate(settings.declared):
        if declared.name in in_name:
            columns[declared.name] = column_of_name(settings, n, declared.dataType, in_name[declared.name])
            fields.append((None, wanted.field(n).type))
            continue
        column = located.get(declared.name)
        found = _read_type(column, declared.dataType, wanted.field(n).type, settings.time_zone)
        columns[declared.name] = _column_sql(settings, n, declared.dataType, found, wanted.field(n).type)
        has_values = column is not None and not pa.types.is_null(column.arrow_type)
        fields.append((column.name if column and has_values else None, found))
    return LocalFile(
        columns,
        lambda: _read(path, fields, batch_rows),
        _received,
        unknown_columns=parquet_reader.unknown_columns(settings, footer.columns),
        missing_columns=frozenset(settings.names_in_files).difference(located),
        in_name=in_name,
    )


def _read_type(column: FileColumn | None, data_type: T.DataType, wanted: pa.DataType, time_zone: str) -> pa.DataType:
    """Return the type to read a column as: its own, or the wanted one if all of its values have it, or null."""
    if column is None or pa.types.is_null(column.arrow_type):
        return wanted
    found = column.arrow_type
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_large_string(found) or pa.types.is_string_view(found):
        return pa.string()
    if not pa.types.is_timestamp(found) or column.is_int96:
        return found
    # A time of another unit is the same time. One without a zone is an instant of the pipeline's.
    is_instant = bool(found.tz) or time_zone == "UTC"
    if isinstance(data_type, T.TimestampType):
        return wanted if is_instant else found
    return wanted if isinstance(data_type, T.TimestampNTZType) and not found.tz else found


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


def _read(path: StorePath, fields: list[tuple[str | None, pa.DataType]], batch_rows: int) -> Iterator[pa.RecordBatch]:
    names = [name for name, _ in fields if name]
    try:
        with path.open("rb") as source:
            for batch in pq.ParquetFile(source).iter_batches(batch_rows, columns=names):
                arrays = [_read_array(batch, name, found) for name, found in fields]
                yield pa.RecordBatch.from_arrays(arrays, names=[f"c{n}" for n in range(len(arrays))])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise NeedsSparkError from error


def _read_array(batch: pa.RecordBatch, name: str | None, found: pa.DataType) -> pa.Array:
    """Return a column of a batch.

    Raises:
        ArrowException: A time is no whole microsecond, or text is not UTF-8.
    """
    if name is None:
        return pa.nulls(len(batch), pa.timestamp("us") if pa.types.is_timestamp(found) else found)
    array = batch.column(name)
    if pa.types.is_timestamp(found):  # an instant is a TIMESTAMP in UTC here
        return array.cast(pa.timestamp("us"))
    array = array.cast(found) if array.type != found else array
    if pa.types.is_string(found):
        array.validate(full=True)
    return array


def _received(rows: Collection[int]) -> dict[int, str]:
    """Leave rows to quarantine to Spark, which writes them as JSON."""
    if rows:
        raise NeedsSparkError
    return {}
