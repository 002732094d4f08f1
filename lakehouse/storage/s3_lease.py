"""Locks a lake on S3 with a lease, because no kernel there releases a lock when its process dies.

A lease is an object in `_state/lock` with a number as its name. It contains who has locked the lake, and for how many
seconds after its last write. The greatest number counts. Its process renews it after each third of that time. Once it
has ended, the next run takes the next number, by a PUT that creates an object only if there is none (If-None-Match,
which more stores implement correctly than If-Match). The lease of a killed run ends by itself.

Only the store decides whether a lease has ended: its clock when it answers, minus its clock when the object was
written. The owner counts from before it sent the write, by a clock of its machine that cannot be set and that runs
while the machine sleeps. So the owner sees an earlier end than the others, however wrong any clock is. An owner that
cannot renew its lease kills itself and its JVM, without clean-up, a sixth of the lease before its end.
"""

from __future__ import annotations

import json
import os
import random
import re
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
from lakehouse.failpoints import failpoint
from lakehouse.storage import file_io
from lakehouse.storage.s3 import S3Object, S3Path, WriteConflict

LEASE_SECONDS_VARIABLE = "LAKEHOUSE_LEASE_SECONDS"
_DEFAULT_SECONDS, _MIN_SECONDS, _MAX_SECONDS = 60.0, 3.0, 3600.0
_LEASE_NAME = re.compile("[0-9]{8,30}")
_ATTEMPTS = 5
_CLOCK_RESOLUTION = 1.0  # the times of a store are in full seconds


def _monotonic_seconds() -> float:
    """Return seconds of a clock that cannot be set and, if the system has one, also runs while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _utc_text(later: float = 0.0) -> str:
    """Return a time by this machine's clock; it is for people, and no decision uses it."""
    return (datetime.now(timezone.utc) + timedelta(seconds=later)).isoformat(timespec="seconds")


def _lease_seconds() -> float:
    text = os.environ.get(LEASE_SECONDS_VARIABLE) or str(_DEFAULT_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _MIN_SECONDS <= seconds <= _MAX_SECONDS:
        raise ConfigError(
            f"{LEASE_SECONDS_VARIABLE} is {text!r}", expected=f"seconds, from {_MIN_SECONDS:g} to {_MAX_SECONDS:g}"
        )
    return seconds


class Lease:
    """The lease of this process, which a thread renews from `acquire` to `release`."""

    def __init__(self, path: S3Path, seconds: float, run_id: str, activity: str) -> None:
        self._path, self._seconds = path, seconds
        self._valid_until = 0.0
        self._jvm: int | None = None
        self._holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "run_id": run_id,
            "doing": activity,
            "started": _utc_text(),
            "token": uuid.uuid4().hex,
        }
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_released, name="lease", daemon=True)

    def record_jvm(self, pid: int | None) -> None:
        """Record the process id of the JVM, which is killed with this process if the lease is lost."""
        self._jvm = pid

    def acquire(self) -> None:
        """Write the lease if there is none of its number, and renew it from now on.

        Raises:
            WriteConflict: Another run was faster.
        """
        try:
            self._write(IfNoneMatch="*")
        except WriteConflict:
            if not self._is_written():
                raise  # otherwise this process wrote it, and the first answer was lost
        if self._is_superseded():  # an old number, whose lease was deleted
            self._path.unlink()
            raise WriteConflict(str(self._path))
        self._thread.start()

    def release(self) -> None:
        """End the lease, so that the next run can begin."""
        self._released.set()
        self._thread.join()
        try:
            self._write(0.0)
        except LakehouseError:
            return  # it ends by itself

    def _is_written(self) -> bool:
        try:
            return _parse_lease(self._path.read_object()).get("token") == self._holder["token"]
        except FileNotFoundError:  # in some stores an object cannot be read immediately after its write
            return False

    def _is_superseded(self) -> bool:
        return any(int(name) > int(self._path.name) for name in _lease_names(self._path.parent))

    def _write(self, seconds: float | None = None, **condition: str) -> None:
        sent = _monotonic_seconds()
        validity = {"seconds": self._seconds if seconds is None else seconds, "ends": _utc_text(self._seconds)}
        self._path.put(json.dumps(self._holder | validity).encode(), **condition)
        self._valid_until = sent + self._seconds

    def _renew_until_released(self) -> None:
        margin = self._seconds / 6
        while not self._released.wait(self._seconds / 3):
            # In a thread, so that a request that hangs does not hide the end of the lease.
            renewal = threading.Thread(target=self._renew, daemon=True)
            renewal.start()
            renewal.join(max(self._valid_until - margin - _monotonic_seconds(), 0.0))
            if _monotonic_seconds() >= self._valid_until - margin:
                self._kill_process("could not be renewed in time", ExitCode.INFRASTRUCTURE)

    def _renew(self) -> None:
        while _monotonic_seconds() < self._valid_until:
            try:
                self._write()
                if self._is_superseded():
                    self._kill_process("was taken over", ExitCode.BUSY)
                return
            except LakehouseError:
                time.sleep(self._seconds / 60)

    def _kill_process(self, reason: str, code: ExitCode) -> NoReturn:
        """Kill this process and its JVM, which could still write otherwise."""
        error = InfrastructureError(
            f"the lease {self._path} {reason}",
            expected="a lease until the end of the run",
            where="this run has stopped itself; its uncommitted work is lost",
            next_step="run the same command again",
        )
        if self._jvm:
            os.kill(self._jvm, signal.SIGKILL)
        os.write(2, f"{error.to_text()}\n".encode())
        os._exit(code)


