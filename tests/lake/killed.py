"""Run `lakehouse` in a process that kills itself at a point of its work: python tests/lake/killed.py POINT run PIPELINE

SIGKILL: no clean-up, no exit code of its own, as if the machine had lost its power. Some points do not kill: `holding`
keeps the lake held, and says so, until somebody ends the process; `racing` holds no lake and goes on when told to;
`asked-by-SIGINT` asks for an orderly end.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lakehouse.bronze import apply
from lakehouse.cli import main
from lakehouse.forget import change_sets as erased_change_sets
from lakehouse.lake import ledger
from lakehouse.models import refresh
from lakehouse.publish import catalog
from lakehouse.runner import up_to_date
from lakehouse.storage import file_io, landing, lock


def kill_self(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal is on its way: nothing more is to happen here


def kill_after(module: Any, function: str, when: Callable[[Any], object] = lambda result: True) -> None:
    """Die when `function` has done its work, the first time that `when` says so."""
    inner = getattr(module, function)

    def wrapped(*args: Any, **named: Any) -> Any:
        result = inner(*args, **named)
        if when(result):
            kill_self()
        return result

    setattr(module, function, wrapped)


def kill_at_gold_merge(when: str) -> Callable[[], None]:
    """Die before or after the MERGE of a cube that takes up what changed."""

    def patch() -> None:
        refresh.FULL_REFRESH_BELOW_BYTES = 0  # tables as small as these would be computed whole
        inner = refresh.merge_to_match

        def wrapped(spark: Any, target: str, *args: Any, **named: Any) -> Any:
            if "/gold/" not in target:
                return inner(spark, target, *args, **named)
            written = inner(spark, target, *args, **named) if when == "after" else None
            assert written is None or written.committed
            return kill_self()

        refresh.merge_to_match = wrapped  # type: ignore[assignment]

    return patch


def kill_half_copied() -> None:
    def put(file: file_io.StorePath, opened: Callable[[], Any]) -> None:
        with opened() as source:
            content = source.read()
        file_io.write_atomically(file, content[: len(content) // 2])
        kill_self()

    file_io.copy_stream = put


def hold_lake(*_: Any) -> None:
    print("holding", flush=True)
    time.sleep(600)


def kill_half_expired() -> None:
    """When the manifest says that a snapshot's files are gone, and they are not."""
    inner = landing.write_json

    def wrapped(path: Path, document: Any) -> None:
        inner(path, document)
        if "expired" in document:
            kill_self()

    landing.write_json = wrapped


def signal_during_ingest(signum: signal.Signals) -> None:
    """No kill: an orderly end is asked for, in the middle of ingest."""
    inner = ledger.append

    def wrapped(spark: Any, lake: Any, entry: Any) -> Any:
        if entry.sequence == 2:
            os.kill(os.getpid(), signum)
        return inner(spark, lake, entry)

    ledger.append = wrapped


def wait_before_publish() -> None:
    """Without a lock; about to publish, wait until somebody says so."""
    inner = ledger.append

    def append(*args: Any) -> Any:
        print("about to publish", flush=True)
        sys.stdin.readline()
        return inner(*args)

    ledger.append = append
    lock.lock_lake = lambda *_: nullcontext()


POINTS: dict[str, Callable[[], None]] = {
    "landing-half-copied": kill_half_copied,
    "change-set-written": lambda: setattr(ledger, "append", kill_self),
    # The third snapshot's row: the second's change set has been merged by ingest, which needs bronze there.
    "ledger-appended": lambda: kill_after(ledger, "append", lambda entry: entry.sequence == 3),
    # By the stream, whose checkpoint then never hears of it.
    "bronze-merged": lambda: kill_after(apply, "apply_pending", lambda done: done.commits and done.sequence == 3),
    "between-two-models": lambda: kill_after(refresh, "refresh", lambda done: done.model == "silver.items"),
    "gold-written": lambda: kill_after(refresh, "refresh", lambda done: done.model == "gold.notes"),
    "gold-before-its-merge": kill_at_gold_merge("before"),
    "gold-merged": kill_at_gold_merge("after"),
    "before-the-clean-mark": lambda: setattr(up_to_date, "write_mark", kill_self),
    "landing-half-expired": kill_half_expired,
    "asked-by-SIGINT": lambda: signal_during_ingest(signal.SIGINT),
    "forget-landing": lambda: kill_after(landing, "write_json"),  # a manifest says what its file does not yet
    "forget-raw": lambda: kill_after(erased_change_sets, "erase"),
    "published-half": lambda: setattr(
        catalog, "write_position", kill_self
    ),  # rows are written, and not yet what version they are
    "holding": lambda: setattr(up_to_date, "remove_mark", hold_lake),
    "racing": wait_before_publish,
}

if __name__ == "__main__":
    POINTS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
