"""Casts text to a declared type: the result is the exact value, or a reason why there is none. Never a silent null.

Spark's own casts are too lenient: they read `12:30` as a time of *today*, drop the time of a timestamp that is cast to
a date, round decimals to their scale, and turn 1e400 into infinity. So a pattern checks each text before it is cast.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.schema import dates
from lakehouse.schema.numbers import normalize_separators, parse_decimal

# \z instead of $, which also matches before a line end.
_INTEGER = r"^[+-]?\d+\z"
_FLOAT = r"(?i)^([+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity)|nan)\z"
_BOOLEAN = r"(?i)^(true|false|t|f|yes|no|y|n|1|0)\z"


def cast_text(text: Column, data_type: T.DataType, time_zone: str, options: dict[str, str]) -> tuple[Column, Column]:
    """Cast a column of text to a declared type.

    Args:
        text: A column of strings.
        data_type: The declared type.
        time_zone: The zone of timestamps that have none.
        options: The reader's options; `locale`, `dateFormat`, `timestampFormat` and `timestampNTZFormat` are used.

    Returns:
        Two columns: the value, null if the text is null or not of the type; and the reason, null or `not an INT`.
    """
    by_lower_name = {name.lower(): value for name, value in options.items()}
    locale = by_lower_name.get("locale") if isinstance(data_type, T.NumericType) else None
    value = _cast_value(normalize_separators(text, locale) if locale else text, data_type, time_zone, by_lower_name)
    return value, F.when(text.isNotNull() & value.isNull(), F.lit(type_fault(data_type, options)))


def type_fault(data_type: T.DataType, options: Mapping[str, str]) -> str:
    """Return the fault of a text that is not of a type, such as `not an INT`.

    Args:
        data_type: The declared type.
        options: The reader's options.
    """
    locale = {name.lower(): value for name, value in options.items()}.get("locale")
    type_name = data_type.simpleString().upper()
    article = "an" if type_name[0] in "AEIOU" else "a"
    is_localized = locale and isinstance(data_type, T.NumericType)
    return f"not {article} {type_name}{f' as {locale} writes it' if is_localized else ''}"


def _cast_value(text: Column, data_type: T.DataType, time_zone: str, options: dict[str, str]) -> Column:
    match data_type:
        case T.StringType():
            return text
        case T.ByteType() | T.ShortType() | T.IntegerType() | T.LongType():
            return F.when(text.rlike(_INTEGER), text.try_cast(data_type))
        case T.FloatType() | T.DoubleType():
            number = text.try_cast(data_type)
            overflow = F.abs(number).eqNullSafe(F.lit("Infinity").cast(data_type)) & ~F.lower(text).contains("inf")
            return F.when(text.rlike(_FLOAT) & ~overflow, number)
        case T.DecimalType():
            return parse_decimal(text, data_type)
        case T.BooleanType():
            return F.when(text.rlike(_BOOLEAN), text.try_cast(data_type))
        case T.DateType() | T.TimestampType() | T.TimestampNTZType():
            return dates.parse(text, data_type, time_zone, options)
        case T.BinaryType():
            return text.cast(data_type)
    raise TypeError(f"no rule for {data_type.simpleString()}")
