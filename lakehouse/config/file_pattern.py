"""Reads columns from the names of files: `clientes_{uf}.csv` is the files `clientes_*.csv`, whose names give `uf`.

A placeholder is a column only if the schema declares it; else it is a part of the name, like any other character. It
stands for at least one character, and for as few as the rest of the pattern allows; it does not cross a `/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

_TOKENS = re.compile(r"\[!?\]?[^\]]*\]|\*\*/|\*\*|\*|\?|\{([^{}/]*)\}|.", re.DOTALL)


class _Token(NamedTuple):
    """A part of a pattern: a column, or a text that a glob has too."""

    text: str
    column: str | None = None


@dataclass(frozen=True)
class FilePattern:
    """The `file` of a table, with the columns that the names of its files have.

    Attributes:
        text: The pattern as written: a glob with placeholders.
        declared: The declared columns.
    """

    text: str
    declared: tuple[str, ...]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read from a file's name, in the order of the pattern."""
        return tuple(dict.fromkeys(token.column for token in self._tokens if token.column is not None))

    @cached_property
    def unknown_placeholders(self) -> tuple[str, ...]:
        """The placeholders that are no column, so that they stand for themselves."""
        found = (token.text for token in self._tokens if token.column is None)
        return tuple(text for text in found if len(text) > 2 and text.startswith("{"))

    @cached_property
    def glob(self) -> str:
        """The glob that finds all files of the pattern, and perhaps others."""
        return "".join("*" if token.column is not None else token.text for token in self._tokens)

    def values(self, name: str) -> dict[str, str] | None:
        """Return the texts of the columns in a file's name; None if the name does not match the pattern.

        >>> FilePattern("{ano}/clientes_{uf}.csv", ("id", "uf", "ano")).values("2025/clientes_SP.csv")
        {'ano': '2025', 'uf': 'SP'}

        Args:
            name: The file's path inside its snapshot.
        """
        match = self._expression.fullmatch(name)
        return {column: match[f"c{n}"] for n, column in enumerate(self.columns)} if match else None

    def find_values(self, name: str) -> dict[str, str] | None:
        """Return the texts of the columns in the name of a file, or of the archive that it is in (`a_SP.zip/a.csv`).

        Args:
            name: The file's path inside its snapshot, with those of the archives that it is in.
        """
        parts = name.split("/")
        names = ("/".join(parts[:end]) for end in range(len(parts), 0, -1))
        return next((values for each in names if (values := self.values(each)) is not None), None)

    def ambiguous_neighbours(self) -> Iterator[tuple[str, str]]:
        """Yield each placeholder with its neighbour, if nothing in a name separates the two."""
        for left, right in zip(self._tokens, self._tokens[1:], strict=False):
            is_open = [token.column is not None or token.text.startswith("*") for token in (left, right)]
            if all(is_open) and (left.column is not None or right.column is not None):
                yield left.text, right.text

    @cached_property
    def _tokens(self) -> tuple[_Token, ...]:
        by_lower_name = {name.lower(): name for name in self.declared}
        return tuple(
            _Token(match[0], by_lower_name.get(match[1].lower()) if match[1] else None)
            for match in _TOKENS.finditer(self.text.removeprefix("./"))
        )

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        parts, seen = [], set[str]()
        for token in self._tokens:
            if token.column is None:
                parts.append(_glob_expression(token.text))
            elif token.column in seen:  # the same text again
                parts.append(f"(?P=c{self.columns.index(token.column)})")
            else:
                parts.append(f"(?P<c{self.columns.index(token.column)}>[^/]+?)")
                seen.add(token.column)
        return re.compile("".join(parts), re.DOTALL)


def _glob_expression(text: str) -> str:
    """Return the regular expression of a part of a glob."""
    if text == "**/":
        return "(?:[^/]+/)*"
    if text.startswith("*"):
        return "[^/]*"
    if text == "?":
        return "[^/]"
    if text.startswith("[") and len(text) > 2:
        is_negated = text.startswith("[!")
        inside = re.sub(r"[\\\[\]^]", r"\\\g<0>", text[2 if is_negated else 1 : -1])
        return f"[{'^' if is_negated else ''}{inside}]"
    return re.escape(text)


@lru_cache(maxsize=1024)
def file_pattern(text: str, declared: tuple[str, ...]) -> FilePattern:
    """Return a pattern, parsed once.

    Args:
        text: The pattern as written.
        declared: The declared columns.
    """
    return FilePattern(text, declared)


def columns_in_name(text: object, declared: Iterable[str]) -> tuple[str, ...]:
    """Return the columns that a table's `file` takes from the names of its files; none if it is no text.

    Args:
        text: The table's `file`, as written.
        declared: The declared columns.
    """
    return file_pattern(text, tuple(declared)).columns if isinstance(text, str) else ()
