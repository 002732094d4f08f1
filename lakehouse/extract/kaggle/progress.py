"""Shows the progress of a download on stderr if that is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from lakehouse.text import visible


class DownloadBar:
    """The progress bar of one download, for the length of a `with` block."""

    def __init__(self, description: str) -> None:
        console = Console(file=sys.stderr, markup=False, emoji=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
        self._progress = Progress(
            *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
        )
        self._task = self._progress.add_task(visible(description), total=None)

    def __enter__(self) -> DownloadBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, received: int, total: int | None) -> None:
        """Show how many bytes of how many were received."""
        self._progress.update(self._task, completed=received, total=total)
