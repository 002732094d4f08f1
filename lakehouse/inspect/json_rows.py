"""Collects rows as values that JSON has.

Rows leave Spark as JSON text, which is exact for every type and every date. Only numbers and times need a second step.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

_JSON_OPTIONS = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
    "timeZone": "UTC",
}
_TRAILING_ZEROS = re.compile(r"\.?0+(?=Z?$)")


def json_rows(rows: DataFrame) -> list[dict[str, Any]]:
    """Return rows as JSON values.

    Args:
        rows: A few rows; they are collected.

    Returns:
        A dict for each row: decimals as text, times as ISO 8601 text (UTC with Z), binary as base64 text, NaN and
        Infinity as text.
    """
    texts = rows.select(F.to_json(F.struct("*"), _JSON_OPTIONS)).collect()
    return [json_value(json.loads(row[0], parse_float=str, parse_int=str), rows.schema) for row in texts]


def json_value(value: Any, data_type: T.DataType) -> Any:
    """Return a value that Spark wrote as JSON, and whose numbers are still text, by its type.

    >>> json_value("0E-8", T.DecimalType(10, 8)), json_value(["1"], T.ArrayType(T.IntegerType()))
    ('0.00000000', [1])
    >>> json_value("NaN", T.DoubleType())
    'NaN'
    """
    match data_type:
        case _ if value is None:
            return None
        case T.StructType():
            return {field.name: json_value(value[field.name], field.dataType) for field in data_type}
        case T.ArrayType():
            return [json_value(element, data_type.elementType) for element in value]
        case T.DecimalType():
            return f"{Decimal(value):f}"
        case T.IntegralType():
            return int(value)
        case T.FractionalType():
            return value if value in ("NaN", "Infinity", "-Infinity") else float(value)
        case T.TimestampType() | T.TimestampNTZType():
            return _TRAILING_ZEROS.sub("", value)
    return value
