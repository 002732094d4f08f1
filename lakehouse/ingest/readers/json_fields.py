"""Splits JSON into elements and members, each as the unchanged slice of text that it is.

Spark's own parser accepts text after the end of an object, and converts numbers to doubles before it returns them as
text, so that amounts of money would lose digits. These functions run in Spark's Python workers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from json import JSONDecodeError
from typing import Any

from lakehouse.storage.json_text import DECODER, PARSE_ERRORS, skip_whitespace


def elements(text: str) -> list[str] | None:
    """Return the elements of an array, or consecutive objects, unchanged; None if the text is anything else.

    >>> elements('[{"a": 1.10}, 2]')
    ['{"a": 1.10}', '2']
    >>> elements('{"a": 1} {}')
    ['{"a": 1}', '{}']
    """
    text = text.removeprefix("\ufeff")
    try:
        at = skip_whitespace(text, 0)
        if text[at] == "[":
            return [raw for raw, _ in _items(text, "[", "]")]
        objects = []
        while at < len(text):
            if text[at] != "{":
                return None
            _, end = DECODER.raw_decode(text, at)
            objects.append(text[at:end])
            at = skip_whitespace(text, end)
        return objects
    except PARSE_ERRORS:
        return None


def members(text: str) -> dict[str, str | None] | None:
    """Return the members of an object: null as None, a string as a quote and its content, all else unchanged.

    Return None if the text is not exactly one object, or if it has a name twice, in any case.

    >>> members('{"a": 1.10, "b": "1.10", "c": null, "d": [1, 2]}')
    {'a': '1.10', 'b': '"1.10', 'c': None, 'd': '[1, 2]'}
    >>> members('{"id": 1, "ID": 2}') is None
    True
    """
    values: dict[str, str | None] = {}
    seen: set[str] = set()
    try:
        for raw, (name, value) in _items(text, "{", "}"):
            if name.lower() in seen:
                return None
            seen.add(name.lower())
            values[name] = f'"{value}' if raw.startswith('"') else raw if value is not None else None
            f"{name}{values[name]}".encode()  # fails for half a surrogate pair, which is no text
    except PARSE_ERRORS:
        return None
    return values


Shape = list["Shape"] | dict[str, "Shape"] | None
"""The declared form of a value: a list of one shape for an array, names with shapes for a struct, None for a leaf."""


def leaf_texts(text: str, shape: Shape) -> str | None:
    """Return a nested value as JSON with the declared members only, and with each leaf as a string of its text.

    Return None if the value does not have this shape, or names a member twice.

    >>> leaf_texts('{"X": [1.10, "a", null], "other": 1}', {"x": [None]})
    '{"x":["1.10","a",null]}'
    """
    try:
        return _leaf_texts(text, shape)
    except PARSE_ERRORS:
        return None


def _leaf_texts(text: str, shape: Shape) -> str:
    if text == "null":
        return text
    if isinstance(shape, list):
        return f"[{','.join(_leaf_texts(raw, shape[0]) for raw, _ in _items(text, '[', ']'))}]"
    if shape is None:
        return text if text.startswith('"') else json.dumps(text)
    raw_by_name: dict[str, str] = {}
    for raw, (name, _) in _items(text, "{", "}"):
        if name.lower() in raw_by_name:
            raise JSONDecodeError("a name twice", text, 0)
        raw_by_name[name.lower()] = raw
    members = [
        f"{json.dumps(name)}:{_leaf_texts(raw_by_name[name.lower()], inner)}"
        for name, inner in shape.items()
        if name.lower() in raw_by_name
    ]
    return f"{{{','.join(members)}}}"


def is_unfinished(line: str) -> bool:
    """Return whether a line begins an object that it does not end.

    >>> is_unfinished('{"a": 1,'), is_unfinished('{"a": 1} {"a": 2}'), is_unfinished('nonsense')
    (True, False, False)
    """
    at = skip_whitespace(line, 0)
    if not line.startswith("{", at):
        return False
    try:
        DECODER.raw_decode(line, at)
    except PARSE_ERRORS:
        return True
    return False


def _items(text: str, opening: str, closing: str) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Yield the raw text of each value between `opening` and `closing`, with its name and its parsed value."""
    at = skip_whitespace(text, 0)
    if text[at] != opening:
        raise JSONDecodeError(f"no {opening}", text, at)
    at = skip_whitespace(text, at + 1)
    is_empty = text[at] == closing
    while not is_empty:
        name = ""
        if opening == "{":
            name, at = DECODER.raw_decode(text, at)
            at = skip_whitespace(text, at)
            if not isinstance(name, str) or text[at] != ":":
                raise JSONDecodeError("no name", text, at)
            at = skip_whitespace(text, at + 1)
        value, end = DECODER.raw_decode(text, at)
        yield text[at:end], (name, value)
        at = skip_whitespace(text, end)
        if text[at] == closing:
            break
        if text[at] != ",":
            raise JSONDecodeError("no comma", text, at)
        at = skip_whitespace(text, at + 1)
    if skip_whitespace(text, at + 1) != len(text):
        raise JSONDecodeError("text behind the end", text, at)
