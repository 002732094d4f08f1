"""One run per lake, on S3: a lease, since nobody there gives a lock back when its holder dies.

A lease is an object in `_state/lock`, named by a number: who holds the lake, and for how many seconds from its last
writing on. The highest number counts. Its holder renews it each third of its time; where it has ended, the next run
takes the next number, by a PUT that makes an object only where there is none (If-None-Match, which more stores get
right than If-Match). A killed run's lease ends by itself.

Whether it has ended is told by the store alone: its clock when it answers, less its clock when the object was written.
The holder counts from before it sent the write, by a clock of its machine that nobody sets and that runs on while it
sleeps. So the holder's end comes before the one that others see, however wrong anybody's clock is. A holder that cannot
renew ends itself and its JVM, without clean-up, a sixth of the lease before its end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, NoReturn

from lakehouse.errors import ConfigError, ExitCode, InfrastructureError, LakeBusy, LakehouseError
from lakehouse.storage import file_io
from lakehouse.storage.s3 import S3Object, S3Path, WriteConflict

LEASE_SECONDS_VARIABLE = "LAKEHOUSE_LEASE_SECONDS"
_DEFAULT_SECONDS, _MIN_SECONDS = 60.0, 3.0
_ATTEMPTS = 5
_CLOCK_RESOLUTION = 1.0  # second: the store tells times in whole ones


def _monotonic_seconds() -> float:
    """Seconds on a clock that cannot be set, and that does not stop while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _utc_text(later: float = 0.0) -> str:
    """By this machine's clock: for people, nothing is decided by it."""
    return (datetime.now(timezone.utc) + timedelta(seconds=later)).isoformat(timespec="seconds")


def _lease_seconds() -> float:
    text = os.environ.get(LEASE_SECONDS_VARIABLE) or str(_DEFAULT_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _MIN_SECONDS <= seconds <= 3600:
        raise ConfigError(f"{LEASE_SECONDS_VARIABLE} is {text!r}", expected=f"seconds, from {_MIN_SECONDS:g} to 3600")
    return seconds


class Lease:
    """A lease as its holder has it: taken, and renewed by a thread of its own until `release`."""

    def __init__(self, path: S3Path, seconds: float, run_id: str, doing: str) -> None:
        self._path, self._seconds = path, seconds
        self._valid_until = 0.0
        self._jvm: int | None = None
        self._holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "run_id": run_id,
            "doing": doing,
            "started": _utc_text(),
            "token": uuid.uuid4().hex,
        }
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_released, name="lease", daemon=True)

    def record_jvm(self, pid: int | None) -> None:
        self._jvm = pid

    def acquire(self) -> None:
        """Write the lease where there is none, and keep it.

        Raises:
            Conflict: somebody else was faster.
        """
        try:
            self._write(IfNoneMatch="*")
        except WriteConflict:
            if not self._is_written():
                raise  # else it was this writing, and the first answer to it was lost
        if file_io.list_names(self._folder)[-1] > self._path.name:  # this number had been, and was gone
            self._path.unlink()
            raise WriteConflict(str(self._path))
        self._thread.start()

    def release(self) -> None:
        """Let the next run begin at once."""
        self._released.set()
        self._thread.join()
        try:
            self._write(0.0)
        except LakehouseError:
            return  # it ends by itself

    def _is_written(self) -> bool:
        try:
            return _parse_lease(self._path.read_object()).get("token") == self._holder["token"]
        except FileNotFoundError:  # some stores tell of a writing before it can be read
            return False

    @property
    def _folder(self) -> S3Path:
        return self._path.parent

    def _write(self, seconds: float | None = None, **condition: str) -> None:
        sent = _monotonic_seconds()
        held = {"seconds": self._seconds if seconds is None else seconds, "ends": _utc_text(self._seconds)}
        self._path.put(json.dumps(self._holder | held).encode(), **condition)
        self._valid_until = sent + self._seconds

    def _renew_until_released(self) -> None:
        margin = self._seconds / 6
        while not self._released.wait(self._seconds / 3):
            # A request that hangs must not keep this thread from seeing the end.
            writing = threading.Thread(target=self._renew, daemon=True)
            writing.start()
            writing.join(max(self._valid_until - margin - _monotonic_seconds(), 0.0))
            if _monotonic_seconds() >= self._valid_until - margin:
                self._kill_process("could not be renewed in time", ExitCode.INFRASTRUCTURE)

    def _renew(self) -> None:
        while _monotonic_seconds() < self._valid_until:
            try:
                self._write()
                if file_io.list_names(self._folder)[-1] > self._path.name:
                    self._kill_process("was taken over", ExitCode.BUSY)
                return
            except LakehouseError:
                time.sleep(self._seconds / 60)

    def _kill_process(self, reason: str, code: ExitCode) -> NoReturn:
        """End this process and its JVM, which else could still write."""
        error = InfrastructureError(
            f"the lease {self._path} {reason}",
            expected="to hold the lake until the end of the run",
            where="this run has ended itself; what it had not published has not happened",
            next_step="run the same command again",
        )
        if self._jvm:
            os.kill(self._jvm, signal.SIGKILL)
        os.write(2, f"{error.to_text()}\n".encode())
        os._exit(code)


@contextmanager
def lock_lake(folder: S3Path, root: str, run_id: str, activity: str) -> Iterator[Lease]:
    """Hold the lake for the length of a `with` block.

    Raises:
        LakeBusy: another run holds it, or held it when it was killed, less than a lease ago.
    """
    lease, before = _acquire_lease(folder, root, run_id, activity)
    try:
        for name in before:
            (folder / name).unlink()
        yield lease
    finally:
        lease.release()


def _acquire_lease(folder: S3Path, root: str, run_id: str, doing: str) -> tuple[Lease, list[str]]:
    """A lease, and the names of those that it follows."""
    for _ in range(_ATTEMPTS):
        before = file_io.list_names(folder)
        if before:
            _raise_if_active(folder / before[-1], root)
        number = int(before[-1]) + 1 if before else 1
        lease = Lease(folder / f"{number:08d}", _lease_seconds(), run_id, doing)
        try:
            lease.acquire()
        except WriteConflict:  # with another run, which is seen now; or with one that gave way to us
            time.sleep(random.uniform(0, 0.2))
        else:
            return lease, before
    raise _busy_error(folder, root, {}, 0.0)


def _raise_if_active(path: S3Path, root: str) -> None:
    """Raises: LakeBusy, where a lease has not ended."""
    try:
        seen = path.read_object()
    except FileNotFoundError:
        return  # an old one, gone meanwhile
    held = _parse_lease(seen)
    left = float(held.get("seconds", _DEFAULT_SECONDS)) + _CLOCK_RESOLUTION - seen.age_seconds
    if held.get("seconds") != 0 and left > 0:
        raise _busy_error(path, root, held, left)


def _parse_lease(seen: S3Object) -> dict[str, Any]:
    try:
        held = json.loads(seen.content)
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}


def _busy_error(path: S3Path, root: str, holder: dict[str, Any], seconds_left: float) -> LakeBusy:
    who = "process {pid} on {host} ({doing}, run {run_id}, since {started})"
    told = who.format_map(holder) if holder else "it has just begun"
    return LakeBusy(
        f"another run holds the lake {root}: {told}",
        expected="one run per lake at a time",
        where=str(path),
        next_step=f"wait for it to end; if it was killed, its lease ends within {max(seconds_left, 1):.0f} seconds",
    )
