"""Returns the SQL by which DuckDB casts text to a declared type, by the rules of `schema/cast.py`.

A type or an option that is not known here has no SQL; Spark then reads the table. Texts that are rare and have many
forms (a time with the name of its zone, a decimal with an exponent) are cast by Python functions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from duckdb.func import FunctionNullHandling, PythonUDFType
from pyspark.sql import types as T

from lakehouse.config import patterns
from lakehouse.config.locales import find_separators
from lakehouse.lake.duckdb_sql import literal
from lakehouse.schema import zones

_SQL_TYPES: Mapping[type[T.DataType], str] = {
    T.StringType: "VARCHAR",
    T.ByteType: "TINYINT",
    T.ShortType: "SMALLINT",
    T.IntegerType: "INTEGER",
    T.LongType: "BIGINT",
    T.FloatType: "FLOAT",
    T.DoubleType: "DOUBLE",
    T.BooleanType: "BOOLEAN",
    T.BinaryType: "BLOB",
    T.DateType: "DATE",
    T.TimestampType: "TIMESTAMP",  # an instant, in UTC
    T.TimestampNTZType: "TIMESTAMP",
}
_INTEGERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_TIMES = (T.DateType, T.TimestampType, T.TimestampNTZType)

_NON_FINITE = "[iI][nN][fF]([iI][nN][iI][tT][yY])?|[nN][aA][nN]"
_FLOAT = r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[iI][nN][fF]([iI][nN][iI][tT][yY])?)|[nN][aA][nN]"
_SCIENTIFIC = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]{1,3}"
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")

_HOUR, _SIXTY = "([01]?[0-9]|2[0-3])", "[0-5]?[0-9]"
_ISO_DATE = "[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_ISO_TIME = rf"{_ISO_DATE}([ T]{_HOUR}:{_SIXTY}(:{_SIXTY}(\.[0-9]{{1,6}}0*)?)?)?"
_ISO_ZONED = re.compile(
    r"(\d{4}-\d{1,2}-\d{1,2})[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6})0*)?)?"
    r"\s*(Z|UTC|GMT|[+-]\d{1,2}(?::?\d{2})?|[A-Za-z]+(?:/[A-Za-z0-9_+-]+)+)",
    re.ASCII,
)
_ISO_WITH_OFFSET = rf"{_ISO_DATE}[ T]{_HOUR}:{_SIXTY}:{_SIXTY}(\.[0-9]{{1,6}}0*)?(Z|[+-](0[0-9]|1[0-7]):[0-5][0-9])"
_MAX_DIGITS = 38  # before the decimal point of a DECIMAL
_MAX_FORMS = 32  # of a pattern with optional sections
_MAX_OFFSET = 18 * 60  # minutes, in Java

_PATTERN_OPTIONS: Mapping[type[T.DataType], str] = {
    T.DateType: "dateformat",
    T.TimestampType: "timestampformat",
    T.TimestampNTZType: "timestampntzformat",
}
# What a run of equal letters in a pattern matches: a part of a time, and a regular expression.
_RUNS = {
    "yyyy": ("year", "[0-9]{4}"),
    "MM": ("month", "0[1-9]|1[0-2]"),
    "dd": ("day", "0[1-9]|[12][0-9]|3[01]"),
    "HH": ("hour", "[01][0-9]|2[0-3]"),
    "mm": ("minute", "[0-5][0-9]"),
    "ss": ("second", "[0-5][0-9]"),
}
_VARIABLE_RUNS = {
    "M": ("month", "0*(?:[1-9]|1[0-2])"),
    "d": ("day", "0*(?:[1-9]|[12][0-9]|3[01])"),
    "H": ("hour", "0*(?:[0-9]|1[0-9]|2[0-3])"),
    "m": ("minute", "0*(?:[0-9]|[1-5][0-9])"),
    "s": ("second", "0*(?:[0-9]|[1-5][0-9])"),
}
_ZONE_RUNS = {"XXX": "[zZ]|[+-](?:(?:0[0-9]|1[0-7]):[0-5][0-9]|18:00)"}


def sql_type(data_type: T.DataType) -> str | None:
    """Return DuckDB's type for a declared one; None if its values have no such form. An instant is a TIMESTAMP in UTC.

    Args:
        data_type: The declared type.
    """
    if isinstance(data_type, T.DecimalType):
        return f"DECIMAL({data_type.precision}, {data_type.scale})"
    if isinstance(data_type, T.StringType) and data_type != T.StringType():  # it has a collation
        return None
    return _SQL_TYPES.get(type(data_type))


def cast_sql(text: str, data_type: T.DataType, time_zone: str, options: Mapping[str, str]) -> str | None:
    """Return the SQL for the value of a text, null if it has none; None if only Spark can cast it.

    Args:
        text: The SQL for the text.
        data_type: The declared type.
        time_zone: The zone of times that name none.
        options: The reader's options.
    """
    wanted = sql_type(data_type)
    by_lower_name = {name.lower(): value for name, value in options.items()}
    locale = by_lower_name.get("locale")
    if locale and isinstance(data_type, T.NumericType):
        text = _normalized_sql(text, locale)
    match data_type:
        case T.StringType():
            return text if wanted else None
        case T.BinaryType():
            return f"encode({text})"
        case T.BooleanType():
            values = [", ".join(f"'{word}'" for word in words) for words in (_TRUE, _FALSE)]
            low = f"lower({text})"
            return f"CASE WHEN {low} IN ({values[0]}) THEN true WHEN {low} IN ({values[1]}) THEN false END"
        case T.FloatType() | T.DoubleType():
            value = f"TRY_CAST({text} AS {wanted})"
            is_wrong = f"isinf({value}) AND NOT contains(lower({text}), 'inf')"
            return f"CASE WHEN {_matches(text, _FLOAT)} AND NOT ({is_wrong}) THEN {value} END"
        case T.DecimalType():
            return _decimal_sql(text, data_type)
        case T.DateType() | T.TimestampType() | T.TimestampNTZType():
            return _time_sql(text, data_type, time_zone, by_lower_name)
    if isinstance(data_type, _INTEGERS):
        return f"CASE WHEN {_matches(text, '[+-]?[0-9]+')} THEN TRY_CAST({text} AS {wanted}) END"
    return None


def in_range_sql(value: str, data_type: T.DataType) -> str:
    """Return the SQL for a value that is null outside the years 1 to 9999, which not every reader can hold.

    Args:
        value: The SQL for a value of the type.
        data_type: The declared type.
    """
    if isinstance(data_type, T.DateType):
        return f"CASE WHEN {value} BETWEEN DATE '0001-01-01' AND DATE '9999-12-31' THEN {value} END"
    if isinstance(data_type, _TIMES):
        first, last = "TIMESTAMP '0001-01-01 00:00:00'", "TIMESTAMP '9999-12-31 23:59:59.999999'"
        return f"CASE WHEN {value} BETWEEN {first} AND {last} THEN {value} END"
    return value


def _matches(text: str, pattern: str) -> str:
    return f"regexp_full_match({text}, {literal(pattern)}, 's')"


# --- numbers ------------------------------------------------------------------------------------------------------


def _normalized_sql(text: str, locale: str) -> str:
    """Return the SQL for a number with a decimal point alone (`schema/numbers.py`)."""
    separators = find_separators(locale)
    assert separators
    group, sign = f"[{re.escape(separators.groups)}]", re.escape(separators.decimal)
    well_formed = rf"[+-]?([1-9][0-9]{{0,2}}({group}[0-9]{{3}})+|[0-9]*)({sign}[0-9]*)?([eE][+-]?[0-9]+)?"
    with_point = f"translate({text}, {literal(separators.decimal + separators.groups)}, '.')"
    return (
        f"CASE WHEN {_matches(text, well_formed)} THEN {with_point} WHEN {_matches(text, f'[+-]?({_NON_FINITE})')}"
        f" THEN {text} WHEN {text} IS NOT NULL THEN '' END"
    )


def _decimal_sql(text: str, data_type: T.DecimalType) -> str:
    scale, wanted = data_type.scale, sql_type(data_type)
    below_one = rf"\.[0-9]{{1,{scale}}}0*" if scale else r"\.0+"
    plain = rf"[+-]?([0-9]+(\.[0-9]{{0,{scale}}}0*)?|{below_one})"
    # DuckDB rounds digits behind the scale; here, these are zeros.
    short = f"CASE WHEN length({text}) <= 60 THEN {text} ELSE plain_decimal({text}, {scale}) END"
    return (
        f"CASE WHEN {_matches(text, plain)} THEN TRY_CAST({short} AS {wanted})"
        f" WHEN {_matches(text, _SCIENTIFIC)} THEN TRY_CAST(plain_decimal({text}, {scale}) AS {wanted}) END"
    )


def _plain_decimal(text: str | None, scale: int) -> str | None:
    """Return a number without an exponent and without needless zeros; None if it has digits behind the scale."""
    if text is None:
        return None
    try:
        sign, digits, exponent = Decimal(text).as_tuple()
    except InvalidOperation:
        return None
    assert isinstance(exponent, int)
    number = "".join(map(str, digits)).lstrip("0")
    stripped = number.rstrip("0")
    exponent += len(number) - len(stripped)
    if not stripped:
        return "0" if exponent < _MAX_DIGITS else None  # as in Spark
    if -exponent > scale or len(stripped) + exponent > _MAX_DIGITS:
        return None
    return (
        f"{'-' if sign else ''}{stripped}e{exponent}"
        if exponent > 0
        else f"{Decimal((sign, tuple(map(int, stripped)), exponent)):f}"
    )


# --- times --------------------------------------------------------------------------------------------------------


def _time_sql(text: str, data_type: T.DataType, time_zone: str, options: Mapping[str, str]) -> str | None:
    pattern, locale = options.get(_PATTERN_OPTIONS[type(data_type)]), options.get("locale")
    if pattern in patterns.EPOCH_UNITS:
        per_second = patterns.EPOCH_UNITS[pattern]
        micros = f"TRY_CAST({text} AS BIGINT) * {1_000_000 // per_second}"
        first, last = -62_135_596_800 * per_second, 253_402_300_800 * per_second - 1
        is_valid = f"{_matches(text, '[+-]?[0-9]+')} AND TRY_CAST({text} AS BIGINT) BETWEEN {first} AND {last}"
        return f"CASE WHEN {is_valid} THEN {_instant_as(f'make_timestamp({micros})', data_type, time_zone)} END"
    if pattern and locale and patterns.has_words(pattern):
        return None
    parsed = _pattern_sql(text, data_type, time_zone, pattern) if pattern else _iso_sql(text, data_type, time_zone)
    if parsed is None or (pattern and patterns.can_match_digits(pattern, 13)):
        return parsed
    instant = _instant_as(f"make_timestamp(TRY_CAST({text} AS BIGINT) * 1000)", data_type, time_zone)
    return f"CASE WHEN {_matches(text, '-?[0-9]{13}')} THEN {instant} ELSE {parsed} END"


def _iso_sql(text: str, data_type: T.DataType, time_zone: str) -> str:
    if isinstance(data_type, T.DateType):
        return f"CASE WHEN {_matches(text, _ISO_DATE)} THEN TRY_CAST({text} AS DATE) END"
    is_local, local = _matches(text, _ISO_TIME), f"TRY_CAST({text} AS TIMESTAMP)"
    if isinstance(data_type, T.TimestampNTZType):
        return f"CASE WHEN {is_local} THEN {local} END"
    by_local = _local_instant(local, _matches(text, _ISO_DATE), time_zone)
    by_offset = f"WHEN {_matches(text, _ISO_WITH_OFFSET)} THEN {_instant(text)}"
    return f"CASE WHEN {is_local} THEN {by_local} {by_offset} ELSE zoned_instant({text}) END"


def _pattern_sql(text: str, data_type: T.DataType, time_zone: str, pattern: str) -> str | None:
    forms = [_pattern_form(parts) for parts in _alternatives(pattern)]
    if not forms or None in forms:
        return None
    cases = ["WHEN false THEN NULL"]
    for form in forms:
        if form is None or form.is_impossible:
            continue
        iso = f"regexp_replace({text}, {literal(f'^(?:{form.pattern})$')}, {literal(form.template)})"
        if form.has_zone and isinstance(data_type, T.TimestampNTZType):
            value = "NULL"  # an instant is no local time
        elif form.has_zone:
            value = _instant_as(_instant(f"upper({iso})"), data_type, time_zone)
        elif isinstance(data_type, T.TimestampNTZType) or (isinstance(data_type, T.DateType) and not form.has_time):
            value = f"TRY_CAST({iso} AS {sql_type(data_type)})"
        else:
            local = f"TRY_CAST({iso} AS TIMESTAMP)"
            instant = _local_instant(local, "false" if form.has_time else "true", time_zone)
            value = _instant_as(instant, data_type, time_zone)
        cases.append(f"WHEN {_matches(text, form.pattern)} THEN {value}")
    return f"CASE {' '.join(cases)} END"


def _instant(text: str) -> str:
    """Return the SQL for the instant, in UTC, of an ISO text with an offset."""
    return f"(TRY_CAST({text} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"


def _local_instant(local: str, is_day: str, time_zone: str) -> str:
    """Return the SQL for the instant of a local time; of a day alone, its first one."""
    if _is_utc(time_zone):
        return local
    return f"CASE WHEN {is_day} THEN first_instant({local}) ELSE to_instant({local}) END"


def _instant_as(instant: str, data_type: T.DataType, time_zone: str) -> str:
    """Return the SQL for an instant as a declared type; as a DATE only if a day begins then, in UTC or in the zone."""
    if not isinstance(data_type, T.DateType):
        return instant
    utc_day = f"WHEN date_trunc('day', {instant}) = {instant} THEN CAST({instant} AS DATE)"
    local_day = "" if _is_utc(time_zone) else f"ELSE day_that_begins({instant})"
    return f"CASE {utc_day} {local_day} END"


def _is_utc(time_zone: str) -> bool:
    return time_zone.upper() in ("UTC", "ETC/UTC", "Z")


@dataclass(frozen=True)
class _PatternForm:
    """A pattern without optional parts: its expression, and the ISO form of a match, by the groups of `pattern`."""

    pattern: str
    template: str
    has_time: bool
    has_zone: bool
    is_impossible: bool  # it has a part of a time twice, or none


def _alternatives(pattern: str) -> list[list[str]]:
    """Return the sequences of parts that a pattern stands for, with and without its optional sections.

    A part is a run of equal letters, or a literal text after a quote.
    """
    parts = [match[0] for match in re.finditer(r"'(?:[^']|'')*'|([A-Za-z])\1*|.", pattern, re.DOTALL)]

    def expand(at: int) -> tuple[list[list[str]], int]:
        found: list[list[str]] = [[]]
        while at < len(parts) and parts[at] != "]":
            if parts[at] == "[":
                inner, at = expand(at + 1)
                found = [before + more for more in [*inner, []] for before in found]
            elif parts[at][0] == "'":
                text = parts[at][1:-1].replace("''", "'") or "'"
                found = [[*before, f"'{text}"] for before in found]
            else:
                sign = parts[at] if parts[at][0].isascii() and parts[at][0].isalpha() else f"'{parts[at]}"
                found = [[*before, sign] for before in found]
            at += 1
            if len(found) > _MAX_FORMS:
                return [], len(parts)
        return found, at

    return expand(0)[0]


def _pattern_form(parts: list[str]) -> _PatternForm | None:
    """Return the form that a sequence of parts matches, or None if a part is not known here."""
    regex = ""
    groups: dict[str, int] = {}
    is_impossible = False
    for n, part in enumerate(parts):
        if part[0] == "'":
            regex += "".join(
                f"[{c.lower()}{c.upper()}]" if c.isascii() and c.isalpha() else re.escape(c) for c in part[1:]
            )
            continue
        follows_digits = n + 1 < len(parts) and parts[n + 1][0] != "'"
        if part in _RUNS:
            name, expression = _RUNS[part]
        elif part in _VARIABLE_RUNS and not follows_digits:
            name, expression = _VARIABLE_RUNS[part]
        elif set(part) == {"S"} and len(part) <= 6 and not follows_digits:
            name, expression = "fraction", f"[0-9]{{1,{len(part)}}}"
        elif part in _ZONE_RUNS:
            name, expression = "zone", _ZONE_RUNS[part]
        else:
            return None
        is_impossible = is_impossible or name in groups
        groups[name] = len(groups) + 1
        regex += f"({expression})"
    if ("fraction" in groups and "second" not in groups) or len(groups) > 9:
        return None

    def group(name: str, default: str) -> str:
        return f"\\{groups[name]}" if name in groups else default

    date = f"{group('year', '1970')}-{group('month', '01')}-{group('day', '01')}"
    time = f"{group('hour', '00')}:{group('minute', '00')}:{group('second', '00')}"
    fraction = f".{group('fraction', '')}" if "fraction" in groups else ""
    has_time = bool({"hour", "minute", "second", "fraction"} & set(groups))
    return _PatternForm(
        regex, f"{date} {time}{fraction}{group('zone', '')}", has_time, "zone" in groups, is_impossible or not groups
    )


def _zoned_instant(text: str | None) -> datetime | None:
    """Return the instant, in UTC, of a time by ISO 8601 with a zone."""
    match = _ISO_ZONED.fullmatch(text or "")
    if not match:
        return None
    day, hour, minute, second, fraction, zone = match.groups()
    try:
        year, month, date = map(int, day.split("-"))
        local = datetime(
            year, month, date, int(hour), int(minute), int(second or 0), int((fraction or "").ljust(6, "0"))
        )
        if zone[0] in "+-":
            hours, minutes = int(zone[1:3].rstrip(":")), int(zone[-2:]) if len(zone) > 3 else 0
            offset = hours * 60 + minutes
            if offset > _MAX_OFFSET or minutes > 59:
                return None
            return local - timedelta(minutes=-offset if zone[0] == "-" else offset)
        name = "UTC" if zone in ("Z", "UTC", "GMT") else zone
        return local.replace(tzinfo=ZoneInfo(name)).astimezone(timezone.utc).replace(tzinfo=None)
    except (ValueError, OverflowError, OSError, LookupError):
        return None


# --- functions ----------------------------------------------------------------------------------------------------


def create_functions(connection: duckdb.DuckDBPyConnection, time_zone: str) -> None:
    """Create the functions that the SQL of this module calls.

    Args:
        connection: The connection that runs the SQL.
        time_zone: The zone of times that name none.
    """
    stamp, text = "TIMESTAMP", "VARCHAR"

    def first_instant(local: pa.ChunkedArray) -> pa.Array:
        return zones.local_to_utc(_array(local), time_zone)[0]

    def to_instant(local: pa.ChunkedArray) -> pa.Array:
        instants, skipped = zones.local_to_utc(_array(local), time_zone)
        return pc.if_else(skipped, pa.scalar(None, instants.type), instants)

    def day_that_begins(instants: pa.ChunkedArray) -> pa.Array:
        values = _array(instants)
        day = pc.floor_temporal(zones.utc_to_local(values, time_zone), unit="day")
        begins = pc.equal(zones.local_to_utc(day, time_zone)[0], values)
        return pc.if_else(begins, day, pa.scalar(None, day.type)).cast(pa.date32())

    arrow, special = PythonUDFType.ARROW, FunctionNullHandling.SPECIAL
    create = connection.create_function
    create("first_instant", first_instant, [stamp], stamp, type=arrow, null_handling=special)
    create("to_instant", to_instant, [stamp], stamp, type=arrow, null_handling=special)
    create("day_that_begins", day_that_begins, [stamp], "DATE", type=arrow, null_handling=special)
    create("zoned_instant", _zoned_instant, [text], stamp, null_handling=special)
    create("plain_decimal", _plain_decimal, [text, "INTEGER"], text, null_handling=special)


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
