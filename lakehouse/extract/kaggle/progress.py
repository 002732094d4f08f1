"""How far a download is: a bar with bytes on stderr where that is a terminal, nothing where it is not."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


class DownloadBar:
    """The bar of one download, for the length of a `with` block."""

    def __init__(self, what: str) -> None:
        console = Console(file=sys.stderr, markup=False, emoji=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
        self._progress = Progress(
            *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
        )
        self._task = self._progress.add_task(what, total=None)

    def __enter__(self) -> DownloadBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, done: int, total: int | None) -> None:
        """Say how many bytes are there, of how many."""
        self._progress.update(self._task, completed=done, total=total)
