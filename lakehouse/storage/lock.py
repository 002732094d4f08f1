"""Locks a lake, so that one run at a time works on it.

On a disk the lock is `flock` on `_state/lock`: the kernel releases it when its process dies, for whatever reason. The
JVM of a killed driver lives about two seconds longer and can still commit, so its process id is written to the file
and the next run waits for its end. On S3 the lock is a lease: see s3_lease.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Protocol

from lakehouse.errors import LakeBusy
from lakehouse.storage import s3_lease
from lakehouse.storage.paths import Lake, utc_text
from lakehouse.storage.s3 import S3Path

_JVM_GRACE_SECONDS = 60.0  # a JVM whose driver died ends after about two seconds


class LakeLock(Protocol):
    """The lock of a lake, on a disk or on S3."""

    def record_jvm(self, pid: int | None) -> None:
        """Record the process id of the JVM, once the session is open."""


class DiskLock:
    """The lock of a lake on a disk."""

    def __init__(self, file: IO[str], holder: dict[str, object]) -> None:
        self._file, self._holder = file, holder
        self._write()

    def record_jvm(self, pid: int | None) -> None:
        """Write the process id of the JVM to the lock file."""
        self._holder["jvm"] = {"pid": pid, "started": _process_start_time(pid)} if pid else None
        self._write()

    def _write(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        json.dump(self._holder, self._file)
        self._file.flush()


@contextmanager
def lock_lake(lake: Lake, run_id: str, activity: str) -> Iterator[LakeLock]:
    """Lock the lake for the time of a `with` block.

    Args:
        lake: The lake to lock.
        run_id: The id of the run, for people.
        activity: The command, for people.

    Raises:
        LakeBusy: Another run has locked it, or the JVM of a killed run does not end.
    """
    path = lake.state_path("lock")
    if isinstance(path, S3Path):
        with s3_lease.lock_lake(path, lake.root, run_id, activity) as lease:
            yield lease
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LakeBusy(
                f"another run has locked the lake {lake.root}: {_describe(_read_holder(file))}",
                expected="one run per lake at a time",
                where=str(path),
                next_step="wait for it to end; the lock ends with its process",
            ) from None
        _wait_for_jvm(_read_holder(file).get("jvm"), path)
        started = utc_text(datetime.now(timezone.utc))
        try:
            yield DiskLock(
                file, {"pid": os.getpid(), "run_id": run_id, "doing": activity, "started": started, "jvm": None}
            )
        finally:
            file.truncate(0)  # after a regular end there is no JVM to wait for


def _read_holder(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        holder = json.load(file)
    except ValueError:  # empty, or its process died while it wrote
        return {}
    return holder if isinstance(holder, dict) else {}


def _describe(holder: dict[str, object]) -> str:
    if not holder:
        return "it has just begun"
    return "process {pid} ({doing}, run {run_id}, since {started})".format_map(holder)


def _process_start_time(pid: int) -> str | None:
    """Return when a process started, or None if it has ended.

    A process id can be reused; together with the start time it identifies one process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before ")" can contain anything
    return None if fields[0] == "Z" else fields[19]


def _wait_for_jvm(jvm: object, path: Path) -> None:
    if not isinstance(jvm, dict) or jvm.get("started") is None:
        return
    pid = int(jvm["pid"])
    if pid == os.getpid():
        return
    deadline = time.monotonic() + _JVM_GRACE_SECONDS
    while _process_start_time(pid) == jvm["started"]:
        if time.monotonic() > deadline:
            raise LakeBusy(
                f"the JVM of an earlier run (process {pid}) still runs and could still write",
                expected="that it ends within seconds after its driver",
                where=str(path),
                next_step=f"look at process {pid}; end it if it hangs",
            )
        time.sleep(0.1)
