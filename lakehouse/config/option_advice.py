"""Names the setting of a table that reads a value which does not fit its type, if the value shows which one it is."""

from __future__ import annotations

import re

from lakehouse.config.pipeline import Table

_NUMBER_TYPES = ("TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL")
# Numbers of locales that are read with `locale`, each with the tag of one; and what another number looks like.
_LOCALIZED = (
    (re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+|[+-]?\d{1,3}(?:\.\d{3}){2,}"), "pt-BR", "1.234,56"),
    (re.compile(r"[+-]?\d{1,3}(?:,\d{3})+\.\d+|[+-]?\d{1,3}(?:,\d{3}){2,}"), "en-US", "1,234.56"),
    (re.compile(r"[+-]?\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?:,\d+)?"), "fr-FR", "1 234,56"),
    (re.compile(r"[+-]?\d{1,3}(?:['\u2019]\d{3})+(?:\.\d+)?"), "de-CH", "1'234.56"),
)
_DAY = re.compile(r"(\d{1,4})([/.-])(\d{1,2})\2(\d{4}|\d{1,2})(?:([ T])\d{2}:\d{2}(:\d{2})?)?")
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
    option = _DATE_OPTIONS.get(kind)
    if option and option.lower() not in known and (pattern_of_days := _day_pattern(text)):
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
    """
    if re.fullmatch(r"(?:19|20)\d{6}", text):
        return "yyyyMMdd"
    found = _DAY.fullmatch(text)
    if found is None:
        return ""
    first, sign, second, last, gap, seconds = found.groups()
    if len(first) == 4:
        day = f"yyyy{sign}{'M' * len(second)}{sign}{'d' * len(last)}" if sign != "-" and len(last) <= 2 else ""
    elif len(first) > 2 or int(first) > 31 or int(second) > 31 or len(last) not in (2, 4):
        day = ""
    else:
        names = ("M", "d") if int(second) > 12 else ("d", "M")
        day = f"{names[0] * len(first)}{sign}{names[1] * len(second)}{sign}{'y' * len(last)}"
    if not day or gap is None:
        return day
    return f"{day}{' ' if gap == ' ' else chr(39) + 'T' + chr(39)}HH:mm{':ss' if seconds else ''}"
