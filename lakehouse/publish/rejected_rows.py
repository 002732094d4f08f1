"""Finds the row that PostgreSQL rejects, so that the error can name its key and its column.

The server's errors have the number of a line at most, and quote values, which an error must not repeat.
"""

from __future__ import annotations

import re
import select
from collections import deque
from collections.abc import Callable, Sequence

import psycopg
from psycopg import sql

from lakehouse.config import sqlstates
from lakehouse.errors import ExitCode
from lakehouse.publish import statements
from lakehouse.publish.connection import Connection, RejectedRow
from lakehouse.publish.statements import MAX_KEY_CHARS, TargetTable
from lakehouse.text import visible

# More than what is on its way between this process and the server, in the buffers of both.
_MAX_KEPT_CHARS = 32 << 20
_MAX_SEARCHED_ROWS = 100_000  # for more, finding the row would take longer than the publish
_BEFORE_ALL = "(0,0)"
# The words are in the server's language. A JSON parser's line about the value comes before.
_CONTEXT = re.compile(r"^COPY [^,\n]+, \w+ (?P<line>\d+)(?:, \w+ (?P<rest>.*))?", re.DOTALL | re.MULTILINE)
_ESCAPE = re.compile(r"\\(.)")
_UNESCAPED = {"t": "\t", "n": "\n", "r": "\r"}
_NULL = "\\N"
_TOO_LARGE = "54000"
_LIMIT = re.compile(r"(?:maximum|maximum size is|maximum size) (\d+)")


class SentLines:
    """The lines of COPY that were sent last, until the server answers: it says nothing unless it rejects a line."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._blocks: deque[tuple[int, str]] = deque()  # with the number of the first line
        self._chars = 0
        self._next_number = 1
        self._is_answered = False

    def add(self, block: str) -> None:
        """Keep a block of lines, and no more of them than can be on their way."""
        if self._is_answered:
            return
        self._blocks.append((self._next_number, block))
        self._next_number += block.count("\n")
        self._chars += len(block)
        while self._chars > _MAX_KEPT_CHARS and len(self._blocks) > 1:
            self._chars -= len(self._blocks.popleft()[1])
        self._is_answered = bool(select.select([self._connection.fileno()], [], [], 0)[0])

    def find(self, number: int) -> str | None:
        """Return the line of a number, counted from 1; None if it is not kept."""
        for first, block in self._blocks:
            if first <= number < first + block.count("\n"):
                return block.split("\n")[number - first]
        return None


def find_sent_row(
    connection: Connection, target: TargetTable, error: psycopg.Error, sent: SentLines
) -> RejectedRow | None:
    """Return the line that COPY rejects; None if the error is not about a line.

    Args:
        connection: A connection whose transaction is at the state before COPY.
        target: The published table.
        error: The error of COPY.
        sent: The lines.
    """
    context = _CONTEXT.search(error.diag.context or "")
    if context is None or connection.closed:
        return None
    column = _column_of(target, context["rest"] or "")
    line = sent.find(int(context["line"]))
    if line is None:
        return RejectedRow(column=column)
    texts = [_unescape(cell) for cell in line.split("\t")[1:]]
    values = dict(zip([c.name for c in target.columns], texts, strict=False))
    column = column or _find_column(connection, target, texts)
    return RejectedRow(format_key(target.keys, [values.get(key) for key in target.keys]), column)


def find_staged_row(
    connection: Connection, target: TargetTable, error: psycopg.Error, apply: Callable[[], object]
) -> RejectedRow | None:
    """Return the staged row that the published table does not accept; None if it cannot be found.

    Args:
        connection: A connection whose transaction is at the state before the rows were applied.
        target: The published table.
        error: The error of a statement that applies rows.
        apply: Applies the staged rows; every call is undone.
    """
    if connection.closed or sqlstates.meaning(error.sqlstate or "").exit_code != ExitCode.REFUSED:
        return None
    if error.sqlstate == _TOO_LARGE:
        return _find_largest_key(connection, target, error)
    rows = connection.execute(statements.select_staged_rows(target), [_MAX_SEARCHED_ROWS + 1]).fetchall()
    if len(rows) > _MAX_SEARCHED_ROWS:
        return None
    # The first row that makes the rows up to it fail: fewer rows than that are accepted.
    accepted, rejected = 0, len(rows)
    if not rows or not _is_accepted(connection, _BEFORE_ALL, apply):
        return None
    while rejected - accepted > 1:
        middle = (accepted + rejected) // 2
        if _is_accepted(connection, rows[middle - 1][0], apply):
            accepted = middle
        else:
            rejected = middle
    return RejectedRow(format_key(target.keys, rows[rejected - 1][1:]))


def _is_accepted(connection: Connection, last_place: str, apply: Callable[[], object]) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statements.delete_staged_rows_after(), [last_place])
            apply()
    except psycopg.Error:
        return False
    return True


def _find_largest_key(connection: Connection, target: TargetTable, error: psycopg.Error) -> RejectedRow | None:
    row = connection.execute(statements.select_largest_key(target)).fetchone()
    if row is None:
        return None
    count = len(target.keys)
    size, column = max(zip(row[count:], target.keys, strict=True))
    limit = _LIMIT.search(error.diag.message_primary or "")
    details = f": {size:,} bytes" + (f", and a key may have {int(limit[1]):,}" if limit else "")
    return RejectedRow(format_key(target.keys, row[:count]), column, details)


def format_key(keys: Sequence[str], values: Sequence[object]) -> str:
    """Return a key as people read it.

    >>> format_key(("city", "kind"), ("Natal", None))
    'city = Natal, kind = NULL'

    Args:
        keys: The names of the key columns.
        values: The value of each.
    """
    pairs = zip(keys, values, strict=True)
    return ", ".join(f"{key} = {'NULL' if v is None else visible(str(v), MAX_KEY_CHARS)}" for key, v in pairs)


def _column_of(target: TargetTable, text: str) -> str:
    """Return the column that a text such as `v: "12345"` begins with; a name may have colons of its own."""
    names = [c.name for c in target.columns if text == c.name or text.startswith((f"{c.name}:", f"{c.name} :"))]
    return max(names, key=len, default="")


def _find_column(connection: Connection, target: TargetTable, texts: Sequence[str | None]) -> str:
    """Return the first column whose value the server rejects; empty if it accepts each by itself."""
    for column, text in zip(target.columns, texts, strict=False):
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SELECT CAST(%s AS {})").format(sql.SQL(column.type)), [text])
        except psycopg.DataError:
            return column.name
    return ""


def _unescape(cell: str) -> str | None:
    return None if cell == _NULL else _ESCAPE.sub(lambda escape: _UNESCAPED.get(escape[1], escape[1]), cell)
