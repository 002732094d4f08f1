"""Computes `_cdc_row`, which identifies a row of a table without a key by all of its values, in Spark and in DuckDB.

It is the beginning of the SHA-256 of a text that both engines write alike: of each column that is not null, by name,
`name:bytes of the value:value`. So a column that is declared later changes no row in which it is null, and neither the
order of the columns nor the scale of a DECIMAL matters. Values that have no text of their own (floating-point numbers,
arrays, structs) are in it by two hashes of Spark; NaN is one value, and so is zero.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.config.row_keys import ROW_COUNT, ROW_ID
from lakehouse.lake.duckdb_sql import literal
from lakehouse.lake.hashes import hash_columns

_DIGITS = 32  # of the hash, in hex: 128 bits
_WITHOUT_TEXT = (T.FloatType, T.DoubleType, T.ArrayType, T.StructType)
_MICROS_PER_DAY = 86_400_000_000


def row_id(schema: T.StructType) -> Column:
    """Return `_cdc_row` of rows with these columns.

    Args:
        schema: The stored columns of the table.
    """
    parts = []
    for field in _in_order(schema):
        value, text = F.col(quote_identifier(field.name)), _text(field, schema)
        part = F.concat(F.lit(_prefix(field)), F.octet_length(text).cast("string"), F.lit(":"), text)
        parts.append(F.when(value.isNotNull(), part))
    return F.left(F.sha2(F.concat_ws("", *parts), 256), F.lit(_DIGITS)).alias(ROW_ID)


def row_id_sql(schema: T.StructType, values: list[str]) -> str | None:
    """Return the same as SQL for DuckDB, or None if only Spark can compute it.

    Args:
        schema: The stored columns of the table.
        values: The SQL for the value of each of them.
    """
    by_name = dict(zip(schema.names, values, strict=False))
    parts = []
    for field in _in_order(schema):
        if isinstance(field.dataType, _WITHOUT_TEXT):
            return None
        value = by_name[field.name]
        text = _text_sql(value, field.dataType)
        part = f"{literal(_prefix(field))} || strlen({text}) || ':' || {text}"
        parts.append(f"CASE WHEN {value} IS NOT NULL THEN {part} END")
    return f"left(sha256(concat_ws('', {', '.join(parts)})), {_DIGITS})"


def _in_order(schema: T.StructType) -> list[T.StructField]:
    """Return the columns that make up a row's identity, by name."""
    return sorted((f for f in schema if f.name not in (ROW_ID, ROW_COUNT)), key=lambda field: field.name.lower())


def _prefix(field: T.StructField) -> str:
    return f"{field.name.lower()}:"


def _text(field: T.StructField, schema: T.StructType) -> Column:
    """Return a value as a text that differs from that of every other value of its type."""
    value, data_type = F.col(quote_identifier(field.name)), field.dataType
    if isinstance(data_type, _WITHOUT_TEXT):
        return F.concat(*[F.hex(each) for each in hash_columns([field.name], schema, ["h1", "h2"])])
    if isinstance(data_type, T.DecimalType) and data_type.scale:
        plain = F.replace(F.format_number(value, data_type.scale), F.lit(","))  # never with an exponent
        return F.rtrim(F.rtrim(plain, F.lit("0")), F.lit("."))
    if isinstance(data_type, T.DateType):
        return F.unix_date(value).cast("string")
    if isinstance(data_type, T.TimestampType):
        return F.unix_micros(value).cast("string")
    if isinstance(data_type, T.TimestampNTZType):  # without the session's zone
        seconds = F.hour(value) * 3600 + F.minute(value) * 60
        micros = (F.extract(F.lit("SECOND"), value) * 1_000_000).cast("bigint")
        days = F.unix_date(value.cast("date")).cast("bigint")
        return (days * _MICROS_PER_DAY + seconds.cast("bigint") * 1_000_000 + micros).cast("string")
    return F.hex(value) if isinstance(data_type, T.BinaryType) else value.cast("string")


def _text_sql(value: str, data_type: T.DataType) -> str:
    if isinstance(data_type, T.DecimalType) and data_type.scale:
        return f"rtrim(rtrim(CAST({value} AS VARCHAR), '0'), '.')"
    if isinstance(data_type, T.DateType):
        return f"CAST(date_diff('day', DATE '1970-01-01', {value}) AS VARCHAR)"
    if isinstance(data_type, T.TimestampType | T.TimestampNTZType):
        return f"CAST(epoch_us({value}) AS VARCHAR)"
    return f"hex({value})" if isinstance(data_type, T.BinaryType) else f"CAST({value} AS VARCHAR)"
