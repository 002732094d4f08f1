"""Identifies processes of this machine, so that a reused process id is never taken for an older process."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Process:
    """A process: its id, and when it started as `/proc` states it (a text without a meaning of its own)."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the process that has an id now, or None if there is none.

        Args:
            pid: The process id.
        """
        started = start_time(pid)
        return cls(pid, started) if started else None

    @classmethod
    def from_document(cls, document: Any) -> Process | None:
        """Return a process from a result of `document`, or None if it is something else.

        Args:
            document: A value from a JSON file.
        """
        if not isinstance(document, dict) or document.get("started") is None:
            return None
        try:
            return cls(int(document["pid"]), str(document["started"]))
        except (KeyError, TypeError, ValueError):
            return None

    def document(self) -> dict[str, Any]:
        """Return the process for a JSON file."""
        return asdict(self)

    def is_alive(self) -> bool:
        """Return whether the process still runs; a stopped one does."""
        return start_time(self.pid) == self.started

    def kill(self, signum: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, if the process still runs.

        Args:
            signum: The signal.
        """
        if self.is_alive():
            try:
                os.kill(self.pid, signum)
            except ProcessLookupError:
                return

    def wait(self, seconds: float) -> bool:
        """Wait until the process has ended.

        Args:
            seconds: How long to wait.

        Returns:
            Whether it has ended.
        """
        deadline = time.monotonic() + seconds
        while self.is_alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def start_time(pid: int) -> str | None:
    """Return when a process started, or None if it has ended.

    A process id can be reused; together with the start time it identifies one process.

    Args:
        pid: The process id.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before ")" can contain anything
    return None if fields[0] == "Z" else fields[19]
