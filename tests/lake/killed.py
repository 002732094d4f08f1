"""Run `lakehouse` in a process that kills itself at a point of its work: python tests/lake/killed.py POINT run PIPELINE

SIGKILL: no clean-up, no exit code of its own, as if the machine had lost its power. Two do not kill: `holding` keeps
the lake held, and says so, until somebody ends the process; `asked-by-SIGINT` asks for an orderly end.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lakehouse import bronze, clean, landing, ledger, models
from lakehouse.cli import main


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal is on its way: nothing more is to happen here


def after(module: Any, function: str, when: Callable[[Any], object] = lambda result: True) -> None:
    """Die when `function` has done its work, the first time that `when` says so."""
    inner = getattr(module, function)

    def wrapped(*args: Any, **named: Any) -> Any:
        result = inner(*args, **named)
        if when(result):
            die()
        return result

    setattr(module, function, wrapped)


def half_a_copy() -> None:
    inner = landing.inspect

    def wrapped(path: Path, copy_to: Path | None = None, *more: Any) -> Any:
        if copy_to is None:
            return inner(path)
        content = path.read_bytes()
        copy_to.write_bytes(content[: len(content) // 2])
        return die()

    landing.inspect = wrapped


def hold(*_: Any) -> None:
    print("holding", flush=True)
    time.sleep(600)


def half_expired() -> None:
    """When the manifest says that a snapshot's files are gone, and they are not."""
    inner = landing.write_json

    def wrapped(path: Path, document: Any) -> None:
        inner(path, document)
        if "expired" in document:
            die()

    landing.write_json = wrapped


def asked_to_end(signum: signal.Signals) -> None:
    """No kill: an orderly end is asked for, in the middle of ingest."""
    inner = ledger.append

    def wrapped(spark: Any, lake: Any, entry: Any) -> Any:
        if entry.sequence == 2:
            os.kill(os.getpid(), signum)
        return inner(spark, lake, entry)

    ledger.append = wrapped


POINTS: dict[str, Callable[[], None]] = {
    "landing-half-copied": half_a_copy,
    "change-set-written": lambda: setattr(ledger, "append", die),
    # The third snapshot's row: the second's change set has been merged by ingest, which needs bronze there.
    "ledger-appended": lambda: after(ledger, "append", lambda entry: entry.sequence == 3),
    # By the stream, whose checkpoint then never hears of it.
    "bronze-merged": lambda: after(bronze, "apply_pending", lambda done: done.commits and done.sequence == 3),
    "between-two-models": lambda: after(models, "refresh", lambda done: done.model == "silver.items"),
    "before-the-clean-mark": lambda: setattr(clean, "mark", die),
    "landing-half-expired": half_expired,
    "asked-by-SIGINT": lambda: asked_to_end(signal.SIGINT),
    "holding": lambda: setattr(clean, "unmark", hold),
}

if __name__ == "__main__":
    POINTS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
