"""JSON taken apart without touching it: elements and members as the slices of text that they are.

Spark's own parser goes on after an object has ended, and turns numbers into doubles on their way to text; money would
lose digits. These run as Python functions in Spark's workers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from json import JSONDecodeError
from typing import Any, NamedTuple

# Numbers stay text: Python refuses to make a number of 5,000 digits.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_NOT_JSON = (ValueError, IndexError, RecursionError)


def elements(text: str) -> list[str] | None:
    """The elements of an array, or objects one behind the other, as they stand; None if the text is not wholly that.

    >>> elements('[{"a": 1.10}, 2]')
    ['{"a": 1.10}', '2']
    >>> elements('{"a": 1} {}')
    ['{"a": 1}', '{}']
    """
    text = text.removeprefix("\ufeff")
    try:
        if text[_skip(text, 0)] == "[":
            return [raw for raw, _ in _items(text, "[", "]")]
        return list(_objects(text))
    except _NOT_JSON:
        return None


class Member(NamedTuple):
    """What a member of an object says, and whether it says it as a string."""

    text: str | None
    is_string: bool


def members(text: str) -> dict[str, Member] | None:
    """The members of an object: strings as what they say, null as None, all else as it stands.

    None if the text is not one whole object, or has a name twice, be it in another case.

    >>> {name: member.text for name, member in members('{"a": 1.10, "b": "x", "c": null, "d": [1, 2]}').items()}
    {'a': '1.10', 'b': 'x', 'c': None, 'd': '[1, 2]'}
    >>> members('{"id": 1, "ID": 2}') is None
    True
    """
    found: dict[str, Member] = {}
    seen: set[str] = set()
    try:
        for raw, (name, value) in _items(text, "{", "}"):
            if name.lower() in seen:
                return None
            seen.add(name.lower())
            is_string = raw.startswith('"')
            found[name] = Member(value if is_string or value is None else raw, is_string)
            f"{name}{value if is_string else ''}".encode()  # half a surrogate pair is no text
    except _NOT_JSON:
        return None
    return found


def is_unfinished(line: str) -> bool:
    """Whether a line begins an object that it does not end.

    >>> is_unfinished('{"a": 1,'), is_unfinished('{"a": 1} {"a": 2}'), is_unfinished('nonsense')
    (True, False, False)
    """
    at = _skip(line, 0)
    if not line.startswith("{", at):
        return False
    try:
        _DECODER.raw_decode(line, at)
    except _NOT_JSON:
        return True
    return False


def _objects(text: str) -> Iterator[str]:
    at = _skip(text, 0)
    while at < len(text):
        if text[at] != "{":
            raise JSONDecodeError("no {", text, at)
        _, end = _DECODER.raw_decode(text, at)
        yield text[at:end]
        at = _skip(text, end)


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
