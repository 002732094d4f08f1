"""Names the setting of a table that reads a value which does not fit its type, if the value shows which one it is."""

from __future__ import annotations

import re
from datetime import datetime

from lakehouse.config.pipeline import Table

_NUMBER_TYPES = ("TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL")
# Numbers of locales that are read with `locale`, each with the tag of one; and what another number looks like.
_LOCALIZED = (
    (re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+|[+-]?\d{1,3}(?:\.\d{3}){2,}"), "pt-BR", "1.234,56"),
    (re.compile(r"[+-]?\d{1,3}(?:,\d{3})+\.\d+|[+-]?\d{1,3}(?:,\d{3}){2,}"), "en-US", "1,234.56"),
    (re.compile(r"[+-]?\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?:,\d+)?"), "fr-FR", "1 234,56"),
    (re.compile(r"[+-]?\d{1,3}(?:['\u2019]\d{3})+(?:\.\d+)?"), "de-CH", "1'234.56"),
)
_DAY = re.compile(r"(\d{1,4})([/.-])(\d{1,2})\2(\d{4}|\d{1,2})(?:([ T])(\d{2}:\d{2}(:\d{2})?))?")
_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}(?=[ T])")
_TIME_OF_DAY = re.compile(r"[ T](?!00:00(?::00(?:\.0+)?)?(?!\d|[:.]))\d{2}:\d{2}")
_DATE_OPTIONS = {"DATE": "dateFormat", "TIMESTAMP": "timestampFormat", "TIMESTAMP_NTZ": "timestampNTZFormat"}


def option_advice(table: Table, column: str | None, value: str | None, reason: str) -> str:
    """Return the change of a table's settings that may read a value; empty if none is known.

    Args:
        table: The table's configuration.
        column: The column; None if the whole row cannot be read.
        value: The value as it was received; None if it is not known.
        reason: Why it was rejected.
    """
    types = {each.name: each.canonical_type for each in table.columns}
    known = {name.lower() for name in table.options}
    if "valid in the file's encoding" in reason:
        return "set `encoding` in `options`, such as windows-1252, if the file is not in UTF-8"
    if column is None or value is None or column not in types or column in table.pii:
        return ""
    text, kind = value.strip(), types[column].partition("(")[0]
    if kind in _NUMBER_TYPES and "locale" not in known:
        for pattern, tag, example in _LOCALIZED:
            if pattern.fullmatch(text):
                return f"set `locale: {tag}` in `options`, which reads numbers such as {example}"
    pattern_of_days = _day_pattern(text)
    is_day = bool(pattern_of_days or ((iso := _ISO_DAY.match(text)) and _is_day(*iso[0].split("-"))))
    if kind == "DATE" and is_day and _TIME_OF_DAY.search(text):  # no pattern reads it: the time would be lost
        format_too = f'and set `timestampFormat: "{pattern_of_days}"` in `options`, ' if pattern_of_days else ""
        return f"declare {column} as TIMESTAMP in `schema`, {format_too}since its values have a time of day"
    option = _DATE_OPTIONS.get(kind)
    if option and option.lower() not in known and pattern_of_days:
        return f'set `{option}: "{pattern_of_days}"` in `options`, which reads days such as this one'
    if kind == "TIMESTAMP_NTZ" and re.search(r"(?:Z|[+-]\d{2}:?\d{2})$", text):
        return f"declare {column} as TIMESTAMP in `schema`, since its values are instants"
    if kind in _NUMBER_TYPES and re.search(r"[^\W\d_]", text):
        return f"declare {column} as STRING in `schema`, if it is no number"
    return ""


def _day_pattern(text: str) -> str:
    """Return Spark's pattern for a day that is not in ISO's form; empty if it is none.

    >>> _day_pattern("31/12/2024"), _day_pattern("12/31/24 10:00"), _day_pattern("20241231"), _day_pattern("2024-12-31")
    ('dd/MM/yyyy', 'MM/dd/yy HH:mm', 'yyyyMMdd', '')
    >>> _day_pattern("13/13/2024"), _day_pattern("30/02/2024"), _day_pattern("20241399")
    ('', '', '')
    """
    if re.fullmatch(r"(?:19|20)\d{6}", text):
        return "yyyyMMdd" if _is_day(text[:4], text[4:6], text[6:]) else ""
    found = _DAY.fullmatch(text)
    if found is None:
        return ""
    first, sign, second, last, gap, time, seconds = found.groups()
    if len(first) == 4:
        letters = "yMd" if sign != "-" and len(last) <= 2 else ""
    elif len(first) > 2 or len(last) not in (2, 4):
        letters = ""
    else:
        letters = "Mdy" if int(second) > 12 else "dMy"
    parts = dict(zip(letters, (first, second, last), strict=False))
    if not parts or not _is_day(parts["y"], parts["M"], parts["d"], time or "00:00"):
        return ""
    day = sign.join(letter * len(part) for letter, part in parts.items())
    if gap is None:
        return day
    return f"{day}{' ' if gap == ' ' else chr(39) + 'T' + chr(39)}HH:mm{':ss' if seconds else ''}"


def _is_day(year: str, month: str, day: str, time: str = "00:00") -> bool:
    """Return whether there is such a day, and such a time on it."""
    try:
        datetime.fromisoformat(f"{year if len(year) == 4 else f'20{year}'}-{month:0>2}-{day:0>2}T{time}")
    except ValueError:
        return False
    return True
