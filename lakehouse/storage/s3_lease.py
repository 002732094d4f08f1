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

from lakehouse.errors import ConfigError, Exit, InfrastructureError, LakeBusy, LakehouseError
from lakehouse.storage import file_io
from lakehouse.storage.s3 import Conflict, S3Path, Seen

SECONDS = "LAKEHOUSE_LEASE_SECONDS"
_DEFAULT, _LEAST = 60.0, 3.0
_ATTEMPTS = 5
_WHOLE = 1.0  # second: the store tells times in whole ones


def _now() -> float:
    """Seconds on a clock that cannot be set, and that does not stop while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _told_time(later: float = 0.0) -> str:
    """By this machine's clock: for people, nothing is decided by it."""
    return (datetime.now(timezone.utc) + timedelta(seconds=later)).isoformat(timespec="seconds")


def _seconds() -> float:
    text = os.environ.get(SECONDS) or str(_DEFAULT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _LEAST <= seconds <= 3600:
        raise ConfigError(f"{SECONDS} is {text!r}", expected=f"seconds, from {_LEAST:g} to 3600")
    return seconds


class Lease:
    """A lease as its holder has it: taken, and renewed by a thread of its own until `release`."""

    def __init__(self, path: S3Path, seconds: float, run_id: str, doing: str) -> None:
        self._path, self._seconds = path, seconds
        self._until = 0.0
        self._jvm: int | None = None
        self._holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "run_id": run_id,
            "doing": doing,
            "started": _told_time(),
            "token": uuid.uuid4().hex,
        }
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def note_jvm(self, pid: int | None) -> None:
        self._jvm = pid

    def take(self) -> None:
        """Write the lease where there is none, and keep it.

        Raises:
            Conflict: somebody else was faster.
        """
        try:
            self._write(IfNoneMatch="*")
        except Conflict:
            if not self._is_there():
                raise  # else it was this writing, and the first answer to it was lost
        if file_io.names(self._folder)[-1] > self._path.name:  # this number had been, and was gone
            self._path.unlink()
            raise Conflict(str(self._path))
        self._thread.start()

    def release(self) -> None:
        """Let the next run begin at once."""
        self._released.set()
        self._thread.join()
        try:
            self._write(0.0)
        except LakehouseError:
            return  # it ends by itself

    def _is_there(self) -> bool:
        try:
            return _read(self._path.look()).get("token") == self._holder["token"]
        except FileNotFoundError:  # some stores tell of a writing before it can be read
            return False

    @property
    def _folder(self) -> S3Path:
        return self._path.parent

    def _write(self, seconds: float | None = None, **condition: str) -> None:
        sent = _now()
        held = {"seconds": self._seconds if seconds is None else seconds, "ends": _told_time(self._seconds)}
        self._path.put(json.dumps(self._holder | held).encode(), **condition)
        self._until = sent + self._seconds

    def _keep(self) -> None:
        margin = self._seconds / 6
        while not self._released.wait(self._seconds / 3):
            # A request that hangs must not keep this thread from seeing the end.
            writing = threading.Thread(target=self._renew, daemon=True)
            writing.start()
            writing.join(max(self._until - margin - _now(), 0.0))
            if _now() >= self._until - margin:
                self._end("could not be renewed in time", Exit.INFRASTRUCTURE)

    def _renew(self) -> None:
        while _now() < self._until:
            try:
                self._write()
                if file_io.names(self._folder)[-1] > self._path.name:
                    self._end("was taken over", Exit.BUSY)
                return
            except LakehouseError:
                time.sleep(self._seconds / 60)

    def _end(self, why: str, code: Exit) -> NoReturn:
        """End this process and its JVM, which else could still write."""
        error = InfrastructureError(
            f"the lease {self._path} {why}",
            expected="to hold the lake until the end of the run",
            where="this run has ended itself; what it had not published has not happened",
            next_step="run the same command again",
        )
        if self._jvm:
            os.kill(self._jvm, signal.SIGKILL)
        os.write(2, f"{error.block()}\n".encode())
        os._exit(code)


@contextmanager
def hold(folder: S3Path, root: str, run_id: str, doing: str) -> Iterator[Lease]:
    """Hold the lake for the length of a `with` block.

    Raises:
        LakeBusy: another run holds it, or held it when it was killed, less than a lease ago.
    """
    lease, before = _taken(folder, root, run_id, doing)
    try:
        for name in before:
            (folder / name).unlink()
        yield lease
    finally:
        lease.release()


def _taken(folder: S3Path, root: str, run_id: str, doing: str) -> tuple[Lease, list[str]]:
    """A lease, and the names of those that it follows."""
    for _ in range(_ATTEMPTS):
        before = file_io.names(folder)
        if before:
            _refuse_held(folder / before[-1], root)
        number = int(before[-1]) + 1 if before else 1
        lease = Lease(folder / f"{number:08d}", _seconds(), run_id, doing)
        try:
            lease.take()
        except Conflict:  # with another run, which is seen now; or with one that gave way to us
            time.sleep(random.uniform(0, 0.2))
        else:
            return lease, before
    raise _busy(folder, root, {}, 0.0)


def _refuse_held(path: S3Path, root: str) -> None:
    """Raises: LakeBusy, where a lease has not ended."""
    try:
        seen = path.look()
    except FileNotFoundError:
        return  # an old one, gone meanwhile
    held = _read(seen)
    left = float(held.get("seconds", _DEFAULT)) + _WHOLE - seen.age
    if held.get("seconds") != 0 and left > 0:
        raise _busy(path, root, held, left)


def _read(seen: Seen) -> dict[str, Any]:
    try:
        held = json.loads(seen.content)
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}


def _busy(path: S3Path, root: str, held: dict[str, Any], left: float) -> LakeBusy:
    who = "process {pid} on {host} ({doing}, run {run_id}, since {started})"
    told = who.format_map(held) if held else "it has just begun"
    return LakeBusy(
        f"another run holds the lake {root}: {told}",
        expected="one run per lake at a time",
        where=str(path),
        next_step=f"wait for it to end; if it was killed, its lease ends within {max(left, 1):.0f} seconds",
    )
