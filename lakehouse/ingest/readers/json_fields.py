"""JSON taken apart without touching it: elements and members as the slices of text that they are.

Spark's own parser goes on after an object has ended, and turns numbers into doubles on their way to text; money would
lose digits. These run as Python functions in Spark's workers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from json import JSONDecodeError
from typing import Any

# Numbers stay text: Python refuses to make a number of 5,000 digits.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_PARSE_ERRORS = (ValueError, IndexError, RecursionError)


def elements(text: str) -> list[str] | None:
    """The elements of an array, or objects one behind the other, as they stand; None if the text is not wholly that.

    >>> elements('[{"a": 1.10}, 2]')
    ['{"a": 1.10}', '2']
    >>> elements('{"a": 1} {}')
    ['{"a": 1}', '{}']
    """
    text = text.removeprefix("\ufeff")
    try:
        if text[_skip_whitespace(text, 0)] == "[":
            return [raw for raw, _ in _items(text, "[", "]")]
        return list(_objects(text))
    except _PARSE_ERRORS:
        return None


def members(text: str) -> dict[str, str | None] | None:
    """The members of an object: null as None, a string as a quote and what it says, all else as it stands.

    None if the text is not one whole object, or has a name twice, be it in another case.

    >>> members('{"a": 1.10, "b": "1.10", "c": null, "d": [1, 2]}')
    {'a': '1.10', 'b': '"1.10', 'c': None, 'd': '[1, 2]'}
    >>> members('{"id": 1, "ID": 2}') is None
    True
    """
    found: dict[str, str | None] = {}
    seen: set[str] = set()
    try:
        for raw, (name, value) in _items(text, "{", "}"):
            if name.lower() in seen:
                return None
            seen.add(name.lower())
            found[name] = f'"{value}' if raw.startswith('"') else raw if value is not None else None
            f"{name}{found[name]}".encode()  # fails at half a surrogate pair, which is no text
    except _PARSE_ERRORS:
        return None
    return found


Shape = list["Shape"] | dict[str, "Shape"] | None
"""What is declared of a value: a list of one shape for an array, names with shapes for a struct, None for a leaf."""


def leaf_texts(text: str, shape: Shape) -> str | None:
    """A nested value as JSON again, of declared members only and with every leaf a string of what stands there.

    None if it is not of this shape, or names a member twice.

    >>> leaf_texts('{"X": [1.10, "a", null], "other": 1}', {"x": [None]})
    '{"x":["1.10","a",null]}'
    """
    try:
        return _leaf_texts(text, shape)
    except _PARSE_ERRORS:
        return None


def _leaf_texts(text: str, shape: Shape) -> str:
    if text == "null":
        return text
    if isinstance(shape, list):
        return f"[{','.join(_leaf_texts(raw, shape[0]) for raw, _ in _items(text, '[', ']'))}]"
    if shape is None:
        return text if text.startswith('"') else json.dumps(text)
    found: dict[str, str] = {}
    for raw, (name, _) in _items(text, "{", "}"):
        if name.lower() in found:
            raise JSONDecodeError("a name twice", text, 0)
        found[name.lower()] = raw
    there = {name: inner for name, inner in shape.items() if name.lower() in found}
    return f"{{{','.join(f'{json.dumps(n)}:{_leaf_texts(found[n.lower()], inner)}' for n, inner in there.items())}}}"


def is_unfinished(line: str) -> bool:
    """Whether a line begins an object that it does not end.

    >>> is_unfinished('{"a": 1,'), is_unfinished('{"a": 1} {"a": 2}'), is_unfinished('nonsense')
    (True, False, False)
    """
    at = _skip_whitespace(line, 0)
    if not line.startswith("{", at):
        return False
    try:
        _DECODER.raw_decode(line, at)
    except _PARSE_ERRORS:
        return True
    return False


def _objects(text: str) -> Iterator[str]:
    at = _skip_whitespace(text, 0)
    while at < len(text):
        if text[at] != "{":
            raise JSONDecodeError("no {", text, at)
        _, end = _DECODER.raw_decode(text, at)
        yield text[at:end]
        at = _skip_whitespace(text, end)


def _items(text: str, opening: str, closing: str) -> Iterator[tuple[str, tuple[str, Any]]]:
    """The raw text of each value between `opening` and `closing`, with its name and what it says."""
    at = _skip_whitespace(text, 0)
    if text[at] != opening:
        raise JSONDecodeError(f"no {opening}", text, at)
    at = _skip_whitespace(text, at + 1)
    is_empty = text[at] == closing
    while not is_empty:
        name = ""
        if opening == "{":
            name, at = _DECODER.raw_decode(text, at)
            at = _skip_whitespace(text, at)
            if not isinstance(name, str) or text[at] != ":":
                raise JSONDecodeError("no name", text, at)
            at = _skip_whitespace(text, at + 1)
        value, end = _DECODER.raw_decode(text, at)
        yield text[at:end], (name, value)
        at = _skip_whitespace(text, end)
        if text[at] == closing:
            break
        if text[at] != ",":
            raise JSONDecodeError("no comma", text, at)
        at = _skip_whitespace(text, at + 1)
    if _skip_whitespace(text, at + 1) != len(text):
        raise JSONDecodeError("text behind the end", text, at)


def _skip_whitespace(text: str, at: int) -> int:
    """Past the white space at `at`."""
    while at < len(text) and text[at] in " \t\n\r":
        at += 1
    return at
