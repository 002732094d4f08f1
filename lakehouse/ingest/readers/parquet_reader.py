"""Reads landed Parquet files: a column is taken if it has the declared type or becomes it without loss."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers.parsed_file import ParsedField, ParsedFile, ReadSettings
from lakehouse.schema import dates
from lakehouse.schema.cast import cast_text, type_fault
from lakehouse.storage.file_io import StorePath, escape_glob
from lakehouse.storage.landing import LandedFile


def parse_file(settings: ReadSettings, file: LandedFile, path: StorePath) -> ParsedFile:
    """Parse a Parquet file into fields.

    Args:
        settings: The reader's settings.
        file: The file as landed.
        path: Where it is.

    Raises:
        DataRefused: A column is missing, occurs twice, or has a type that cannot become the declared one.
    """
    rows = settings.spark.read.options(**settings.table.options).parquet(escape_glob(path))
    by_lower_name, names = locate_columns(settings, path, rows.columns), settings.names_in_files
    absent = [column for column, name in names.items() if name.lower() not in by_lower_name]
    columns = {}
    for field in settings.declared:
        name = by_lower_name.get(names[field.name].lower())
        file_type = rows.schema[name].dataType if name else field.dataType
        column = F.col(quote_identifier(name)) if name else F.lit(None).cast(field.dataType)
        columns[field.name] = _parse_field(settings, column, file_type, field, path)
    full_row = F.struct(*[F.col(quote_identifier(c)) for c in rows.columns])
    known = {name.lower() for name in names.values()}
    return ParsedFile(
        rows=rows,
        columns=columns,
        received_json=F.to_json(full_row, {"ignoreNullFields": "false"}),
        row_error=None,
        raw_record=F.lit(None).cast("string"),
        unknown_columns=tuple(name for low, name in by_lower_name.items() if low not in known),
        missing_columns=frozenset(absent),
    )


def locate_columns(settings: ReadSettings, path: StorePath, found: list[str]) -> dict[str, str]:
    """Return the columns of a file, by their names in lower case.

    Args:
        settings: The reader's settings.
        path: The file.
        found: Its columns.

    Raises:
        DataRefused: A column is missing or occurs twice.
    """
    by_lower_name, names = {name.lower(): name for name in found}, settings.names_in_files
    missing = [
        name
        for column, name in names.items()
        if name.lower() not in by_lower_name and column not in settings.optional_columns
    ]
    if missing or len(by_lower_name) < len(found):
        raise DataRefused(
            f"{path.name} has no column {', '.join(missing)}" if missing else f"{path.name} has a column twice",
            expected=f"the columns {', '.join(names.values())}; the file has {', '.join(found)}",
            where=str(path),
            next_step="correct the source, or the table's `names` if the source's columns were renamed",
        )
    return by_lower_name


def _parse_field(
    settings: ReadSettings, column: Column, file_type: T.DataType, field: T.StructField, path: StorePath
) -> ParsedField:
    wanted = field.dataType
    is_nested = isinstance(file_type, T.ArrayType | T.StructType)
    text = F.to_json(F.struct(column)) if is_nested else column.cast("string")
    if file_type.simpleString() == wanted.simpleString():  # equal, whether or not null is allowed inside
        value = dates.in_range(column, wanted)
        fault = F.lit(type_fault(wanted, settings.table.options))
        return ParsedField(text, value, F.when(column.isNotNull() & value.isNull(), fault))
    if isinstance(file_type, T.StringType):
        return ParsedField(column, *cast_text(column, wanted, settings.time_zone, settings.table.options))
    if isinstance(file_type, T.TimestampNTZType) and isinstance(wanted, T.TimestampType):
        value = dates.in_range(dates.local_to_instant(column.cast("timestamp"), settings.time_zone), wanted)
        fault = F.lit(type_fault(wanted, settings.table.options))
        return ParsedField(text, value, F.when(column.isNotNull() & value.isNull(), fault))
    if isinstance(file_type, T.NumericType) and isinstance(wanted, T.NumericType):
        cast = column.try_cast(wanted)
        is_lossless = column.eqNullSafe(cast.try_cast(file_type)) | F.isnan(column.cast("double"))
        value = F.when(is_lossless, cast)
        reason = F.when(column.isNotNull() & value.isNull(), F.lit(f"does not fit {wanted.simpleString().upper()}"))
        return ParsedField(text, value, reason)
    raise DataRefused(
        f"the column is {file_type.simpleString().upper()}",
        expected=wanted.simpleString().upper(),
        where=f"{path}: {field.name}",
        next_step="declare the file's type in the table's schema",
    )


def copy_without(path: Path, target: Path, excluded: set[int], metadata: dict[str, str] | None = None) -> None:
    """Copy a file without some of its rows, one row group at a time.

    Args:
        path: The file.
        target: The copy.
        excluded: The positions of the rows to leave out.
        metadata: Entries to replace in the file's own metadata.
    """
    file = pq.ParquetFile(path)
    schema = file.schema_arrow
    if metadata:
        schema = schema.with_metadata({**(schema.metadata or {}), **metadata})
    physical_types = [file.schema.column(n).physical_type for n in range(len(file.schema))]
    codec = file.metadata.row_group(0).column(0).compression.lower() if file.metadata.num_row_groups else "snappy"
    with pq.ParquetWriter(
        target,
        schema,
        compression="none" if codec == "uncompressed" else codec,
        use_deprecated_int96_timestamps="INT96" in physical_types,
    ) as out:
        first_position = 0
        for number in range(file.metadata.num_row_groups):
            rows = file.read_row_group(number)
            remaining = pa.array([first_position + n not in excluded for n in range(rows.num_rows)], pa.bool_())
            first_position += rows.num_rows
            out.write_table(rows.filter(remaining).replace_schema_metadata(schema.metadata))
