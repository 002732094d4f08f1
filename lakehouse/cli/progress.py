"""Shows the progress of a command on a terminal: one moving line on stderr, and a line for each stage that has ended.

show_progress(run, step)   shows the bar for a `with` block, if stderr is a terminal; otherwise does nothing
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from time import monotonic as time_now
from typing import TextIO

from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from lakehouse.cli import render
from lakehouse.cli.console import SafeConsole
from lakehouse.config import Kaggle
from lakehouse.runner.context import Run
from lakehouse.runner.outcome import Outcome
from lakehouse.runner.progress import Progress
from lakehouse.text import counted

_REFRESHES_PER_SECOND = 4  # enough to see that it moves; the processors have other work


@contextmanager
def show_progress(run: Run, step: str = "") -> Iterator[None]:
    """Show a command's progress on the terminal for the length of a `with` block.

    Does nothing if stderr is no terminal, or if others write to it too: Spark with --verbose, or spark-submit.

    Args:
        run: The command, which gets another `progress` and `on_outcome`.
        step: The work of the command; empty for one that runs stages, which names each of them itself.
    """
    if run.verbose or not sys.stderr.isatty() or _is_submitted():
        yield
        return
    # A copy of stderr, because stderr itself leads to Spark's log while the JVM starts.
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="backslashreplace") as stderr:
        bar = _TerminalProgress(stderr, _silent_steps(run), sums_up=not step)
        run.progress, run.on_outcome = bar, bar.add_outcome
        if step:
            bar.begin(step)
        try:
            yield
        finally:
            bar.close()


@lru_cache(maxsize=1)
def _is_submitted() -> bool:
    """Return whether spark-submit started the process; asked once, at the first command of the process."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def _silent_steps(run: Run) -> frozenset[str]:
    """Return the steps without a bar: those that download from Kaggle, which has its own."""
    return frozenset({"extract", "diff"} if isinstance(run.pipeline.source, Kaggle) else ())


class _TerminalProgress(Progress):
    """The bar of one command.

    Lines that others write to `sys.stderr` while it moves appear above it, because rich replaces `sys.stderr`. Another
    console of rich would go round that, so outcomes are printed on the bar's own.
    """

    def __init__(self, stderr: TextIO, silent_steps: frozenset[str], sums_up: bool) -> None:
        self._console = _VisibleCursorConsole(stderr)
        self._silent_steps, self._sums_up = silent_steps, sums_up
        self._bar = RichProgress(
            SpinnerColumn("line" if self._console.options.ascii_only else "dots"),
            TextColumn("{task.description:<14}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[done]}", markup=False),
            _Seconds(),
            console=self._console,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
        )
        self._task = self._bar.add_task("", total=None, done="")
        self._step, self._started = "", time_now()
        self._outcomes: list[Outcome] = []
        self._lock = Lock()
        self._done = _Done()

    def begin(self, step: str, total: int = 0) -> None:
        """Show a step in the place of the one before, which gets a line of its own if it had outcomes."""
        self._end_step()
        self._step, self._started = step, time_now()
        with self._lock:
            self._done = _Done(total)
            self._bar.reset(self._task, total=total or None, description=step, done=str(self._done))
        if step in self._silent_steps:
            self._bar.stop()
        else:
            self._bar.start()

    def advance(self) -> None:
        """Move the bar by one table or model."""
        self._add(subjects=1)

    def add_bytes(self, done: int, expected: int = 0) -> None:
        """Move the bar by bytes."""
        self._add(bytes_done=done, bytes_expected=expected)

    def _add(self, **counts: int) -> None:
        with self._lock:
            self._done = self._done.plus(**counts)
            completed, total = self._done.share
            self._bar.update(self._task, completed=completed, total=total, done=str(self._done))

    @contextmanager
    def waiting(self, reason: str) -> Iterator[None]:
        """Show the reason in place of the step."""
        self._bar.update(self._task, description=reason)
        try:
            yield
        finally:
            self._bar.update(self._task, description=self._step)

    def add_outcome(self, outcome: Outcome) -> None:
        """Note an outcome for the line of its stage; print it at once if it needs attention, or has no such line."""
        self._add(rows=_rows(outcome))
        if self._sums_up:
            self._outcomes.append(outcome)
        if outcome.code or not self._sums_up:
            render.progress(outcome, self._console)

    def close(self) -> None:
        """Remove the bar."""
        self._end_step()
        self._bar.stop()

    def _end_step(self) -> None:
        if self._outcomes:
            summary = summarize_stage(self._step, self._outcomes, time_now() - self._started)
            render.progress(summary, self._console)
            self._outcomes = []


def summarize_stage(stage: str, outcomes: list[Outcome], seconds: float) -> Outcome:
    """Return one outcome that stands for all of a stage's; those that failed have been printed by themselves.

    >>> rows = [Outcome("gold", "gold.a", "full", {"inserted": 2}), Outcome("gold", "gold.b", "full", {"inserted": 3})]
    >>> summary = summarize_stage("gold", rows, 1.5)
    >>> summary.name, summary.status, summary.counts
    ('2 models', 'full', {'inserted': 5})
    """
    names = {outcome.name for outcome in outcomes}
    noun = "model" if any("." in name for name in names) else "table"
    statuses = Counter(outcome.status for outcome in outcomes)
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.counts)
    return Outcome(
        stage,
        counted(len(names), noun),
        next(iter(statuses)) if len(statuses) == 1 else ", ".join(f"{n} {status}" for status, n in statuses.items()),
        dict(counts),
        seconds,
    )


class _VisibleCursorConsole(SafeConsole):
    """A console that does not hide the cursor: a process that is killed could not show it again."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


@dataclass(frozen=True)
class _Done:
    """The finished work of a step: `2 of 4, 120.0 of 582.0 MB`, or `2 of 4, 1,200,000 rows`.

    Attributes:
        total: The tables and models that the step works on; 0 if their number is unknown.
        subjects: Those that are done.
        bytes_done: The bytes that were copied.
        bytes_expected: The bytes of all files that are copied, as far as it is known.
        rows: The rows that were read, or that changed.
    """

    total: int = 0
    subjects: int = 0
    bytes_done: int = 0
    bytes_expected: int = 0
    rows: int = 0

    @property
    def share(self) -> tuple[int, int | None]:
        """How much is done of how much: bytes while files are copied, otherwise tables and models."""
        if self.bytes_expected:
            return self.bytes_done, self.bytes_expected
        return self.subjects, self.total or None

    def plus(self, **counts: int) -> _Done:
        """Return the finished work with an addition."""
        return replace(self, **{name: getattr(self, name) + count for name, count in counts.items()})

    def __str__(self) -> str:
        parts = [f"{min(self.subjects, self.total)} of {self.total}"] if self.total else []
        if self.bytes_expected:
            parts.append(f"{min(self.bytes_done, self.bytes_expected) / 1e6:.1f} of {self.bytes_expected / 1e6:.1f} MB")
        if self.rows:
            parts.append(f"{self.rows:,} rows")
        return ", ".join(parts)


def _rows(outcome: Outcome) -> int:
    """Return the rows that an outcome has read, or changed."""
    changed = sum(outcome.counts.get(name, 0) for name in ("inserted", "updated", "deleted"))
    return outcome.counts.get("rows_read", changed)


class _Seconds(ProgressColumn):
    """Shows the time since the step began."""

    max_refresh = None

    def render(self, task: Task) -> Text:
        return Text(f"{task.elapsed or 0:.0f} s")
