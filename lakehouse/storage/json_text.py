"""Holds what all readers of JSON text have in common: a strict parser (RFC 8259) that leaves numbers as they are."""

from __future__ import annotations

import json
from typing import Any


def refuse_constant(name: str) -> Any:
    """Raise for NaN and the infinities, which Python's parser accepts and RFC 8259 does not.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{name} is no JSON")


# Numbers stay text: Python refuses to make a number of 5,000 digits.
DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=refuse_constant)

PARSE_ERRORS = (ValueError, IndexError, RecursionError)
"""What parsing raises for a text that is no JSON."""


def skip_whitespace(text: str, at: int) -> int:
    """Return the position after the white space at `at`."""
    while at < len(text) and text[at] in " \t\n\r":
        at += 1
    return at
