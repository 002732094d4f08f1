"""Checks the reader options of a table: the supported options per format, their values, and why others are rejected.

Spark silently ignores unknown options, and accepts some that would silently change results: `mode: DROPMALFORMED` would
turn malformed rows into deletes. So only the options listed here are accepted.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lakehouse.config import locales, patterns
from lakehouse.config.fields import to_option_text
from lakehouse.config.strict_model import STRUCTURE, VALUE, Discrepancy, did_you_mean

ALIASES = {"delimiter": "sep", "charset": "encoding"}

_COMMON_OPTIONS = {
    "locale": "language tag whose separators the numbers have (pt-BR: 1.234,56); without it a decimal point, no groups",
    "dateFormat": "pattern of DATE columns (dd/MM/yyyy), epoch_ms or epoch_s; without it ISO 8601",
    "timestampFormat": "pattern of TIMESTAMP columns (dd/MM/yyyy HH:mm:ss), epoch_ms or epoch_s; without it ISO 8601",
    "timestampNTZFormat": "the same for TIMESTAMP_NTZ columns",
}
_CSV_OPTIONS = {
    "sep": r'the character between fields, or \t; default: ","',
    "delimiter": "another name of sep",
    "encoding": "encoding of the file, such as ISO-8859-1, windows-1252 or UTF-16; default: UTF-8",
    "charset": "another name of encoding",
    "quote": "the character around fields that contain a separator, or empty for none; default: '\"'",
    "escape": "the character before a quote inside quotes; default: the quote is doubled",
    "header": "whether the first line has the names of the columns; default: true",
    "nullValue": "a text that stands for null, in addition to a blank field",
    "emptyValue": "a text that stands for the empty string",
    "ignoreLeadingWhiteSpace": "whether spaces before a value are removed; default: false",
    "ignoreTrailingWhiteSpace": "whether spaces after a value are removed; default: false",
    "maxColumns": "the largest number of columns of a record; default: 20480",
    "maxCharsPerColumn": "the largest number of characters of a value, -1 for no limit; default: -1",
}
_PARQUET_OPTIONS = {
    "datetimeRebaseMode": "calendar of dates and times before 1900: EXCEPTION, CORRECTED or LEGACY",
    "int96RebaseMode": "the same for times that are stored as INT96",
}
OPTIONS_BY_FORMAT = {
    "csv": _CSV_OPTIONS | _COMMON_OPTIONS,
    "json": _COMMON_OPTIONS,
    "parquet": _PARQUET_OPTIONS | _COMMON_OPTIONS,
}
"""The options of each format, by Spark's names, each with its description."""

_REJECTION_REASONS = {
    "`malformed` decides what happens to rows that cannot be read": "mode columnNameOfCorruptRecord",
    "`schema` declares the columns, nothing is inferred": (
        "inferSchema samplingRatio preferDate primitivesAsString prefersDecimal dropFieldIfAllNull mergeSchema"
    ),
    "columns are matched by their names in the header": "enforceSchema",
    "records that span several lines are always supported": "multiLine",
    "line ends are detected in the file": "lineSep",
    "no line is skipped; remove the comments at the source": "comment",
    "`file` selects the files, and each is read completely": (
        "recursiveFileLookup pathGlobFilter modifiedBefore modifiedAfter ignoreCorruptFiles ignoreMissingFiles"
    ),
    "the pipeline's `timezone` applies": "timeZone",
    "a compressed file is recognized by its name, which ends in .gz or .zip": "compression",
    "quotes are read strictly, by RFC 4180": "unescapedQuoteHandling charToEscapeQuoteEscaping",
    "NaN and Infinity are always recognized": "nanValue positiveInf negativeInf",
    "JSON is read strictly, by RFC 8259, in UTF-8": (
        "allowComments allowUnquotedFieldNames allowSingleQuotes allowNumericLeadingZeros allowNonNumericNumbers"
        " allowBackslashEscapingAnyCharacter allowUnquotedControlChars"
    ),
}
# Values of rejected options that request the normal behaviour. Users copy them from their own readers.
REDUNDANT_OPTIONS = {
    **{"multiline": "true", "mode": "permissive", "inferschema": "false", "mergeschema": "false"},
    **{"enforceschema": "false", "primitivesasstring": "false", "ignorecorruptfiles": "false"},
    **{"ignoremissingfiles": "false", "dropfieldifallnull": "false", "preferdate": "false"},
}
_REJECTED_OPTIONS = {name.lower(): reason for reason, names in _REJECTION_REASONS.items() for name in names.split()}

