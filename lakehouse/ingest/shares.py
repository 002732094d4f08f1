"""Compares a number of rows with a share of others, as the guards do."""

from __future__ import annotations

from fractions import Fraction


def is_more_than(part: int, share: float, total: int) -> bool:
    """Return whether a number of rows is more than a share of others, exactly: 29 is not more than 0.29 of 100.

    >>> is_more_than(29, 0.29, 100), 29 > 0.29 * 100
    (False, True)

    Args:
        part: The number of rows.
        share: The share, as it is written in the configuration.
        total: The number of the others.
    """
    return part > Fraction(repr(share)) * total
