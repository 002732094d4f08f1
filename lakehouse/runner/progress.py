"""Defines how a command reports its progress while it works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Receives the progress of a command, from several threads. This class ignores it; `cli/progress.py` shows it."""

    def begin(self, step: str, total: int = 0) -> None:
        """Note that a step begins, which ends the one before.

        Args:
            step: The stage, or another part of the command.
            total: The number of tables and models that the step works on; 0 if it is unknown.
        """

    def advance(self) -> None:
        """Note that the step is done with one of its tables or models."""

    def add_bytes(self, done: int, expected: int = 0) -> None:
        """Note bytes of the step, which copies files.

        Args:
            done: Bytes that were copied since the last call.
            expected: Further bytes that are to be copied.
        """

    @contextmanager
    def waiting(self, reason: str) -> Iterator[None]:
        """Note for the length of a `with` block that the step waits.

        Args:
            reason: The work that it waits for, such as "starting Spark".
        """
        yield
