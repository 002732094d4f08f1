"""Finds the arrays of records inside JSON documents, by the names that lead to them (`records`).

A file has one document, or several one after another. All of it is parsed strictly by RFC 8259; only one value is in
memory at a time, beside the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from lakehouse.errors import DataRefused
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.json_text import DECODER, PARSE_ERRORS, skip_whitespace

_LINE_END = re.compile("\r\n|\r|\n")
_SHOWN_NAMES = 10
_KINDS = {"{": "an object", "[": "an array", '"': "a text", "t": "true", "f": "false", "n": "null"}


class Span(NamedTuple):
    """Where an array is in a text, with its brackets."""

    start: int
    end: int


class _NotThere(Exception):
    """A document has no array at the path: what is there, and the names beside it, which may be data."""

    def __init__(self, found: str, others: list[str] | None = None) -> None:
        super().__init__(found)
        self.others = others or []


def copy_records(path: StorePath, target: Path, names: tuple[str, ...], shows_names: bool = False) -> None:
    """Copy the records of a file as one array, each on the line on which it is in the file.

    Args:
        path: The file, in UTF-8.
        target: The copy.
        names: The names that lead to the array.
        shows_names: Whether a message may have other names of the document, which can be data.

    Raises:
        DataRefused: A document has no array there, or is no complete JSON.
    """
    text = _read(path)
    spans = find_arrays(text, path, names, shows_names)
    with target.open("w", encoding="utf-8", newline="") as out:
        end, is_first = 0, True
        for span in spans:
            out.write("\n" * len(_LINE_END.findall(text, end, span.start)) + ("[" if end == 0 else ""))
            end = span.end - 1
            if skip_whitespace(text, span.start + 1) < end:
                out.write("" if is_first else ",")
                _write_slice(out.write, text, span.start + 1, end)
                is_first = False
        out.write("]")


def copy_with_records(path: Path, target: Path, names: tuple[str, ...], rewrite: Callable[[str], str]) -> None:
    """Copy a file with other arrays of records in the same documents.

    Args:
        path: The file.
        target: The copy.
        names: The names that lead to the arrays.
        rewrite: Gets the text of an array, and returns the one to write.

    Raises:
        DataRefused: A document has no array there, or is no complete JSON.
    """
    text = _read(path)
    with target.open("w", encoding="utf-8", newline="") as out:
        end = 0
        for span in find_arrays(text, path, names):
            _write_slice(out.write, text, end, span.start)
            out.write(rewrite(text[span.start : span.end]))
            end = span.end
        _write_slice(out.write, text, end, len(text))


def find_arrays(text: str, path: StorePath, names: tuple[str, ...], shows_names: bool = False) -> list[Span]:
    """Return where the array of records of each document of a text is.

    Args:
        text: The text.
        path: The file that it is from, for messages.
        names: The names that lead to the array; their case is ignored.
        shows_names: Whether a message may have other names of the document, which can be data.

    Raises:
        DataRefused: A document has no array there, or is no complete JSON.
    """
    spans: list[Span] = []
    at = skip_whitespace(text, 0)
    try:
        while at < len(text) or not spans:
            if at == len(text):
                raise _NotThere("it is empty")
            span, end = _find_array(text, at, names, ())
            spans.append(span)
            at = skip_whitespace(text, end)
    except _NotThere as error:
        raise _no_array(path, names, str(error), error.others if shows_names else []) from None
    except PARSE_ERRORS:
        raise DataRefused(
            f"{path.name} is no complete JSON document",
            expected="one document, or several one after another, by RFC 8259",
            where=str(path),
            next_step="the file may be cut short",
        ) from None
    return spans


def _find_array(text: str, at: int, names: tuple[str, ...], parents: tuple[str, ...]) -> tuple[Span, int]:
    """Return where the array is in the value at `at`, and the end of that value."""
    where = ".".join(parents) or "the document"
    if not names:
        if text[at] != "[":
            raise _NotThere(f"{where} is {_kind(text, at)}")
        end = _array_end(text, at)
        return Span(at, end), end
    if text[at] != "{":
        raise _NotThere(f"{where} is {_kind(text, at)}")
    found: Span | None = None
    others: list[str] = []
    at = skip_whitespace(text, at + 1)
    while text[at] != "}":
        name, at = _read_name(text, at)
        if name.lower() != names[0].lower():
            others.append(name)
            _, at = DECODER.raw_decode(text, at)
        elif found:
            raise _NotThere(f"{where} has {name} twice")
        else:
            found, at = _find_array(text, at, names[1:], (*parents, name))
        at = _next_value(text, at, "}")
    if found is None:
        raise _NotThere(f"{where} has no {names[0]}", others)
    return found, at + 1


def _kind(text: str, at: int) -> str:
    """Return what the value at `at` is."""
    DECODER.raw_decode(text, at)  # raises if it is none
    return _KINDS.get(text[at], "a number")


def _read_name(text: str, at: int) -> tuple[str, int]:
    """Return the name of a member, and where its value begins."""
    name, at = DECODER.raw_decode(text, at)
    at = skip_whitespace(text, at)
    if not isinstance(name, str) or text[at] != ":":
        raise ValueError("no name")
    return name, skip_whitespace(text, at + 1)


def _next_value(text: str, at: int, closing: str) -> int:
    """Return where the next value begins after one that ends at `at`, or where the closing bracket is."""
    at = skip_whitespace(text, at)
    if text[at] == closing:
        return at
    if text[at] != ",":
        raise ValueError("no comma")
    at = skip_whitespace(text, at + 1)
    if text[at] == closing:
        raise ValueError("a comma before the end")
    return at


def _array_end(text: str, at: int) -> int:
    """Return the position after the array at `at`."""
    at = skip_whitespace(text, at + 1)
    while text[at] != "]":
        _, at = DECODER.raw_decode(text, at)
        at = _next_value(text, at, "]")
    return at + 1


def _read(path: StorePath) -> str:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return file.read()


def _write_slice(write: Callable[[str], object], text: str, start: int, end: int) -> None:
    """Write a part of a text in pieces, so that there is no second copy of it."""
    for at in range(start, end, 1 << 20):
        write(text[at : min(at + (1 << 20), end)])


def _no_array(path: StorePath, names: tuple[str, ...], problem: str, others: list[str]) -> DataRefused:
    found = f"{path.name} has no array of records: {problem}"
    more = ", ..." if len(others) > _SHOWN_NAMES else ""
    return DataRefused(
        f"{found}; it has {', '.join(others[:_SHOWN_NAMES])}{more}" if others else found,
        kept=found,
        expected=f"an array at `records`, {'.'.join(names)}, in each document",
        where=str(path),
        next_step="correct `records`, or have the source deliver the file again, with a time of its own",
    )
