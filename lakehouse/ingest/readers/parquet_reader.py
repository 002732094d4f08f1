"""Parquet: columns as the file types them, taken where that is the declared type or loses nothing on the way to it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers.fields import ParsedField, ParsedFile, names_in_files
from lakehouse.schema.cast import cast_text
from lakehouse.storage.file_io import StorePath, escape_glob
from lakehouse.storage.landing import LandedFile


def parse_file(
    spark: SparkSession,
    table: Table,
    declared: T.StructType,
    file: LandedFile,
    path: StorePath,
    time_zone: str,
    optional_columns: frozenset[str],
) -> ParsedFile:
    """A Parquet file as fields.

    Raises:
        DataRefused: a column missing, doubled, or of a type that cannot become the declared one.
    """
    rows = spark.read.options(**table.options).parquet(escape_glob(path))
    there, sought = {name.lower(): name for name in rows.columns}, names_in_files(table, declared)
    missing = [name for column, name in sought.items() if name.lower() not in there and column not in optional_columns]
    if missing or len(there) < len(rows.columns):
        raise DataRefused(
            f"{path.name} has no column {', '.join(missing)}" if missing else f"{path.name} has a column twice",
            expected=f"the columns {', '.join(sought.values())}; the file has {', '.join(rows.columns)}",
            where=str(path),
            next_step="mend the source, or the table's `names` if the source's columns were renamed",
        )
    columns = {}
    for field in declared:
        name = there.get(sought[field.name].lower())
        found = rows.schema[name].dataType if name else field.dataType
        column = F.col(f"`{name}`") if name else F.lit(None).cast(field.dataType)
        columns[field.name] = _parse_field(
            column, found, field.dataType, time_zone, table.options, f"{path}: {field.name}"
        )
    wanted = {name.lower() for name in sought.values()}
    everything = F.to_json(F.struct(*[F.col(f"`{c}`") for c in rows.columns]), {"ignoreNullFields": "false"})
    unnamed = tuple(name for low, name in there.items() if low not in wanted)
    lacking = frozenset(column for column, name in sought.items() if name.lower() not in there)
    return ParsedFile(
        rows, columns, everything, None, F.lit(None).cast("string"), unknown_columns=unnamed, missing_columns=lacking
    )


def _parse_field(
    column: Column, found: T.DataType, wanted: T.DataType, time_zone: str, options: dict[str, str], where: str
) -> ParsedField:
    text = F.to_json(F.struct(column)) if isinstance(found, T.ArrayType | T.StructType) else column.cast("string")
    nothing = F.lit(None).cast("string")
    if found == wanted or _same_but_nulls(found, wanted):
        return ParsedField(text, column, nothing)
    if isinstance(found, T.StringType):
        return ParsedField(column, *cast_text(column, wanted, time_zone, options))
    if isinstance(found, T.TimestampNTZType) and isinstance(wanted, T.TimestampType):
        return ParsedField(text, F.to_utc_timestamp(column.cast("timestamp"), time_zone), nothing)
    if isinstance(found, T.NumericType) and isinstance(wanted, T.NumericType):
        value = column.try_cast(wanted)
        lossless = column.eqNullSafe(value.try_cast(found)) | F.isnan(column.cast("double"))
        kept = F.when(lossless, value)
        reason = F.when(column.isNotNull() & kept.isNull(), F.lit(f"does not fit {wanted.simpleString().upper()}"))
        return ParsedField(text, kept, reason)
    raise DataRefused(
        f"the column is {found.simpleString().upper()}",
        expected=wanted.simpleString().upper(),
        where=where,
        next_step="declare the file's type in the table's schema",
    )


def copy_without(path: Path, target: Path, excluded: set[int], metadata: dict[str, str] | None = None) -> None:
    """Copy a file but for the rows at these positions, a row group at a time.

    Args:
        note: of the file's own metadata, what to put there anew.
    """
    file = pq.ParquetFile(path)
    schema = file.schema_arrow
    if metadata:
        schema = schema.with_metadata({**(schema.metadata or {}), **metadata})
    leaves = [file.schema.column(n).physical_type for n in range(len(file.schema))]
    packed = file.metadata.row_group(0).column(0).compression.lower() if file.metadata.num_row_groups else "snappy"
    compression = "none" if packed == "uncompressed" else packed
    begins = 0
    with pq.ParquetWriter(
        target, schema, compression=compression, use_deprecated_int96_timestamps="INT96" in leaves
    ) as out:
        for number in range(file.metadata.num_row_groups):
            rows = file.read_row_group(number)
            stay = pa.array([begins + n not in excluded for n in range(rows.num_rows)], pa.bool_())
            begins += rows.num_rows
            out.write_table(rows.filter(stay).replace_schema_metadata(schema.metadata))


def _same_but_nulls(found: T.DataType, wanted: T.DataType) -> bool:
    return found.simpleString() == wanted.simpleString()
