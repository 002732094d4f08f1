"""Runs `lakehouse` in a process that kills itself at a chosen point: crash_points.py POINT run PIPELINE

SIGKILL leaves no clean-up and no exit code, like a power failure. Some points do not kill: `holding` keeps the lake
locked, and prints so, until the process is ended; `racing` takes no lock and waits for a line on stdin before it
publishes; `stop-by-SIGINT` requests an orderly end.

`interrupt_at` ends a command of this process at a point instead, which saves the start of a JVM. Clean-up by `with` and
`finally` then runs, so tests/systems/test_kills.py kills a process at each of these points too.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from lakehouse.bronze import apply
from lakehouse.cli import main
from lakehouse.forget import forget as forget_steps
from lakehouse.lake import ledger
from lakehouse.models import refresh, write
from lakehouse.publish import catalog
from lakehouse.runner import up_to_date
from lakehouse.storage import file_io, landing, lock


class Killed(BaseException):
    """The end of a command in place of a kill: no handler of the product catches it."""


_PATCHED = (apply, catalog, file_io, forget_steps, landing, ledger, lock, refresh, up_to_date, write)


def kill_self(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # until the signal arrives, nothing else must happen


def kill_after(module: Any, function: str, when: Callable[[Any], object] = lambda result: True) -> None:
    """Kill the process after the first call of `function` whose result meets `when`."""
    inner = getattr(module, function)

    def wrapped(*args: Any, **named: Any) -> Any:
        result = inner(*args, **named)
        if when(result):
            kill_self()
        return result

    setattr(module, function, wrapped)


def kill_at_gold_merge(when: str) -> Callable[[], None]:
    """Kill the process before or after the MERGE of an incremental refresh of a cube."""

    def patch() -> None:
        inner = write.merge_to_match

        def wrapped(target: Any, *args: Any, **named: Any) -> Any:
            if "/gold/" not in target.address:
                return inner(target, *args, **named)
            written = inner(target, *args, **named) if when == "after" else None
            assert written is None or written.committed
            return kill_self()

        write.merge_to_match = wrapped  # type: ignore[assignment]

    return patch


def kill_half_copied() -> None:
    def copy_half(file: file_io.StorePath, open_stream: Callable[[], Any]) -> None:
        with open_stream() as source:
            content = source.read()
        file_io.write_atomically(file, content[: len(content) // 2])
        kill_self()

    file_io.copy_stream = copy_half


def hold_lake(*_: Any) -> None:
    print("holding", flush=True)
    time.sleep(600)


def kill_half_expired() -> None:
    """Kill the process when the manifest reports that a snapshot's files are deleted, but they are not."""
    inner = landing.write_json

    def wrapped(path: Path, document: Any) -> None:
        inner(path, document)
        if "expired" in document:
            kill_self()

    landing.write_json = wrapped


def signal_during_ingest(signum: signal.Signals) -> None:
    """Send a signal that requests an orderly end, in the middle of ingest."""
    inner = ledger.append

    def wrapped(spark: Any, lake: Any, entry: Any) -> Any:
        if entry.sequence == 2:
            os.kill(os.getpid(), signum)
        return inner(spark, lake, entry)

    ledger.append = wrapped


def wait_before_publish() -> None:
    """Run without a lock, and wait for a line on stdin before publishing."""
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
    # The row of the third snapshot: ingest itself has merged the second change set, which it needs in bronze.
    "ledger-appended": lambda: kill_after(ledger, "append", lambda entry: entry.sequence == 3),
    # By the stream, whose checkpoint then has no record of it.
    "bronze-merged": lambda: kill_after(apply, "apply_pending", lambda done: done.commits and done.sequence == 3),
    "between-two-models": lambda: kill_after(refresh, "refresh", lambda done: done.model == "silver.items"),
    "gold-written": lambda: kill_after(refresh, "refresh", lambda done: done.model == "gold.notes"),
    "gold-before-its-merge": kill_at_gold_merge("before"),
    "gold-merged": kill_at_gold_merge("after"),
    "before-the-clean-mark": lambda: setattr(up_to_date, "write_mark", kill_self),
    "landing-half-expired": kill_half_expired,
    "stop-by-SIGINT": lambda: signal_during_ingest(signal.SIGINT),
    "forget-landing": lambda: kill_after(landing, "write_json"),  # the manifest is newer than its file
    "forget-raw": lambda: kill_after(forget_steps, "erase_from_change_set"),
    # The rows are written, but not their version.
    "published-half": lambda: setattr(catalog, "write_position", kill_self),
    "backlog-compared": lambda: setattr(ledger, "append_all", kill_self),
    "replay-compared": lambda: setattr(ledger, "append_all", kill_self),
    "holding": lambda: setattr(up_to_date, "remove_mark", hold_lake),
    "racing": wait_before_publish,
}


@contextmanager
def interrupt_at(point: str) -> Iterator[None]:
    """Raise `Killed` in place of a kill at a point, and expect it from the block."""

    def interrupt(*_: Any, **__: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "kill_self", interrupt)
        for module in _PATCHED:
            for name in vars(module):
                patch.setattr(module, name, getattr(module, name))  # restored, whatever the point replaces
        POINTS[point]()
        with pytest.raises(Killed):
            yield


if __name__ == "__main__":
    POINTS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
