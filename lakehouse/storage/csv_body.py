"""Separates the records of a CSV file from the lines before and after them that are no data.

A line ends in LF, CR LF or CR; quotes mean nothing in a line that is left out. Empty lines at the end of the file are
no lines of the footer, since some programs write one and others do not; those inside the footer are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TextIO

from lakehouse.errors import DataRefused
from lakehouse.storage.csv_dialect import Dialect
from lakehouse.storage.file_io import StorePath
from lakehouse.text import counted

_CHUNK = 1 << 20  # characters
_MAX_LINE = 1 << 27  # characters: as many as a field may have
_LINE_END = re.compile("\r\n|\r|\n")
_UNDECODABLE = re.compile("[\udc80-\udcff]")  # bytes that `surrogateescape` keeps


class CutLines(NamedTuple):
    """The numbers of lines that are no data.

    Attributes:
        first: Of lines at the beginning of the file.
        last: Of lines at its end.
    """

    first: int
    last: int


class Body(NamedTuple):
    """What is around the records of a file, and what is in them.

    Attributes:
        head: The lines before the records, as they are.
        foot: The lines behind them, with the empty lines at the end of the file.
        has_quote: Whether a double quote is among the records.
        is_decodable: Whether the bytes of the records are valid in the encoding.
    """

    head: str
    foot: str
    has_quote: bool
    is_decodable: bool


def copy_with_empty_head(path: StorePath, target: Path, dialect: Dialect, lines: CutLines) -> Body:
    """Copy a file without its footer, and with empty lines in place of its head, so that line numbers stay.

    Args:
        path: The file.
        target: The copy.
        dialect: The table's dialect.
        lines: The lines to leave out.

    Raises:
        DataRefused: The file has fewer lines than are left out.
    """
    is_utf16 = dialect.options["encoding"].startswith("UTF-16")  # half a character cannot be kept
    with (
        dialect.open_text(path, "replace" if is_utf16 else "surrogateescape") as file,
        _open_target(target, dialect, "strict" if is_utf16 else "surrogateescape") as out,
    ):
        return _copy_body(file, out, path, lines, lambda _, line_end: line_end * lines.first)


def copy_with_body(
    path: Path, target: Path, dialect: Dialect, lines: CutLines, rewrite: Callable[[Path, Path], None]
) -> None:
    """Copy a file with other records between the same head and foot.

    Args:
        path: The file.
        target: The copy.
        dialect: The table's dialect.
        lines: The lines that are no records.
        rewrite: Reads the records from the file at the first path, and writes those to keep to the second.

    Raises:
        DataRefused: The file has fewer lines than these.
    """
    body, kept = target.with_name(f"{target.name}.body"), target.with_name(f"{target.name}.kept")
    try:
        with _open_unchanged(path, dialect) as file, _open_target(body, dialect) as out:
            parts = _copy_body(file, out, path, lines, lambda *_: "")
        rewrite(body, kept)
        with _open_unchanged(kept, dialect) as file, _open_target(target, dialect) as out:
            out.write(parts.head)
            while chunk := file.read(_CHUNK):
                out.write(chunk)
            out.write(parts.foot)
    finally:
        body.unlink(missing_ok=True)
        kept.unlink(missing_ok=True)


def _open_unchanged(path: Path, dialect: Dialect) -> TextIO:
    return path.open(encoding=dialect.options["encoding"], errors="surrogateescape", newline="")


def _open_target(target: Path, dialect: Dialect, errors: str = "surrogateescape") -> TextIO:
    return target.open("w", encoding=dialect.options["encoding"], errors=errors, newline="")


def _copy_body(file: TextIO, out: TextIO, path: StorePath, lines: CutLines, to_head: Callable[[str, str], str]) -> Body:
    """Copy the records of a file; `to_head` gets the head and the line end of the records, and returns what to copy."""
    head = [_read_line(file, path) for _ in range(lines.first)]
    first = _read_line(file, path)
    line_end = _LINE_END.search(first) or (_LINE_END.search(head[-1]) if head else None)
    out.write(to_head("".join(head), line_end[0] if line_end else "\n"))
    rest, has_quote, is_decodable = "", False, True
    for chunk in chain([first], iter(lambda: file.read(_CHUNK), "")):
        rest += chunk
        end = _foot_start(rest, lines.last) or 0
        body, rest = rest[:end], rest[end:]
        if len(rest) > _MAX_LINE:
            raise _long_line(path)
        has_quote = has_quote or '"' in body
        is_decodable = is_decodable and not _UNDECODABLE.search(body)
        out.write(body)
    has_all = bool(not head or head[-1]) and _foot_start(rest, lines.last) is not None
    if not has_all:
        found_lines = sum(map(bool, head)) + len(_LINE_END.split(rest.rstrip("\r\n"))) * bool(rest.strip("\r\n"))
        raise _few_lines(path, found_lines, lines)
    return Body("".join(head), rest, has_quote, is_decodable)


def _read_line(file: TextIO, path: StorePath) -> str:
    line = file.readline(_MAX_LINE)
    if len(line) == _MAX_LINE:
        raise _long_line(path)
    return line


def _foot_start(text: str, count: int) -> int | None:
    """Return where the last lines of a text begin, empty ones at its end not counted; None if it has fewer lines.

    >>> _foot_start("a\\nb\\r\\nc\\n", 1), _foot_start("a\\nb\\n\\n", 1), _foot_start("a", 1), _foot_start("a\\n", 2)
    (5, 2, 0, None)
    """
    if not count:
        return len(text)
    start = len(text.rstrip("\r\n"))
    for number in range(count):
        if number:  # the line end before the line that was found last
            start -= 2 if text[start - 2 : start] == "\r\n" else 1
        if start < 0 or (start == 0 and not number):
            return None
        start = max(text.rfind("\n", 0, start), text.rfind("\r", 0, start)) + 1
    return start


def _long_line(path: StorePath) -> DataRefused:
    return DataRefused(
        f"{path.name} has a line of more than {_MAX_LINE:,} characters",
        expected="lines that end in LF, CR LF or CR",
        where=str(path),
        next_step="look at the file: it may be another file, or cut short",
    )


def _few_lines(path: StorePath, found: int, lines: CutLines) -> DataRefused:
    parts = {"skip_lines": lines.first, "skip_footer": lines.last}
    settings = " and ".join(f"{name}: {count}" for name, count in parts.items() if count)
    return DataRefused(
        f"{path.name} has {counted(found, 'line')}, fewer than are left out ({settings})",
        expected=f"at least {counted(lines.first + lines.last, 'line')}",
        where=str(path),
        next_step="correct these settings, or have the source deliver the file again, with a time of its own",
    )
