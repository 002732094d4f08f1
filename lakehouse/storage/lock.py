"""Locks a lake, so that one run at a time works on it.

On a disk the lock is `flock` on `_state/lock`: the kernel releases it when its process dies, for any reason. The
JVM of a killed driver lives about two seconds longer and can still commit, so its process id is written to the file
and the next run waits for its end. On S3 the lock is a lease: see s3_lease.py.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Protocol

from lakehouse.errors import ConfigError, LakeBusy
from lakehouse.failpoints import failpoint
from lakehouse.storage import s3_lease
from lakehouse.storage.paths import Lake, utc_text
from lakehouse.storage.processes import Process
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
        jvm = Process.of(pid) if pid else None
        self._holder["jvm"] = jvm.document() if jvm else None
        self._write()
        failpoint("after_jvm_recorded")

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
    with _open_lock(path) as file:
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
        failpoint("after_lock")
        try:
            yield DiskLock(
                file, {"pid": os.getpid(), "run_id": run_id, "doing": activity, "started": started, "jvm": None}
            )
        finally:
            failpoint("before_unlock")
            file.truncate(0)  # after a regular end there is no JVM to wait for


@dataclass(frozen=True)
class LockState:
    """The lock of a lake as somebody else sees it.

    Attributes:
        holder: Who has it, or who was killed while it had it; empty if there is nobody.
        is_held: Whether that run still works.
        live_jvm: The process id of the JVM of a killed run, if it still runs and can write.
    """

    holder: str = ""
    is_held: bool = False
    live_jvm: int | None = None


def read_lock(lake: Lake) -> LockState:
    """Return who has locked a lake, without locking it.

    Args:
        lake: The lake.

    Raises:
        ConfigError: The lock is a link.
    """
    path = lake.state_path("lock")
    if isinstance(path, S3Path):
        holder, is_held = s3_lease.read_holder(path)
        return LockState(holder, is_held)
    if not path.exists() and not path.is_symlink():
        return LockState()
    with _open_lock(path) as file:
        holder_document = _read_holder(file)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return LockState(_describe(holder_document), is_held=True)
    if not holder_document:
        return LockState()
    jvm = Process.from_document(holder_document.get("jvm"))
    return LockState(_describe(holder_document), live_jvm=jvm.pid if jvm and jvm.is_alive() else None)


def _open_lock(path: Path) -> IO[str]:
    """Open the lock file, which is created if it is missing; a link is not followed, since the file is emptied.

    Raises:
        ConfigError: It is a link.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return open(os.open(path, flags, 0o666), "a+", encoding="utf-8")  # noqa: PTH123 - a descriptor
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ConfigError(
            f"{path} is a link", expected="a file of the lake", where=str(path), next_step=f"rm {path}"
        ) from None


def _read_holder(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        holder = json.load(file)
    except (ValueError, RecursionError):  # empty, or its process died while it wrote
        return {}
    return holder if isinstance(holder, dict) else {}


def _describe(holder: dict[str, object]) -> str:
    if not holder.keys() >= {"pid", "doing", "run_id", "started"}:
        return "it has just begun"
    return "process {pid} ({doing}, run {run_id}, since {started})".format_map(holder)


def _wait_for_jvm(document: object, path: Path) -> None:
    jvm = Process.from_document(document)
    if jvm is None or jvm.pid == os.getpid() or jvm.wait(_JVM_GRACE_SECONDS):
        return
    raise LakeBusy(
        f"the JVM of an earlier run (process {jvm.pid}) still runs and could still write",
        expected="that it ends within seconds after its driver",
        where=str(path),
        next_step=f"look at process {jvm.pid}; end it if it hangs",
    )
