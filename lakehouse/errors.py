"""Defines the project's errors, each with its message in parts and the exit code that it ends with.

    LakehouseError            1  a bug, unless it is one of the classes below
    ├── ConfigError           2  the command line or pipeline.yml cannot be used
    ├── InfrastructureError   3  storage, network, a server: worth retrying
    ├── DataRefused           5  a snapshot was rejected, or a check failed
    └── LakeBusy              6  another run has locked the lake

A snapshot that is *held* for approval (4) is a result and not an exception: the run continues and reports it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from textwrap import indent
from typing import ClassVar

from lakehouse.text import visible_lines


class ExitCode(IntEnum):
    """Exit codes of the command line and of every job."""

    OK = 0
    BUG = 1
    USAGE = 2
    INFRASTRUCTURE = 3
    HELD = 4
    REFUSED = 5
    BUSY = 6


_WORST_FIRST = (
    ExitCode.BUG,
    ExitCode.USAGE,
    ExitCode.BUSY,
    ExitCode.INFRASTRUCTURE,
    ExitCode.REFUSED,
    ExitCode.HELD,
    ExitCode.OK,
)


def worst_exit_code(codes: Iterable[int]) -> int:
    """Return the exit code of a run over several tables.

    Not the greatest code wins, but the one that needs attention soonest. Without any code the run succeeded; a code
    that is not defined is a bug.

    Args:
        codes: The exit code of each table.

    >>> int(worst_exit_code([0, 4, 5]))
    5
    >>> int(worst_exit_code([5, 3]))
    3
    """
    defined = set(ExitCode)
    seen = {code if code in defined else ExitCode.BUG for code in codes}
    return next((code for code in _WORST_FIRST if code in seen), ExitCode.OK)


class LakehouseError(Exception):
    """Root of all errors that the project raises on purpose.

    Messages quote names and values of sources: each part is printable and cut (`lakehouse/text.py`).

    Args:
        found: The finding, as a sentence or as one line per discrepancy.
        expected: The correct form.
        where: The file, line and column, or the table and snapshot.
        next_step: The next command to type, or the change to make.
        kept: The finding without values of rows, if `found` has some: for the ledger, run records and notifications,
            which outlive the rows.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(
        self, found: str, *, expected: str = "", where: str = "", next_step: str = "", kept: str | None = None
    ) -> None:
        self.found, self.expected, self.where, self.next_step = map(visible_lines, (found, expected, where, next_step))
        self._kept = None if kept is None else visible_lines(kept)
        super().__init__(self.found)

    @property
    def kept(self) -> str:
        """The finding without values of rows."""
        return self.found if self._kept is None else self._kept

    def to_record(self) -> str:
        """Return the error as it is kept: as `to_text`, without values of rows."""
        is_trace = self._kept is not None and "\n" in self.where  # its last line is the finding again
        return self._to_text(self.kept, "" if is_trace else self.where)

    def to_text(self) -> str:
        """Return the error as people read it: one labelled line for each part, further lines indented."""
        return self._to_text(self.found, self.where)

    def _to_text(self, found: str, where: str) -> str:
        parts = {
            "found": found,
            "expected": self.expected,
            "where": where,
            "next": self.next_step,
        }
        lines = {label: indent(text.strip(), " " * 10).lstrip() for label, text in parts.items() if text}
        return "\n".join(f"{label + ':':<10}{text}" for label, text in lines.items())

    def __str__(self) -> str:
        return self.to_text()


class ConfigError(LakehouseError):
    """The command line or the configuration cannot be used."""

    exit_code = ExitCode.USAGE


class InfrastructureError(LakehouseError):
    """Storage, network or a server failed; the same command may succeed later."""

    exit_code = ExitCode.INFRASTRUCTURE


class DataRefused(LakehouseError):
    """A snapshot was rejected, or a check on data failed."""

    exit_code = ExitCode.REFUSED


class LakeBusy(LakehouseError):
    """Another run has locked the lake."""

    exit_code = ExitCode.BUSY
