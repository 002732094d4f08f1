"""What can go wrong, told in one short block, and the exit code each of it ends with.

    LakehouseError            1  a bug, unless a leaf says otherwise
    ├── ConfigError           2  the command line or pipeline.yml cannot be used as they are
    ├── InfrastructureError   3  storage, network, a server: worth retrying
    ├── DataRefused           5  a snapshot was rejected, or a check failed
    └── LakeBusy              6  another run holds the lake

A snapshot *held* for approval (4) is a result, not an exception: the run goes on and reports it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from textwrap import indent
from typing import ClassVar


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
    """The code that a run over several tables ends with.

    Not the greatest number: what needs a person's hand soonest wins. No code at all is success; a code
    that nobody defined is a bug.

    >>> int(worst_exit_code([0, 4, 5]))
    5
    >>> int(worst_exit_code([5, 3]))
    3
    """
    defined = set(ExitCode)
    seen = {code if code in defined else ExitCode.BUG for code in codes}
    return next((code for code in _WORST_FIRST if code in seen), ExitCode.OK)


class LakehouseError(Exception):
    """Root of every error raised on purpose.

    Args:
        found: What was found, as a sentence or as one line per discrepancy.
        expected: What would have been right.
        where: File, line and column, or table and snapshot.
        next_step: The next command to type, or what to change.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(self, found: str, *, expected: str = "", where: str = "", next_step: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.expected = expected
        self.where = where
        self.next_step = next_step

    def to_text(self) -> str:
        """The error as people read it: one labelled line per thing known, longer texts indented."""
        parts = {
            "found": self.found,
            "expected": self.expected,
            "where": self.where,
            "next": self.next_step,
        }
        return "\n".join(f"{label + ':':<10}{_indent_after_label(text, 10)}" for label, text in parts.items() if text)

    def __str__(self) -> str:
        return self.to_text()


class ConfigError(LakehouseError):
    """The command line or the configuration cannot be used as they are."""

    exit_code = ExitCode.USAGE


class InfrastructureError(LakehouseError):
    """Storage, network or a server failed; the same command may succeed later."""

    exit_code = ExitCode.INFRASTRUCTURE


class DataRefused(LakehouseError):
    """A snapshot was rejected, or a check on data failed."""

    exit_code = ExitCode.REFUSED


class LakeBusy(LakehouseError):
    """Another run holds the lake."""

    exit_code = ExitCode.BUSY


def _indent_after_label(text: str, width: int) -> str:
    return indent(text.strip(), " " * width).lstrip()