_VALUE_PATTERNS = {
    **dict.fromkeys(
        ["header", "ignoreleadingwhitespace", "ignoretrailingwhitespace"], ("(?i)true|false", "expected true or false")
    ),
    **dict.fromkeys(["sep", "delimiter"], (r"[^\r\n]|\\t", r"expected one character, or \t")),
    "quote": (r"[^\r\n]?", "expected one character, or none"),
    "escape": (r"[^\r\n]", "expected one character"),
    "maxcolumns": ("[1-9][0-9]*", "expected a whole number above 0"),
    "maxcharspercolumn": ("-1|[1-9][0-9]*", "expected a whole number above 0, or -1 for no limit"),
}

# Encodings that Python and Java both support: Python's canonical name, and a name that both accept.
_CHARSETS = {
    **{"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "utf-16": "UTF-16", "utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE"},
    **{"ascii": "US-ASCII", "mac-roman": "MacRoman", "koi8-r": "KOI8-R", "koi8-u": "KOI8-U"},
    **{"gbk": "GBK", "gb2312": "GB2312", "gb18030": "GB18030", "big5": "Big5"},
    **{"shift_jis": "Shift_JIS", "cp932": "MS932", "euc_jp": "EUC-JP", "euc_kr": "EUC-KR"},
    **{f"iso8859-{n}": f"ISO-8859-{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 15)},
    **{f"cp{n}": f"windows-{n}" for n in range(1250, 1259)},
    **{f"cp{n}": f"IBM{n}" for n in (437, 850, 852, 855, 857, 862, 866)},
}


def canonical_charset(name: str) -> str | None:
    """Return the name of an encoding that Python and Java both accept, or None if one of them does not support it.

    >>> canonical_charset("latin-1"), canonical_charset("Windows-1252"), canonical_charset("hex")
    ('ISO-8859-1', 'windows-1252', None)

    Args:
        name: Any name of the encoding.
    """
    try:
        return _CHARSETS.get(codecs.lookup(name).name)
    except (LookupError, ValueError):
        return None


def discrepancies(options: Mapping[str, Any], file_format: Any) -> Iterator[Discrepancy]:
    """Yield the discrepancies of a table's options.

    Args:
        options: The options as written in the file.
        file_format: The table's format as written in the file; may be invalid.
    """
    known = OPTIONS_BY_FORMAT.get(file_format) if isinstance(file_format, str) else None
    spelling = {name.lower(): name for name in known or [*_CSV_OPTIONS, *_PARQUET_OPTIONS, *_COMMON_OPTIONS]}
    for name, value in options.items():
        lower, loc, text = str(name).lower(), ("options", name), to_option_text(value)
        if lower in REDUNDANT_OPTIONS and str(text).lower() == REDUNDANT_OPTIONS[lower]:
            continue
        if lower in _REJECTED_OPTIONS:
            yield Discrepancy(loc, STRUCTURE, f"not supported: {_REJECTED_OPTIONS[lower]}")
        elif lower not in spelling:
            hint = did_you_mean(str(name), spelling.values()) or f"; expected one of {', '.join(spelling.values())}"
            yield Discrepancy(loc, STRUCTURE, f"unknown option of {file_format} files{hint}")
        elif isinstance(text, str) and (expected := _expected_value(lower, text)):
            yield Discrepancy(loc, VALUE, expected)
    names: dict[str, str] = {}  # by the canonical name
    for name in map(str, options):
        canonical = ALIASES.get(name.lower(), name.lower())
        if canonical in names:
            yield Discrepancy(("options", name), STRUCTURE, f'the same option as "{names[canonical]}"')
        names.setdefault(canonical, name)
    by_canonical_name = {ALIASES.get(str(name).lower(), str(name).lower()): value for name, value in options.items()}
    if by_canonical_name.get("sep", ",") == by_canonical_name.get("quote", '"'):
        yield Discrepancy(("options",), STRUCTURE, "sep and quote are the same character")


def _expected_value(name: str, value: str) -> str | None:
    """Return a description of the valid values of an option, or None if the value is valid."""
    if name in _VALUE_PATTERNS:
        pattern, expected = _VALUE_PATTERNS[name]
        return None if re.fullmatch(pattern, value, re.DOTALL) else expected
    if name in ("encoding", "charset") and canonical_charset(value) is None:
        return "expected an encoding such as UTF-8, UTF-16, ISO-8859-1 or windows-1252"
    if name == "locale" and locales.find_separators(value) is None:
        hint = did_you_mean(value, locales.LOCALES)
        return f"expected a language tag, one of {', '.join(sorted(locales.LOCALES))}{hint}"
    if name.endswith("format") and value not in patterns.EPOCH_UNITS and (fault := patterns.find_fault(value)):
        return f"expected a pattern such as dd/MM/yyyy, or epoch_ms or epoch_s: {fault}"
    return None
