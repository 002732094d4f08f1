"""Finds the signs by which a sample of a CSV file is split into fields, and the lines before its header."""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

_SEPARATORS = (",", ";", "\t", "|", "^", "~")
_MAX_LINES_BEFORE_HEADER = 20
VALUE = re.compile(
    r"[+-]?[\d.,' ]*\d([eE][+-]?\d+)?%?"  # numbers
    r"|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?"  # dates
    r"|[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"  # UUIDs
    r"|(?i:true|false|null)"
)


class UnusableFile(Exception):
    """A file from which no table can be proposed; the message says why."""


class Signs(NamedTuple):
    """The signs by which a sample is split into fields.

    Attributes:
        sep: The separator.
        quote: The quote; empty if there is none.
        escape: The escape character.
        records: The records of the sample.
        starts: The number of lines before each of them.
    """

    sep: str
    quote: str
    escape: str
    records: list[list[str]]
    starts: list[int]


def find_signs(text: str, is_complete: bool, name: str) -> Signs:
    """Return the signs that give most records of a sample the same number of fields.

    Args:
        text: The beginning of a file, up to the end of a line.
        is_complete: Whether it is the whole file.
        name: The file's name, whose ending may name the separator.

    Raises:
        UnusableFile: There are none.
    """
    usual = {".tsv": "\t", ".tab": "\t", ".psv": "|"}.get(Path(name.removesuffix(".gz")).suffix.lower(), ",")
    best: tuple[tuple[float, ...], Signs] | None = None
    for (quote, escape), sep in product((('"', '"'), ('"', "\\"), ("'", "'"), ("", "")), _SEPARATORS):
        if sep not in text and sep != ",":
            continue
        if quote == "'" and not _is_single_quoted(text, sep):
            continue
        if escape == "\\" and '\\"' not in text:
            continue
        if (parsed := _parse(text, is_complete, sep, quote, escape)) is None:
            continue
        records, starts = parsed
        width, count = Counter(map(len, records)).most_common(1)[0] if records else (0, 0)
        share = count / len(records) if records else 0.0
        has_header_width = bool(records) and len(records[0]) == width
        preference = {'"': 1, "'": 2, "": 0}[quote] - (escape == "\\") * 0.5
        score = (width > 1, round(share, 1), has_header_width, preference, share, width, sep == usual)
        if width and (best is None or score > best[0]):
            best = (score, Signs(sep, quote, escape, records, starts))
    if best is None:
        raise UnusableFile("a quote is not closed in its first lines, or it has no lines")
    return best[1]


def title_lines(text: str, is_complete: bool, name: str) -> int:
    """Return the number of lines before the header of a sample.

    A title has fields in at most half of the columns, and the record below the titles has a name in each of them. The
    line `sep=;` is for Excel.

    Args:
        text: The beginning of a file, up to the end of a line.
        is_complete: Whether it is the whole file.
        name: The file's name, whose ending may name the separator.
    """
    if text.lower().startswith("sep="):
        return 1
    records, starts = find_signs(text, is_complete, name)[3:]
    width, count = Counter(map(len, records)).most_common(1)[0]
    if width < 2 or count < len(records) / 2:
        return 0
    filled = [sum(bool(field.strip()) for field in record) for record in records[: _MAX_LINES_BEFORE_HEADER + 1]]
    at = next((n for n, fields in enumerate(filled) if fields > width / 2), 0)
    names = [name.strip() for name in records[at]]
    is_header = len(names) == width and all(names) and not any(map(VALUE.fullmatch, names))
    return starts[at] if is_header and at else 0


def _is_single_quoted(text: str, sep: str) -> bool:
    """Return whether most of the first lines have a field in single quotes."""
    lines = [line for line in text.splitlines()[:50] if line.strip()]
    return sum(_has_single_quoted_field(line, sep) for line in lines) > len(lines) / 2


def _has_single_quoted_field(line: str, sep: str) -> bool:
    """Return whether a line has a quote at the beginning of a field and one at the end of that field or a later one.

    >>> _has_single_quoted_field("1,'a,b',2", ","), _has_single_quoted_field("1,'a", ",")
    (True, False)
    """
    in_separators = f"{sep}{line}{sep}"
    first, last = in_separators.find(f"{sep}'"), in_separators.rfind(f"'{sep}")
    return first >= 0 and first + len(sep) < last


def _parse(text: str, is_complete: bool, sep: str, quote: str, escape: str) -> tuple[list[list[str]], list[int]] | None:
    """Return the records of a sample and the number of lines before each; None if its quotes do not match.

    The last record may be cut off.
    """
    csv.field_size_limit(sys.maxsize)
    records, starts, line = list[list[str]](), list[int](), 0
    reader = csv.reader(
        split_lines(text),
        delimiter=sep,
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        doublequote=escape == quote,
        escapechar=None if escape == quote else escape,
        strict=True,
    )
    try:
        for record in reader:
            if record:
                records.append(record)
                starts.append(line)
            line = reader.line_num
    except csv.Error as error:
        if is_complete or "unexpected end" not in str(error) or not records:
            return None
    return records, starts


def split_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text with their ends; unlike `splitlines`, only at CR and LF."""
    yield from re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text)
