"""JSON taken apart without touching it: elements and members as the slices of text that they are.

Spark's own parser goes on after an object has ended, and turns numbers into doubles on their way to text; money would
lose digits. These run as Python functions in Spark's workers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from json import JSONDecodeError
from typing import Any

_DECODER = json.JSONDecoder()


def elements(text: str) -> list[str] | None:
    """The elements of an array, as they stand; None if the text is not one whole array.

    >>> elements('[{"a": 1.10}, 2]')
    ['{"a": 1.10}', '2']
    """
    try:
        return [raw for raw, _ in _items(text.removeprefix("\ufeff"), "[", "]")]
    except (JSONDecodeError, IndexError, RecursionError):
        return None


def members(text: str) -> dict[str, str | None] | None:
    """The members of an object: strings as what they say, null as None, all else as it stands.

    None if the text is not one whole object, or has a name twice.

    >>> members('{"a": 1.10, "b": "x", "c": null, "d": [1, 2]}')
    {'a': '1.10', 'b': 'x', 'c': None, 'd': '[1, 2]'}
    """
    found: dict[str, str | None] = {}
    try:
        for raw, (name, value) in _items(text, "{", "}"):
            if name in found:
                return None
            found[name] = value if value is None or isinstance(value, str) else raw
    except (JSONDecodeError, IndexError, RecursionError):
        return None
    return found


def _items(text: str, opening: str, closing: str) -> Iterator[tuple[str, tuple[str, Any]]]:
    """The raw text of each value between `opening` and `closing`, with its name and what it says."""
    at = _skip(text, 0)
    if text[at] != opening:
        raise JSONDecodeError(f"no {opening}", text, at)
    at = _skip(text, at + 1)
    is_empty = text[at] == closing
    while not is_empty:
        name = ""
        if opening == "{":
            name, at = _DECODER.raw_decode(text, at)
            at = _skip(text, at)
            if not isinstance(name, str) or text[at] != ":":
                raise JSONDecodeError("no name", text, at)
            at = _skip(text, at + 1)
        value, end = _DECODER.raw_decode(text, at)
        yield text[at:end], (name, value)
        at = _skip(text, end)
        if text[at] == closing:
            break
        if text[at] != ",":
            raise JSONDecodeError("no comma", text, at)
        at = _skip(text, at + 1)
    if _skip(text, at + 1) != len(text):
        raise JSONDecodeError("text behind the end", text, at)


def _skip(text: str, at: int) -> int:
    """Past the white space at `at`."""
    while at < len(text) and text[at] in " \t\n\r":
        at += 1
    return at