@contextmanager
def lock_lake(folder: S3Path, root: str, run_id: str, activity: str) -> Iterator[Lease]:
    """Lock the lake for the time of a `with` block.

    Args:
        folder: The folder of the leases.
        root: The root of the lake, for people.
        run_id: The id of the run, for people.
        activity: The command, for people.

    Raises:
        LakeBusy: Another run has locked it, or was killed less than a lease ago.
    """
    lease, older = _acquire_lease(folder, root, run_id, activity)
    try:
        failpoint("after_lease")
        for name in older:
            (folder / name).unlink()
        yield lease
    finally:
        failpoint("before_lease_release")
        lease.release()


def _acquire_lease(folder: S3Path, root: str, run_id: str, activity: str) -> tuple[Lease, list[str]]:
    """Return a new lease, and the names of the older ones."""
    for _ in range(_ATTEMPTS):
        older = _lease_names(folder)
        if older:
            _raise_if_active(folder / older[-1], root)
        number = int(older[-1]) + 1 if older else 1
        lease = Lease(folder / f"{number:08d}", _lease_seconds(), run_id, activity)
        try:
            lease.acquire()
        except WriteConflict:  # with another run, which the next attempt sees, or which gave way too
            time.sleep(random.uniform(0, 0.2))  # noqa: S311 - no secret
        else:
            return lease, older
    raise _busy_error(folder, root, {}, 0.0)


def _lease_names(folder: S3Path) -> list[str]:
    """Return the names of the leases, the newest last; other objects in the folder are no leases."""
    names = (name for name in file_io.list_names(folder) if _LEASE_NAME.fullmatch(name))
    return sorted(names, key=int)


def _raise_if_active(path: S3Path, root: str) -> None:
    """Raise `LakeBusy` if a lease has not ended."""
    try:
        stored = path.read_object()
    except FileNotFoundError:
        return  # an old one, just deleted
    holder = _parse_lease(stored)
    seconds = _lease_length(holder.get("seconds"))
    seconds_left = seconds + _CLOCK_RESOLUTION - stored.age_seconds
    if seconds and seconds_left > 0:
        raise _busy_error(path, root, holder, seconds_left)


def read_holder(folder: S3Path) -> tuple[str, bool]:
    """Return who has the newest lease that a run has not ended itself, and whether it is valid; "" if there is none.

    Args:
        folder: The folder of the leases.
    """
    names = _lease_names(folder)
    try:
        stored = (folder / names[-1]).read_object() if names else None
    except FileNotFoundError:  # just deleted
        stored = None
    holder = _parse_lease(stored) if stored else {}
    seconds = _lease_length(holder.get("seconds")) if stored else 0.0
    if stored is None or not seconds:
        return "", False
    return _describe(holder), seconds + _CLOCK_RESOLUTION - stored.age_seconds > 0


def _describe(holder: dict[str, Any]) -> str:
    process = "process {pid} on {host} ({doing}, run {run_id}, since {started})"
    names = ("pid", "host", "doing", "run_id", "started")
    return process.format_map(holder) if all(name in holder for name in names) else "it has just begun"


def _parse_lease(stored: S3Object) -> dict[str, Any]:
    try:
        holder = json.loads(stored.content)
    except (ValueError, RecursionError):  # not written by a run
        return {}
    return holder if isinstance(holder, dict) else {}


def _lease_length(seconds: Any) -> float:
    """Return the seconds of a lease; those of an object that no run has written are the default."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return float(seconds) if is_number and 0 <= seconds <= _MAX_SECONDS else _DEFAULT_SECONDS


def _busy_error(path: S3Path, root: str, holder: dict[str, Any], seconds_left: float) -> LakeBusy:
    return LakeBusy(
        f"another run has locked the lake {root}: {_describe(holder)}",
        expected="one run per lake at a time",
        where=str(path),
        next_step=f"wait for it to end; if it was killed, its lease ends within {max(seconds_left, 1):.0f} seconds",
    )
