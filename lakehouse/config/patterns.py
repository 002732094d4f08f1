"""Checks Spark's date and time patterns before a run, because Spark rejects an invalid one only when it reads a row."""

from __future__ import annotations

import re
from collections.abc import Iterator

EPOCH_UNITS = {"epoch_ms": 1_000, "epoch_s": 1}
"""Alternatives to a pattern, for integers that count units since 1970-01-01 UTC; the value is the units per second."""

# The letters that Spark can parse, with the longest allowed run of each. Other letters only format, or count weeks.
_MAX_LETTERS = {
    **{"G": 4, "y": 6, "M": 4, "L": 4, "D": 3, "d": 2, "a": 1},
    **{"h": 2, "H": 2, "k": 2, "K": 2, "m": 2, "s": 2, "S": 9},
    **{"V": 2, "z": 4, "O": 4, "X": 5, "x": 5, "Z": 5},
}
_ZONE_LETTERS = frozenset("VzOXxZ")
_TIME_LETTERS = frozenset("ahHkKmsS")
_RESERVED_SIGNS = frozenset("#{}")


def find_fault(pattern: str) -> str | None:
    """Return a message about the fault of a pattern, or None if it is valid.

    >>> find_fault("[dd/MM/yyyy][yyyy-MM-dd'T'HH:mm]") is None
    True
    >>> find_fault("DD/mm/YYYY")
    'Spark cannot parse dates with the letter Y'

    Args:
        pattern: A date or time pattern of Spark.
    """
    if pattern.count("'") % 2:
        return "a quote is not closed"
    if not re.search(r"[A-Za-z]", "".join(_unquoted_parts(pattern))):
        return "it has no letter for a part of a date"
    depth = 0
    for run in _runs_of_equal_signs(pattern):
        sign = run[0]
        depth += {"[": 1, "]": -1}.get(sign, 0) * len(run)
        if depth < 0 or sign in _RESERVED_SIGNS:
            return f"{sign} is not allowed at its position"
        if sign.isascii() and sign.isalpha():
            if sign not in _MAX_LETTERS:
                return f"Spark cannot parse dates with the letter {sign}"
            if len(run) > _MAX_LETTERS[sign] or run in ("V", "OO", "OOO"):
                return f"{run} has too many or too few letters"
    return "a bracket is not closed" if depth else None


def has_zone(pattern: str) -> bool:
    """Return whether a pattern contains a time zone.

    Args:
        pattern: A valid date or time pattern.
    """
    return any(_ZONE_LETTERS & set(part) for part in _unquoted_parts(pattern))


def has_time(pattern: str) -> bool:
    """Return whether a pattern contains a time of day.

    Args:
        pattern: A valid date or time pattern.
    """
    return any(_TIME_LETTERS & set(part) for part in _unquoted_parts(pattern))


def has_words(pattern: str) -> bool:
    """Return whether a pattern contains words of a language: names of months, AM and PM, eras.

    Args:
        pattern: A valid date or time pattern.
    """
    return any(run[0] in "aG" or (run[0] in "ML" and len(run) > 2) for run in _runs_of_equal_signs(pattern))


def can_match_digits(pattern: str, count: int) -> bool:
    """Return whether a pattern could match `count` consecutive digits; True if that is uncertain.

    >>> can_match_digits("dd/MM/yyyy", 13), can_match_digits("yyyyMMddHHmmss", 13), can_match_digits("yyyyMMdd", 13)
    (False, True, False)

    Args:
        pattern: A valid date or time pattern.
        count: The number of digits.
    """
    if re.search("[0-9]", pattern):  # literal digits
        return True
    # Sections in brackets are optional, so each one counts by itself. One with other signs does not match digits alone.
    sections = [part for part in re.split(r"[\[\]]", re.sub("'[^']*'", "'", pattern)) if part.isalpha()]
    # A single letter matches any number of digits.
    return sum(count if len(run) == 1 else len(run) for part in sections for run in _runs_of_equal_signs(part)) >= count


def _unquoted_parts(pattern: str) -> list[str]:
    return pattern.split("'")[::2]


def _runs_of_equal_signs(pattern: str) -> Iterator[str]:
    """Yield each run of equal characters outside quotes."""
    for part in _unquoted_parts(pattern):
        yield from (match[0] for match in re.finditer(r"(.)\1*", part, re.DOTALL))
