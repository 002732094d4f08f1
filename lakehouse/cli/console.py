"""Writes texts, tables and JSON documents to stdout and stderr, without control characters and past a closed pipe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import IO, Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.text import escape_json, visible_lines

_PIPED_WIDTH = 200


class SafeConsole(Console):
    """A console that writes no control character of a text that it is given: names, values and messages are foreign."""

    def __init__(self, file: TextIO, width: int | None = None) -> None:
        super().__init__(file=file, highlight=False, markup=False, emoji=False, width=width)

    def on_broken_pipe(self) -> None:
        """Write no more: the reader, such as `head`, has enough. The command goes on, with its own exit code."""
        self.quiet = True
        _write_to_nowhere(self.file)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text, such as the cell of a table, as it is shown."""
        return super().render_str(visible_lines(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts and tables; in a pipe or file, without the blanks that fill the lines of a table."""
        visible = [_visible_text(each) if isinstance(each, Text) else each for each in objects]
        if self.is_terminal:
            super().print(*visible, **options)
            return
        with self.capture() as printed:
            super().print(*visible, **options)
        try:
            self.file.write("\n".join(line.rstrip(" ") for line in printed.get().split("\n")))
            self.file.flush()
        except BrokenPipeError:
            self.on_broken_pipe()


def _visible_text(text: Text) -> Text:
    return Text(visible_lines(text.plain), style=text.style)


def stdout() -> Console:
    """Return the console for results; in a pipe it is wide."""
    return SafeConsole(sys.stdout, None if sys.stdout.isatty() else _PIPED_WIDTH)


def stderr() -> Console:
    """Return the console for progress, warnings and errors."""
    return SafeConsole(sys.stderr)


def _write_to_nowhere(file: IO[str]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file.fileno())
    os.close(nowhere)


def print_json(content: dict[str, Any]) -> None:
    """Print the one document of `--json`."""
    try:
        print(escape_json(json.dumps(content, ensure_ascii=False, indent=1, default=str)), flush=True)
    except BrokenPipeError:
        _write_to_nowhere(sys.stdout)


def print_rows(out: Console, title: str, rows: list[dict[str, Any]], columns: Iterable[str] = ()) -> None:
    """Print rows as a table, without the columns in which no row has a value.

    Args:
        out: The console.
        title: The title of the table.
        rows: The rows, with equal keys.
        columns: The columns; by default those of the first row.
    """
    names = [c for c in columns or rows[0] if any(row[c] not in (None, "", [], {}) for row in rows)]
    if title:  # not as the table's title, which rich wraps at the width of the table
        out.print(Text(title, style="table.title"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in names:
        table.add_column(
            column.replace("_", " "), overflow="fold", justify="right" if _is_number(rows, column) else "left"
        )
    for row in rows:
        table.add_row(*[cell_text(row[column]) for column in names])
    out.print(table)


def _is_number(rows: list[dict[str, Any]], column: str) -> bool:
    return all(isinstance(row[column], int | float | None) and not isinstance(row[column], bool) for row in rows)


def cell_text(value: Any) -> str:
    """Return a value as it stands in the cell of a table; lists and mappings in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def indent(text: str) -> str:
    """Return a text with each line indented, for details below a line."""
    return "\n".join("    " + line for line in text.splitlines())
