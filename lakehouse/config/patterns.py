"""Patterns of dates and times, as Spark reads them: what is wrong with one, and what one can read.

Spark finds fault with a pattern only when a row is read by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

EPOCH_UNITS = {"epoch_ms": 1_000, "epoch_s": 1}
"""Words in place of a pattern: an integer that counts units since 1970-01-01 UTC, and how many make a second."""

# The letters with which Spark reads, and how many of each may stand together. Others only write, or count weeks.
_MAX_LETTERS = {
    **{"G": 4, "y": 6, "M": 4, "L": 4, "D": 3, "d": 2, "a": 1},
    **{"h": 2, "H": 2, "k": 2, "K": 2, "m": 2, "s": 2, "S": 9},
    **{"V": 2, "z": 4, "O": 4, "X": 5, "x": 5, "Z": 5},
}
_ZONE_LETTERS = frozenset("VzOXxZ")
_RESERVED_SIGNS = frozenset("#{}")


def find_fault(pattern: str) -> str | None:
    """What is wrong with a pattern, or None.

    >>> find_fault("[dd/MM/yyyy][yyyy-MM-dd'T'HH:mm]") is None
    True
    >>> find_fault("DD/mm/YYYY")
    'the letter Y is not one that Spark reads dates with'
    """
    if pattern.count("'") % 2:
        return "a quote is not closed"
    if not re.search(r"[A-Za-z]", "".join(_unquoted_parts(pattern))):
        return "it has no letter that stands for a part of a date"
    depth = 0
    for run in _runs_of_equal_signs(pattern):
        sign = run[0]
        depth += {"[": 1, "]": -1}.get(sign, 0) * len(run)
        if depth < 0 or sign in _RESERVED_SIGNS:
            return f"{sign} does not belong there"
        if sign.isascii() and sign.isalpha():
            if sign not in _MAX_LETTERS:
                return f"the letter {sign} is not one that Spark reads dates with"
            if len(run) > _MAX_LETTERS[sign] or run in ("V", "OO", "OOO"):
                return f"{run} has too many or too few letters"
    return "a bracket is not closed" if depth else None


def has_zone(pattern: str) -> bool:
    """Whether a pattern reads a zone."""
    return any(_ZONE_LETTERS & set(part) for part in _unquoted_parts(pattern))


def has_words(pattern: str) -> bool:
    """Whether a pattern reads words of a language: names of months, AM and PM, eras."""
    return any(run[0] in "aG" or (run[0] in "ML" and len(run) > 2) for run in _runs_of_equal_signs(pattern))


def can_match_digits(pattern: str, count: int) -> bool:
    """Whether a pattern could take `count` digits for a date; in doubt it could.

    >>> can_match_digits("dd/MM/yyyy", 13), can_match_digits("yyyyMMddHHmmss", 13), can_match_digits("yyyyMMdd", 13)
    (False, True, False)
    """
    if re.search("[0-9]", pattern):  # which stand for themselves
        return True
    # An optional section may be left out, so each stretch between brackets counts by itself, unless it has signs.
    stretches = [part for part in re.split(r"[\[\]]", re.sub("'[^']*'", "'", pattern)) if part.isalpha()]
    # A single letter takes as many digits as it finds.
    return (
        sum(count if len(run) == 1 else len(run) for part in stretches for run in _runs_of_equal_signs(part)) >= count
    )


def _unquoted_parts(pattern: str) -> list[str]:
    return pattern.split("'")[::2]


def _runs_of_equal_signs(pattern: str) -> Iterator[str]:
    """The same signs that stand together, outside quotes."""
    for part in _unquoted_parts(pattern):
        yield from (match[0] for match in re.finditer(r"(.)\1*", part, re.DOTALL))
