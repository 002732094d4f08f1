"""Reads values of jsonb as values of the lake's type, with all digits: how `verify` reads an ARRAY, STRUCT or MAP."""

from __future__ import annotations

import base64
import json
import re
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

from pyspark.sql import types as T

_FRACTION = re.compile(r"\.(\d{1,6})")


def read_jsonb(text: str | None, data_type: T.DataType) -> Any:
    """Return the text of a jsonb value as Arrow expects a value of a type.

    Args:
        text: The value's text in PostgreSQL; None for NULL.
        data_type: The type in the lake.

    Raises:
        ValueError: The value is not of that type.
    """
    if text is None:
        return None
    return _convert(json.loads(text, parse_float=Decimal, parse_int=Decimal), data_type)


def _convert(value: Any, data_type: T.DataType) -> Any:
    try:
        return _convert_known(value, data_type)
    except (TypeError, ArithmeticError, KeyError, AttributeError) as error:
        raise ValueError(f"a value that is not {data_type.simpleString()}") from error


def _convert_known(value: Any, data_type: T.DataType) -> Any:
    if value is None:
        return None
    if not _has_json_type(value, data_type):
        raise ValueError("another type")
    match data_type:
        case T.ArrayType():
            return [_convert(each, data_type.elementType) for each in value]
        case T.StructType():
            if set(value) != set(data_type.names):
                raise ValueError("other fields")
            return {field.name: _convert(value[field.name], field.dataType) for field in data_type}
        case T.MapType():
            return [(_convert_key(k, data_type.keyType), _convert(v, data_type.valueType)) for k, v in value.items()]
        case T.IntegralType():
            if value != int(value):
                raise ValueError("not a whole number")
            return int(value)
        case T.FloatType() | T.DoubleType():
            return float(value)
        case T.BinaryType():
            return base64.b64decode(value, validate=True)
        case T.DateType():
            return date.fromisoformat(value)
        case T.TimestampType() | T.TimestampNTZType():
            return _parse_time(value, isinstance(data_type, T.TimestampType))
    return value


def _has_json_type(value: Any, data_type: T.DataType) -> bool:
    """Return whether a JSON value is one that values of a type are written as."""
    match data_type:
        case T.ArrayType():
            return isinstance(value, list)
        case T.StructType() | T.MapType():
            return isinstance(value, dict)
        case T.FloatType() | T.DoubleType():
            return isinstance(value, Decimal | str)  # NaN and the infinities are text
        case T.NumericType():
            return isinstance(value, Decimal)
        case T.BooleanType():
            return isinstance(value, bool)
    return isinstance(value, str)


def _convert_key(text: str, data_type: T.DataType) -> Any:
    if isinstance(data_type, T.NumericType):
        return _convert(Decimal(text), data_type)
    return text == "true" if isinstance(data_type, T.BooleanType) else _convert(text, data_type)


def _parse_time(text: str, is_instant: bool) -> datetime:
    if text.endswith("Z") != is_instant:
        raise ValueError("a time with a zone, or without one")
    # Python 3.10 reads three or six digits of a fraction only.
    padded = _FRACTION.sub(lambda fraction: f".{fraction[1]:0<6}", text.removesuffix("Z"))
    return datetime.fromisoformat(padded).replace(tzinfo=timezone.utc if is_instant else None)
