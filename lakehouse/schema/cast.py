"""From text to a declared type: the value exactly as written, or a reason why not. Never a silent null.

Spark's own casts are only asked after a pattern has said that the text is of the type: by themselves they take
`12:30` for a time of *today*, drop the time of a timestamp given for a date, round decimals to their scale and make
infinity of 1e400.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.schema import dates
from lakehouse.schema.numbers import normalize_separators, parse_decimal

# \z and not $, which also matches before a line end.
_INTEGER = r"^[+-]?\d+\z"
_FLOAT = r"(?i)^([+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity)|nan)\z"
_BOOLEAN = r"(?i)^(true|false|t|f|yes|no|y|n|1|0)\z"


def cast_text(text: Column, data_type: T.DataType, time_zone: str, options: dict[str, str]) -> tuple[Column, Column]:
    """A column of text as `kind`.

    Args:
        zone: of timestamps that name none.
        options: the reader's; `locale`, `dateFormat`, `timestampFormat` and `timestampNTZFormat` are looked at.

    Returns:
        The value, null where the text is null or not of the type, and the problem: null, or what was expected.
    """
    given = {k.lower(): v for k, v in options.items()}
    locale = given.get("locale") if isinstance(data_type, T.NumericType) else None
    value = _cast_value(normalize_separators(text, locale) if locale else text, data_type, time_zone, given)
    return value, F.when(text.isNotNull() & value.isNull(), F.lit(f"not {_type_phrase(data_type, locale)}"))


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


def _type_phrase(data_type: T.DataType, locale: str | None) -> str:
    name = data_type.simpleString().upper()
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}{f' as {locale} writes it' if locale else ''}"
