"""Reads landed Parquet files: a column is taken if it has the declared type or becomes it without loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers import parquet_footer
from lakehouse.ingest.readers.missing_columns import MissingColumns
from lakehouse.ingest.readers.parquet_footer import FileColumn
from lakehouse.ingest.readers.parsed_file import ParsedField, ParsedFile, ReadSettings, field_of_name
from lakehouse.schema import dates
from lakehouse.schema.cast import cast_text, type_fault
from lakehouse.storage.file_io import StorePath, escape_glob
from lakehouse.storage.landing import LandedFile
from lakehouse.text import visible

_NANOS_AS_LONG = "spark.sql.legacy.parquet.nanosAsLong"
_NOT_UTF8 = "not UTF-8"


def parse_file(settings: ReadSettings, file: LandedFile, path: StorePath) -> ParsedFile:
    """Parse a Parquet file into fields.

    Spark reads only the declared columns, by the types in the file's footer; it fails for types that it does not know.

    Args:
        settings: The reader's settings.
        file: The file as landed.
        path: Where it is.

    Raises:
        DataRefused: A column is missing, occurs twice, or has a type that cannot become the declared one.
    """
    footer, in_name = parquet_footer.read_footer(path), settings.name_texts(file)
    located = locate_columns(settings, path, footer.columns)
    found = {name: _require_readable(column, settings.declared[name], path) for name, column in located.items()}
    read = {name: column for name, column in found.items() if not isinstance(column.spark_type, T.NullType)}
    if any(column.is_nanoseconds for column in read.values()):
        settings.spark.conf.set(_NANOS_AS_LONG, "true")
    file_schema = T.StructType([T.StructField(column.name, _stored_type(column)) for column in read.values()])
    rows = settings.spark.read.options(**settings.table.options).schema(file_schema).parquet(escape_glob(path))
    columns = {
        field.name: field_of_name(settings, field.name, in_name[field.name])
        if field.name in in_name
        else _parse_field(settings, read[field.name], field, path)
        if field.name in read
        else _null_field(field.dataType)
        for field in settings.declared
    }
    received = [
        (columns[name].text if column.is_nanoseconds else F.col(quote_identifier(column.name))).alias(column.name)
        if name in read
        else F.lit(None).cast("string").alias(column.name)
        for name, column in found.items()
    ]
    received += [F.lit(text).alias(name) for name, text in in_name.items()]
    return ParsedFile(
        rows=rows,
        columns=columns,
        received_json=F.to_json(F.struct(*received), {"ignoreNullFields": "false"}) if received else F.lit("{}"),
        row_error=None,
        raw_record=F.lit(None).cast("string"),
        unknown_columns=unknown_columns(settings, footer.columns),
        missing_columns=frozenset(settings.names_in_files).difference(found),
    )


def locate_columns(settings: ReadSettings, path: StorePath, found: Sequence[FileColumn]) -> dict[str, FileColumn]:
    """Return the columns of a file that the schema names, by their names in the schema.

    Args:
        settings: The reader's settings.
        path: The file.
        found: Its columns.

    Raises:
        DataRefused: A declared column is missing or occurs twice. How often any other occurs does not matter.
        ConfigError: A column is in the file's name, too.
    """
    by_lower_name: dict[str, list[FileColumn]] = {}
    settings.require_not_in_name([column.name for column in found], path)
    for column in found:
        by_lower_name.setdefault(column.name.lower(), []).append(column)
    names = settings.names_in_files
    located = {column: by_lower_name.get(name.lower(), []) for column, name in names.items()}
    missing = [names[name] for name, same in located.items() if not same and name not in settings.optional_columns]
    twice = [" and ".join(visible(column.name) for column in same) for same in located.values() if len(same) > 1]
    if missing or twice:
        known = {name.lower() for name in names.values()}
        raise MissingColumns(
            f"{path.name} has no column {', '.join(missing)}"
            if missing
            else f"{path.name} has a column twice, if case is ignored: {', '.join(twice)}",
            missing=missing,
            unknown=[column.name for column in found if column.name.lower() not in known],
            expected=f"the columns {', '.join(names.values())};"
            f" the file has {', '.join(visible(column.name) for column in found)}",
            where=str(path),
            next_step="correct the source, or the table's `names` if the source's columns were renamed",
        )
    return {name: same[0] for name, same in located.items() if same}


def unknown_columns(settings: ReadSettings, found: Sequence[FileColumn]) -> tuple[str, ...]:
    """Return the names of the columns of a file that the schema does not name.

    Args:
        settings: The reader's settings.
        found: The columns of the file.
    """
    known = {name.lower() for name in settings.names_in_files.values()}
    return tuple(column.name for column in found if column.name.lower() not in known)


def _require_readable(column: FileColumn, field: T.StructField, path: StorePath) -> FileColumn:
    if column.spark_type is None:
        raise _other_type(column, field, path)
    return column


def _other_type(column: FileColumn, field: T.StructField, path: StorePath) -> DataRefused:
    if column.spark_type is None:
        next_step = "have the source write another type, or remove the column from the table's schema"
    else:
        next_step = "declare the file's type in the table's schema"
    return DataRefused(
        f"the column is {column.description}",
        expected=field.dataType.simpleString().upper(),
        where=f"{path}: {field.name}",
        next_step=next_step,
    )


def _stored_type(column: FileColumn) -> T.DataType:
    """Return the type to read a column as: nanoseconds are numbers, and nulls inside of another value are too."""
    assert column.spark_type is not None
    return T.LongType() if column.is_nanoseconds else _without_null_types(column.spark_type)


def _without_null_types(data_type: T.DataType) -> T.DataType:
    match data_type:
        case T.NullType():
            return T.IntegerType()
        case T.ArrayType():
            return T.ArrayType(_without_null_types(data_type.elementType))
        case T.StructType():
            return T.StructType([T.StructField(f.name, _without_null_types(f.dataType)) for f in data_type])
        case T.MapType():
            return T.MapType(_without_null_types(data_type.keyType), _without_null_types(data_type.valueType))
    return data_type


def _null_field(data_type: T.DataType) -> ParsedField:
    no_text = F.lit(None).cast("string")
    return ParsedField(no_text, F.lit(None).cast(data_type), no_text)


def _parse_field(settings: ReadSettings, file_column: FileColumn, field: T.StructField, path: StorePath) -> ParsedField:
    wanted, found = field.dataType, file_column.spark_type
    assert found is not None
    column, zone, options = F.col(quote_identifier(file_column.name)), settings.time_zone, settings.table.options
    fault = type_fault(wanted, options)
    if file_column.is_nanoseconds:
        text, column = _nanoseconds_text(column, found), _whole_microseconds(column, found)
        value = _in_range_or_converted(column, found, wanted, zone)
        if value is None:
            raise _other_type(file_column, field, path)
        return _field(text, value, fault)
    if isinstance(found, T.StringType):
        is_text, text = F.is_valid_utf8(column), F.make_valid_utf8(column)
        value, reason = cast_text(text, wanted, zone, options)
        return ParsedField(text, F.when(is_text, value), F.when(~is_text, F.lit(_NOT_UTF8)).otherwise(reason))
    if isinstance(found, T.ArrayType | T.StructType):
        if not _matches(found, wanted):
            raise _other_type(file_column, field, path)
        text, is_text = F.to_json(F.struct(column)), _is_valid_text(column, found)
        value = _fill_nulls(column, found, wanted)
        return ParsedField(text, F.when(is_text, value), F.when(~is_text, F.lit(_NOT_UTF8)))
    text = column.cast("string")
    if isinstance(found, T.TimestampType):
        text = F.concat(text, F.lit("Z"))  # else it would look like a local time
    value = _in_range_or_converted(column, found, wanted, zone)
    if value is not None:
        return _field(text, value, fault)
    if isinstance(found, T.NumericType) and isinstance(wanted, T.NumericType):
        cast = column.try_cast(wanted)
        is_lossless = column.eqNullSafe(cast.try_cast(found)) | F.isnan(column.cast("double"))
        return _field(text, F.when(is_lossless, cast), f"does not fit {wanted.simpleString().upper()}")
    raise _other_type(file_column, field, path)


def _in_range_or_converted(column: Column, found: T.DataType, wanted: T.DataType, zone: str) -> Column | None:
    """Return the value of a column of the declared type, or of a day or a time of another; None for other types."""
    if found.simpleString() == wanted.simpleString():
        return dates.in_range(column, wanted)
    return dates.convert(column, found, wanted, zone)


def _field(text: Column, value: Column, fault: str) -> ParsedField:
    return ParsedField(text, value, F.when(text.isNotNull() & value.isNull(), F.lit(fault)))


def _whole_microseconds(nanoseconds: Column, data_type: T.DataType) -> Column:
    """Return the time of a number of nanoseconds since 1970; null if it is no whole microsecond."""
    microseconds = F.timestamp_micros(_floor_microseconds(nanoseconds))
    return F.when(nanoseconds % 1000 == 0, microseconds).cast(data_type)


def _nanoseconds_text(nanoseconds: Column, data_type: T.DataType) -> Column:
    """Return a time in nanoseconds as text, with nine digits after the seconds, and `Z` for an instant."""
    micros = F.timestamp_micros(_floor_microseconds(nanoseconds))
    zone = "Z" if isinstance(data_type, T.TimestampType) else ""
    digits = F.lpad(F.pmod(nanoseconds, F.lit(1000)).cast("string"), 3, "0")
    return F.concat(F.date_format(micros, "yyyy-MM-dd HH:mm:ss.SSSSSS"), digits, F.lit(zone))


def _floor_microseconds(nanoseconds: Column) -> Column:
    return F.call_function("div", nanoseconds - F.pmod(nanoseconds, F.lit(1000)), F.lit(1000))


# --- nested values ------------------------------------------------------------------------------------------------


def _matches(found: T.DataType, wanted: T.DataType) -> bool:
    """Whether a type is the wanted one, if nulls are of every type, and null is allowed everywhere."""
    if isinstance(found, T.NullType):
        return True
    if isinstance(found, T.ArrayType) and isinstance(wanted, T.ArrayType):
        return _matches(found.elementType, wanted.elementType)
    if isinstance(found, T.StructType) and isinstance(wanted, T.StructType):
        return found.names == wanted.names and all(
            _matches(f.dataType, w.dataType) for f, w in zip(found, wanted, strict=True)
        )
    return found.simpleString() == wanted.simpleString()


def _fill_nulls(column: Column, found: T.DataType, wanted: T.DataType) -> Column:
    """Return a value in which nulls without a type have the declared one."""
    if _without_null_types(found) == found:
        return column
    if isinstance(found, T.ArrayType) and isinstance(wanted, T.ArrayType):
        element, wanted_element = found.elementType, wanted.elementType
        return F.transform(column, lambda each: _fill_nulls(each, element, wanted_element))
    if isinstance(found, T.StructType) and isinstance(wanted, T.StructType):
        members = [
            _fill_nulls(column[f.name], f.dataType, w.dataType).alias(f.name)
            for f, w in zip(found, wanted, strict=True)
        ]
        return F.when(column.isNotNull(), F.struct(*members))
    return F.lit(None).cast(wanted)


def _is_valid_text(column: Column, data_type: T.DataType) -> Column:
    """Return whether all text in a value is UTF-8."""
    match data_type:
        case T.StringType():
            return F.coalesce(F.is_valid_utf8(column), F.lit(True))
        case T.ArrayType():
            element = data_type.elementType
            return F.coalesce(F.forall(column, lambda each: _is_valid_text(each, element)), F.lit(True))
        case T.StructType():
            return reduce(Column.__and__, [_is_valid_text(column[f.name], f.dataType) for f in data_type], F.lit(True))
    return F.lit(True)


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
