"""One run per lake.

On a disk the lock is `flock` on `_state/lock`: the kernel gives it back when its holder dies, however it dies. A killed
driver's JVM lives about two seconds longer and can still commit, so its process id is written into the file and
the next run waits for it. On S3 there is no such kernel: see lease.py.
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
from lakehouse.storage.paths import Lake
from lakehouse.storage.s3 import S3Path

_JVM_GRACE_SECONDS = 60.0  # seconds; a JVM whose driver died ends in about two


class LakeLock(Protocol):
    """A held lake. `note_jvm` is called once the session is there."""

    def record_jvm(self, pid: int | None) -> None: ...


class DiskLock:
    """The held lock of a lake on a disk."""

    def __init__(self, file: IO[str], holder: dict[str, object]) -> None:
        self._file, self._holder = file, holder
        self._write()

    def record_jvm(self, pid: int | None) -> None:
        self._holder["jvm"] = _process_identity(pid) if pid else None
        self._write()

    def _write(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        json.dump(self._holder, self._file)
        self._file.flush()


@contextmanager
def lock_lake(lake: Lake, run_id: str, activity: str) -> Iterator[LakeLock]:
    """Hold the lake for the length of a `with` block.

    Raises:
        LakeBusy: another run holds it, or the JVM of a killed run does not end.
    """
    path = lake.state_path("lock")
    if isinstance(path, S3Path):
        with s3_lease.lock_lake(path, lake.root, run_id, activity) as held:
            yield held
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LakeBusy(
                f"another run holds the lake {lake.root}: {_describe(_read_holder(file))}",
                expected="one run per lake at a time",
                where=str(path),
                next_step="wait for it to end; the lock goes with the process that holds it",
            ) from None
        _wait_for_jvm(_read_holder(file).get("jvm"), path)
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        try:
            yield DiskLock(
                file, {"pid": os.getpid(), "run_id": run_id, "doing": activity, "started": started, "jvm": None}
            )
        finally:
            file.truncate(0)  # an orderly end leaves no JVM to wait for


def _read_holder(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        holder = json.load(file)
    except ValueError:  # empty, or its writer died in the middle
        return {}
    return holder if isinstance(holder, dict) else {}


def _describe(holder: dict[str, object]) -> str:
    if not holder:
        return "it has not said yet who it is"
    return "process {pid} ({doing}, run {run_id}, since {started})".format_map(holder)


def _process_identity(pid: int) -> dict[str, object]:
    """A process id alone may be given out again; with its start time it names one process."""
    return {"pid": pid, "started": _process_start_time(pid)}


def _process_start_time(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before ")" may hold anything
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
                f"the JVM of an earlier run (process {pid}) is still there and could still write",
                expected="it to end by itself within seconds of its driver",
                where=str(path),
                next_step=f"look at process {pid}; end it if it hangs",
            )
        time.sleep(0.1)
