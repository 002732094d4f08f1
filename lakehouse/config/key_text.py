"""Parses the key of a row as people type it: `7`, or `id=7,uf=SP` for a key of several columns. Uses no Spark."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NULL = "NULL"

_PART = re.compile(r'(?P<name>[^=,"]+)=(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>(?!")[^,]*))(?:,(?=.)|$)', re.DOTALL)


class KeyTextError(ValueError):
    """A text does not name a key."""


def parse_key_text(columns: Sequence[str], words: Sequence[str], may_be_null: bool = True) -> dict[str, str | None]:
    """Return the text of each column of a key; None for a null.

    One word has all columns, with a comma between them: `id=7,uf=SP`. A value that contains a comma or a double quote,
    or begins or ends with a blank, is in double quotes, and a double quote in it is doubled: `id=7,uf="a, ""b"" c"`. A
    value that is blank, or NULL without quotes, is null; `""` is the empty text. Several words have one column each,
    and their values need no quotes. A key of one column is its value as it is, or the same with its name.

    >>> parse_key_text(["id"], ["a=1, 2"]), parse_key_text(["id"], ["id=NULL"])
    ({'id': 'a=1, 2'}, {'id': None})
    >>> parse_key_text(["id", "uf"], ['uf="S,P",id='])
    {'id': None, 'uf': 'S,P'}

    Args:
        columns: The columns of the key.
        words: The words.
        may_be_null: Whether a column of the key may be null; if not, NULL is a text as any other.

    Raises:
        KeyTextError: The words do not have each column once.
    """
    if len(columns) == 1 and len(words) == 1 and not _names(columns[0], words[0]):
        return {columns[0]: words[0]}
    parts = _split(words[0]) if len(words) == 1 else [_split_word(word) for word in words]
    nulls = ("", NULL) if may_be_null else ()
    by_name = {name.lower(): None if text in nulls and not is_quoted else text for name, text, is_quoted in parts}
    if len(by_name) != len(parts) or by_name.keys() != {column.lower() for column in columns}:
        raise KeyTextError
    return {column: by_name[column.lower()] for column in columns}


def parse_values(columns: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    """Return the texts of some columns, none of which is empty, in the order of the columns.

    >>> parse_values(["id", "uf", "day"], ["DAY=2025-01-01", "id=a=1"]), parse_values(["id", "uf"], ['uf="S,P"'])
    ({'id': 'a=1', 'day': '2025-01-01'}, {'uf': 'S,P'})

    Args:
        columns: The columns that may be named.
        words: The words, as for `parse_key_text`.

    Raises:
        KeyTextError: The words name another column, or one twice.
    """
    parts = _split(words[0]) if len(words) == 1 else [_split_word(word) for word in words]
    texts = {name.lower(): text for name, text, _ in parts if text}
    found = {column: texts[column.lower()] for column in columns if column.lower() in texts}
    if len(found) < len(parts):
        raise KeyTextError
    return found


def key_form(columns: Iterable[str]) -> str:
    """Return how a key of these columns is typed.

    >>> key_form(["id", "uf"]), key_form(["id"])
    ('id=...,uf=...', 'KEY')
    """
    names = list(columns)
    return "KEY" if len(names) == 1 else ",".join(f"{name}=..." for name in names)


def _names(column: str, word: str) -> bool:
    """Return whether a word is a column's name, `=` and one value."""
    match = _PART.fullmatch(word)
    return match is not None and match["name"].strip().lower() == column.lower()


def _split(word: str) -> list[tuple[str, str, bool]]:
    """Return the name and text of each part, and whether the text is in quotes."""
    parts, at = [], 0
    while at < len(word):
        match = _PART.match(word, at)
        if match is None:
            raise KeyTextError
        quoted = match["quoted"]
        text = match["plain"] if quoted is None else quoted.replace('""', '"')
        parts.append((match["name"].strip(), text, quoted is not None))
        at = match.end()
    return parts


def _split_word(word: str) -> tuple[str, str, bool]:
    name, equals, text = word.partition("=")
    if not equals:
        raise KeyTextError
    return name.strip(), text, False
