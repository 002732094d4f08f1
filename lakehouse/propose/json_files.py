"""Reads the objects of a JSON file one after the other, with numbers as they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import islice
from operator import getitem
from pathlib import Path
from typing import IO, Any

from lakehouse.propose.nested import Integer, Number
from lakehouse.propose.signs import UnusableFile
from lakehouse.text import is_encodable

_CHUNK_CHARS = 1 << 20
_MAX_OBJECT_CHARS = 64 << 20
_MAX_DEPTH, _MAX_MEMBERS = 5, 100  # of objects around the records; one with more members is a mapping
_DECODER = json.JSONDecoder(parse_int=Integer, parse_float=Number)


def json_text(value: Any) -> str | None:
    """Return a member as the product reads it: a string's content, anything else as it is written."""
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    return json.dumps(value)


def json_objects(path: Path, inside: tuple[str, ...] = ()) -> Iterator[Any]:
    """Yield the objects of a file: one a line, in one array, or one after the other; None for a line that is none.

    Args:
        path: The file.
        inside: The names that lead to the array of records in each of these objects; none: they are the records.

    Raises:
        UnusableFile: An array or an object is cut short, or the file is no JSON.
    """
    if inside:
        for document in json_objects(path):
            yield from reduce(getitem, inside, document)
        return
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        start = file.read(_CHUNK_CHARS)
        if start.lstrip()[:1] not in ("[", "{"):
            raise UnusableFile(
                "it does not begin with a JSON object or array" if start.strip() else "the file is empty"
            )
        is_array = start.lstrip().startswith("[")
        first_line = start.lstrip().partition("\n")[0]
        file.seek(0)
        if not is_array and (_decodes(first_line) or len(first_line) >= _CHUNK_CHARS):
            yield from (_decode_line(line) for line in file if line.strip())
        else:
            yield from _stream(file)


def find_records(paths: Iterable[Path]) -> tuple[str, ...]:
    """Return the names that lead to the records, if each file is one object with one array of objects inside.

    Args:
        paths: The files of a table; such an array may be empty in some of them.

    Returns:
        The same names for all files; none if the records are at the top, or it is not clear where they are.

    Raises:
        UnusableFile: An object is cut short, or a file is no JSON.
    """
    filled: set[tuple[str, ...]] = set()
    in_all: set[tuple[str, ...]] | None = None
    for path in paths:
        documents = list(islice(json_objects(path), 2))
        if len(documents) != 1 or not isinstance(documents[0], dict):
            return ()
        arrays = dict(_arrays(documents[0], ()))
        filled |= {names for names, has_objects in arrays.items() if has_objects}
        in_all = arrays.keys() & in_all if in_all is not None else {*arrays}
    return next(iter(filled)) if len(filled) == 1 and filled <= (in_all or set()) else ()


def _arrays(document: dict[str, Any], parents: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the names that lead to each array that is empty or has objects only, and whether it has some."""
    if len(parents) >= _MAX_DEPTH or len(document) > _MAX_MEMBERS:
        return
    for name, value in document.items():
        names = (*parents, name)
        if isinstance(value, dict):
            yield from _arrays(value, names)
        elif isinstance(value, list) and name and all(isinstance(each, dict) for each in value):
            yield names, bool(value)


def _decodes(line: str) -> bool:
    return isinstance(_decode_line(line), dict)


def _decode_line(line: str) -> Any:
    try:
        return _as_text(_DECODER.decode(line))
    except (ValueError, RecursionError):
        return None


def _as_text(value: Any) -> Any:
    """Return a value, or None if a text in it is none: half of a surrogate pair, which is malformed for `run`."""
    return value if is_encodable(value) else None


def _stream(file: IO[str]) -> Iterator[Any]:
    """Yield the elements of an array, or consecutive objects, with only one of them in memory."""
    buffer, at, is_end = file.read(_CHUNK_CHARS), 0, False
    buffer = buffer.lstrip()
    in_array = buffer.startswith("[")
    at = int(in_array)
    while True:
        while at < len(buffer) and buffer[at] in " \t\r\n,":
            at += 1
        if at < len(buffer) and buffer[at] == "]" and in_array:
            return
        try:
            value, end = _DECODER.raw_decode(buffer, at)
            if end == len(buffer) and not is_end:
                raise ValueError("a number may go on")
            yield _as_text(value)
            at = end
        except (ValueError, RecursionError):
            if is_end and at >= len(buffer) and not in_array:
                return
            if is_end or len(buffer) - at > _MAX_OBJECT_CHARS:
                raise UnusableFile(
                    "it is not a complete JSON array, nor complete objects; it may be cut short"
                ) from None
            chunk = file.read(max(_CHUNK_CHARS, len(buffer) - at))
            is_end = not chunk
            buffer, at = buffer[at:] + chunk, 0
