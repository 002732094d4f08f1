"""From text to a declared type: the value exactly as written, or a reason why not. Never a silent null.

Spark's own casts are only asked after a pattern has said that the text is of the type: by themselves they take
`12:30` for a time of *today*, drop the time of a timestamp given for a date, round decimals to their scale and make
infinity of 1e400.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

# \z and not $, which also matches before a line end.
_INTEGER = r"^[+-]?\d+\z"
_FLOAT = r"(?i)^([+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity)|nan)\z"
_BOOLEAN = r"(?i)^(true|false|t|f|yes|no|y|n|1|0)\z"
_DATE = r"^\d{4}-\d{1,2}-\d{1,2}\z"
_CLOCK = r"\d{4}-\d{1,2}-\d{1,2}([ T]\d{1,2}:\d{1,2}(:\d{1,2}(\.\d{1,6}0*)?)?)?"
_ZONE = r"\s*(Z|UTC|GMT|[+-]\d{1,2}(:?\d{2})?|[A-Za-z]+(/[A-Za-z0-9_+-]+)+)"


def convert(text: Column, kind: T.DataType, zone: str, options: dict[str, str]) -> tuple[Column, Column]:
    """A column of text as `kind`.

    Args:
        zone: of timestamps that name none.
        options: the reader's; `dateFormat`, `timestampFormat` and `timestampNTZFormat` are looked at.

    Returns:
        The value, null where the text is null or not of the type, and the problem: null, or what was expected.
    """
    value = _value(text, kind, zone, {k.lower(): v for k, v in options.items()})
    return value, F.when(text.isNotNull() & value.isNull(), F.lit(f"not {_described(kind, options)}"))


def _value(text: Column, kind: T.DataType, zone: str, options: dict[str, str]) -> Column:
    match kind:
        case T.StringType():
            return text
        case T.ByteType() | T.ShortType() | T.IntegerType() | T.LongType():
            return F.when(text.rlike(_INTEGER), text.try_cast(kind))
        case T.FloatType() | T.DoubleType():
            number = text.try_cast(kind)
            overflow = F.abs(number).eqNullSafe(F.lit("Infinity").cast(kind)) & ~F.lower(text).contains("inf")
            return F.when(text.rlike(_FLOAT) & ~overflow, number)
        case T.DecimalType():
            return _decimal(text, kind)
        case T.BooleanType():
            return F.when(text.rlike(_BOOLEAN), text.try_cast(kind))
        case T.DateType():
            if pattern := options.get("dateformat"):
                return F.try_to_date(text, pattern)
            return F.when(text.rlike(_DATE), text.try_cast(kind))
        case T.TimestampType():
            return _timestamp(text, zone, options.get("timestampformat"))
        case T.TimestampNTZType():
            if pattern := options.get("timestampntzformat"):
                return F.try_to_timestamp(text, F.lit(pattern)).cast(kind)
            return F.when(text.rlike(rf"^{_CLOCK}\z"), text.try_cast(kind))
        case T.BinaryType():
            return text.cast(kind)
    raise TypeError(f"no rule for {kind.simpleString()}")


def _decimal(text: Column, kind: T.DecimalType) -> Column:
    """Digits beyond the scale make a value that does not fit; zeros beyond it do not."""
    plain = text.rlike(rf"^[+-]?(?=\.?\d)\d*(\.\d{{0,{kind.scale}}}0*)?\z")
    scientific = r"^[+-]?(?:\d+\.?(\d*?)|\.(\d+?))0*[eE]([+-]?\d{1,3})\z"
    digits = F.length(F.regexp_extract(text, scientific, 1)) + F.length(F.regexp_extract(text, scientific, 2))
    exponent = F.regexp_extract(text, scientific, 3).try_cast("int")
    return F.when(plain | (text.rlike(scientific) & (digits - exponent <= kind.scale)), text.try_cast(kind))


def _timestamp(text: Column, zone: str, pattern: str | None) -> Column:
    # The session's zone is UTC, so a text without a zone comes out as if it were UTC, and is moved from there.
    if pattern:
        instant = F.try_to_timestamp(text, F.lit(pattern))
        return instant if _names_zone(pattern) else F.to_utc_timestamp(instant, zone)
    instant = text.try_cast("timestamp")
    return F.when(text.rlike(rf"^{_CLOCK}\z"), F.to_utc_timestamp(instant, zone)).when(
        text.rlike(rf"^{_CLOCK}{_ZONE}\z"), instant
    )


def _names_zone(pattern: str) -> bool:
    """Whether a datetime pattern reads a zone (quoted parts are literal text)."""
    return any(set(part) & set("VzOXxZ") for part in pattern.split("'")[::2])


def _described(kind: T.DataType, options: dict[str, str]) -> str:
    name = kind.simpleString().upper()
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"
