"""Parses dates and times: by ISO 8601, by a declared pattern, or as an integer that counts from 1970-01-01 UTC.

An integer of 13 digits is milliseconds with any pattern: sources mix both notations (`31/12/2024` and
1420070400000), and no calendar notation has 13 digits. Integers of other lengths need a declared `epoch_ms` or
`epoch_s`.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import patterns

_DATE = r"^\d{4}-\d{1,2}-\d{1,2}\z"
_DATE_AND_MINUTE = r"\d{4}-\d{1,2}-\d{1,2}[ T]\d{1,2}:\d{1,2}"
_DATE_AND_TIME = r"\d{4}-\d{1,2}-\d{1,2}([ T]\d{1,2}:\d{1,2}(:\d{1,2}(\.\d{1,6}0*)?)?)?"
_ZONE = r"\s*(Z|UTC|GMT|[+-]\d{1,2}(:?\d{2})?|[A-Za-z]+(/[A-Za-z0-9_+-]+)+)"
_MILLISECONDS = r"^-?\d{13}\z"
_PATTERN_OPTIONS: dict[type[T.DataType], str] = {
    T.DateType: "dateformat",
    T.TimestampType: "timestampformat",
    T.TimestampNTZType: "timestampntzformat",
}
_RANGE = ("0001-01-01 00:00:00", "9999-12-31 23:59:59.999999")
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799  # of the years 1 to 9999


def parse(text: Column, data_type: T.DataType, time_zone: str, options: dict[str, str]) -> Column:
    """Parse a column of text as DATE, TIMESTAMP or TIMESTAMP_NTZ; null if it is not one.

    Args:
        text: A column of strings.
        data_type: The declared type, one of the three.
        time_zone: The zone of timestamps that have none.
        options: The reader's options, with names in lower case.
    """
    # No date is the empty text, although a pattern of optional sections matches it.
    return in_range(F.when(text != "", _parse(text, data_type, time_zone, options)), data_type)


def in_range(value: Column, data_type: T.DataType) -> Column:
    """Return a value, or null if it is a day or a time outside the years 1 to 9999, which not every reader can hold.

    Args:
        value: The value; an instant counts by its year in UTC.
        data_type: Its type; a value of any other type is returned as it is.
    """
    if not isinstance(data_type, tuple(_PATTERN_OPTIONS)):
        return value
    first, last = (F.lit(text).cast(data_type) for text in _RANGE)
    return F.when(value.between(first, last), value)


def local_to_instant(local: Column, time_zone: str, is_day: Column | None = None) -> Column:
    """Return the instant of a local time: of one that comes twice, the first; null if the zone skips it.

    Args:
        local: The local time, as a TIMESTAMP in the session's zone, which is UTC.
        time_zone: The zone.
        is_day: Whether it is a day alone, which stands for its first instant; None: it never is.
    """
    instant = F.to_utc_timestamp(local, time_zone)
    exists = F.from_utc_timestamp(instant, time_zone) == local
    return F.when(exists if is_day is None else exists | is_day, instant)


def convert(value: Column, found: T.DataType, wanted: T.DataType, time_zone: str) -> Column | None:
    """Convert a day or a time of another type; null if it would lose anything. None if no value could be converted.

    Args:
        value: A column of DATE, TIMESTAMP or TIMESTAMP_NTZ.
        found: Its type.
        wanted: The declared type.
        time_zone: The zone of times that have none.
    """
    if not (isinstance(found, tuple(_PATTERN_OPTIONS)) and isinstance(wanted, tuple(_PATTERN_OPTIONS))):
        return None
    if isinstance(wanted, T.TimestampNTZType):
        is_instant = isinstance(found, T.TimestampType)  # which is no local time
        converted = F.lit(None).cast(wanted) if is_instant else value.cast(wanted)
    elif isinstance(found, T.TimestampType):
        converted = _cast_instant(value, wanted, time_zone)
    else:
        is_day = F.lit(True) if isinstance(found, T.DateType) else None
        converted = _cast_instant(local_to_instant(value.cast("timestamp"), time_zone, is_day), wanted, time_zone)
    return in_range(converted, wanted)


def _parse(text: Column, data_type: T.DataType, time_zone: str, options: dict[str, str]) -> Column:
    pattern, locale = options.get(_PATTERN_OPTIONS[type(data_type)]), options.get("locale")
    if pattern in patterns.EPOCH_UNITS:
        return _cast_instant(_parse_epoch(text, patterns.EPOCH_UNITS[pattern]), data_type, time_zone)
    from_text = (
        _parse_by_pattern(text, data_type, time_zone, pattern, locale)
        if pattern
        else _parse_iso(text, data_type, time_zone)
    )
    if pattern and patterns.can_match_digits(pattern, 13):
        return from_text
    # Thirteen digits are always an instant between the years 1653 and 2286.
    from_millis = _cast_instant(F.timestamp_millis(text.try_cast("bigint")), data_type, time_zone)
    return F.when(text.rlike(_MILLISECONDS), from_millis).otherwise(from_text)


def _parse_iso(text: Column, data_type: T.DataType, time_zone: str) -> Column:
    if isinstance(data_type, T.DateType):
        return F.when(text.rlike(_DATE), text.try_cast(data_type))
    without_zone = rf"^{_DATE_AND_TIME}\z"
    if isinstance(data_type, T.TimestampNTZType):
        return F.when(text.rlike(without_zone), text.try_cast(data_type))
    # The session's zone is UTC, so a text without a zone is cast as if it were UTC, and then shifted.
    local = local_to_instant(text.try_cast(data_type), time_zone, text.rlike(_DATE))
    # Spark requires seconds before a zone.
    with_seconds = F.regexp_replace(text, rf"^({_DATE_AND_MINUTE})(?={_ZONE}\z)", "$1:00")
    return F.when(text.rlike(without_zone), local).when(
        text.rlike(rf"^{_DATE_AND_TIME}{_ZONE}\z"), with_seconds.try_cast(data_type)
    )


def _parse_by_pattern(text: Column, data_type: T.DataType, time_zone: str, pattern: str, locale: str | None) -> Column:
    if locale and patterns.has_words(pattern):
        return _parse_localized(text, data_type, time_zone, pattern, locale)
    has_zone, has_time = patterns.has_zone(pattern), patterns.has_time(pattern)
    if isinstance(data_type, T.DateType) and not (has_zone or has_time):
        return F.try_to_date(text, pattern)
    parsed = F.try_to_timestamp(text, F.lit(pattern))
    if isinstance(data_type, T.TimestampNTZType):  # an instant is no local time
        return F.lit(None).cast(data_type) if has_zone else parsed.cast(data_type)
    instant = parsed if has_zone else local_to_instant(parsed, time_zone, None if has_time else F.lit(True))
    return _cast_instant(instant, data_type, time_zone)


def _parse_localized(text: Column, data_type: T.DataType, time_zone: str, pattern: str, locale: str) -> Column:
    """Parse names of months and the like with a CSV reader, because Spark's date functions accept no locale."""
    cell = F.concat(F.lit('"'), F.replace(text, F.lit('"'), F.lit('""')), F.lit('"'))
    formats = dict.fromkeys(["dateFormat", "timestampFormat", "timestampNTZFormat"], pattern)
    is_local = isinstance(data_type, T.TimestampType) and not patterns.has_zone(pattern)
    zone = "UTC" if is_local else time_zone  # a local time is shifted afterwards
    options = formats | {"locale": locale, "timeZone": zone, "escape": '"', "mode": "PERMISSIVE"}
    value = F.from_csv(cell, f"value {data_type.simpleString()}", options)["value"]
    is_day = None if patterns.has_time(pattern) else F.lit(True)
    return local_to_instant(value, time_zone, is_day) if is_local else value


def _parse_epoch(text: Column, units_per_second: int) -> Column:
    """Return the instant of an integer that counts units since 1970-01-01 UTC; null outside the years 1 to 9999."""
    number = F.when(text.rlike(r"^[+-]?\d+\z"), text.try_cast("bigint"))
    count = F.when(number.between(_FIRST_SECOND * units_per_second, (_LAST_SECOND + 1) * units_per_second - 1), number)
    return (
        F.timestamp_millis(count)
        if units_per_second == patterns.EPOCH_UNITS["epoch_ms"]
        else F.timestamp_seconds(count)
    )


def _cast_instant(instant: Column, data_type: T.DataType, time_zone: str) -> Column:
    """Cast an instant; to a date only if a day starts at it, in UTC or in the given zone, so that no time is lost."""
    if not isinstance(data_type, T.DateType):
        return instant.cast(data_type)
    utc_day, local_day = instant.cast("date"), F.from_utc_timestamp(instant, time_zone).cast("date")
    local_start = F.to_utc_timestamp(local_day.cast("timestamp"), time_zone)
    return F.when(instant == utc_day.cast("timestamp"), utc_day).when(instant == local_start, local_day)
