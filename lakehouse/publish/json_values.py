"""Writes values of an ARRAY, STRUCT or MAP as JSON with the same values, for a column of type jsonb.

Spark's own `to_json` loses microseconds, and writes the keys of a MAP as they are in memory. Here:

    numbers                 with all their digits; NaN and infinities, which JSON does not have, as text
    DATE, TIMESTAMP         ISO 8601, an instant in UTC with `Z`: "2024-02-29T23:59:59.123456Z"
    TIMESTAMP_NTZ           ISO 8601 without a zone
    BINARY                  Base64, as Spark writes it
    STRUCT                  an object that has all fields, also those that are NULL
    MAP                     an object; each key is the text of its value
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

_TIMES = (T.DateType, T.TimestampType, T.TimestampNTZType)


def json_text(value: Column, data_type: T.DataType) -> Column:
    """Return a value as JSON text; NULL stays NULL.

    Args:
        value: The value, in a session whose time zone is UTC.
        data_type: Its type: an ARRAY, STRUCT or MAP.
    """
    return F.to_json(_with_texts(value, data_type), {"ignoreNullFields": "false"})


def _with_texts(value: Column, data_type: T.DataType) -> Column:
    """Return a value with the parts as text that JSON has no type for."""
    if not _has_texts(data_type):
        return value
    if isinstance(data_type, T.ArrayType):
        element = data_type.elementType
        return F.transform(value, lambda each: _with_texts(each, element))
    if isinstance(data_type, T.StructType):
        fields = [_with_texts(value.getField(f.name), f.dataType).alias(f.name) for f in data_type]
        return F.when(value.isNotNull(), F.struct(*fields))
    if isinstance(data_type, T.MapType):
        kinds = data_type.keyType, data_type.valueType
        pairs = F.transform(
            F.map_entries(value),
            lambda pair: F.struct(
                _key_text(pair.getField("key"), kinds[0]), _with_texts(pair.getField("value"), kinds[1])
            ),
        )
        return F.map_from_entries(pairs)
    return _time_text(value, data_type)


def _has_texts(data_type: T.DataType) -> bool:
    if isinstance(data_type, T.ArrayType):
        return _has_texts(data_type.elementType)
    if isinstance(data_type, T.StructType):
        return any(_has_texts(field.dataType) for field in data_type)
    if isinstance(data_type, T.MapType):
        return not isinstance(data_type.keyType, T.StringType) or _has_texts(data_type.valueType)
    return isinstance(data_type, _TIMES)


def _key_text(value: Column, data_type: T.DataType) -> Column:
    if isinstance(data_type, T.BinaryType):
        return F.base64(value)
    return _time_text(value, data_type) if isinstance(data_type, _TIMES) else value.cast("string")


def _time_text(value: Column, data_type: T.DataType) -> Column:
    text = F.replace(value.cast("string"), F.lit(" "), F.lit("T"))
    return F.concat(text, F.lit("Z")) if isinstance(data_type, T.TimestampType) else text
