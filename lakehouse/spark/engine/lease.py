"""Leases an engine for one command: a free one with the same key, or a new one.

An engine serves one command at a time. A second command at the same time gets a second engine. A user has at most
`MAX_ENGINES`, of which `MAX_PER_KEY` with the same key; the one that was idle for longest makes room for a new one.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lakehouse
from lakehouse.spark.engine.files import Engine, EngineFolder, EngineUnavailable, LeaseFile
from lakehouse.storage.processes import Process

MAX_ENGINES = 3
MAX_PER_KEY = 2
_START_SECONDS = 600.0  # the first start downloads packages
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class EngineStart:
    """How the engine that a command needs is started.

    Attributes:
        key: The key of the engine.
        about: The readable parts of the key.
        command: The command line of its JVM.
        environment: The environment of its JVM.
        idle_seconds: How long it waits for the next command.
    """

    key: str
    about: dict[str, str]
    command: list[str]
    environment: dict[str, str]
    idle_seconds: float


@dataclass(frozen=True)
class Lease:
    """An engine that this process alone uses.

    Attributes:
        folder: The folder of the engines.
        engine: The engine as it was when the lease began.
        file: Its locked lease file.
        is_new: Whether the engine was started for this command.
    """

    folder: EngineFolder
    engine: Engine
    file: LeaseFile
    is_new: bool

    def release(self, used: Engine) -> None:
        """Give the engine back for the next command.

        Args:
            used: The engine with the figures after this command.
        """
        self.folder.write(used)
        self.file.release()

    def end(self) -> None:
        """End the engine in order, without leaving it to another command."""
        self.folder.end(self.engine)
        self.file.close()

    def kill(self) -> None:
        """Kill the engine, so that nothing of this command goes on in it."""
        self.folder.kill(self.engine)
        self.file.close()


def acquire(folder: EngineFolder, start: EngineStart) -> Lease:
    """Return the lease of an engine that has the right key.

    Args:
        folder: The folder of the engines.
        start: The engine that the command needs.

    Raises:
        EngineUnavailable: All engines are in use, or a new one could not be started.
    """
    folder.create()
    with folder.locked():
        kill_abandoned(folder)
        if lease := _lease_free_engine(folder, start.key):
            return lease
        _make_room(folder, start.key)
        folder.remove_leftovers()
        engine_id = f"{start.key[:12]}-{secrets.token_hex(3)}"
        file = folder.try_lease(engine_id)
        assert file  # nobody else knows its name
        file.record_holder(_this_process())
        keeper = _start_keeper(folder, engine_id, start)
    try:
        engine = _wait_for_start(folder, engine_id, keeper)
    except BaseException:
        file.close()  # its content tells the keeper, once this process has ended, that nobody waits
        keeper.terminate()
        raise
    return Lease(folder, engine, file, is_new=True)


def kill_abandoned(folder: EngineFolder) -> None:
    """Kill the engines whose command was killed. Their keepers do so too, unless they are stopped.

    Args:
        folder: The folder of the engines.
    """
    for engine in folder.engines():
        holder = folder.holder(engine.id)
        if holder is None or holder.is_alive():
            continue
        if lease := folder.try_lease(engine.id):
            if lease.holder():
                folder.kill(engine)
            lease.close()


def _lease_free_engine(folder: EngineFolder, key: str) -> Lease | None:
    for engine in folder.engines():
        if engine.key != key or (engine.jvm and not engine.jvm.is_alive()):
            continue
        with _keep_unless_used(folder.try_lease(engine.id)) as file:
            current = folder.read(engine.id)  # after the lease: the keeper may just have removed it
            if file and current and current.jvm and current.jvm.is_alive() and not file.holder():
                file.record_holder(_this_process())
                return Lease(folder, current, file, is_new=False)
    return None


@contextmanager
def _keep_unless_used(file: LeaseFile | None) -> Iterator[LeaseFile | None]:
    """Close a lease file after the block unless this process has been recorded in it."""
    yield file
    if file and file.holder() != _this_process():
        file.close()


def _make_room(folder: EngineFolder, key: str) -> None:
    """End the engine that was idle for longest if there are too many.

    Raises:
        EngineUnavailable: There are too many, and all are in use.
    """
    engines = folder.engines()
    if sum(engine.key == key for engine in engines) >= MAX_PER_KEY:
        raise EngineUnavailable(f"{MAX_PER_KEY} engines of this kind are in use")
    if len(engines) < MAX_ENGINES:
        return
    for engine in sorted(engines, key=lambda engine: engine.last_used or engine.started):
        lease = folder.try_lease(engine.id)
        if lease and not lease.holder():
            lease.close()
            folder.end(engine)
            return
        if lease:
            lease.close()
    raise EngineUnavailable(f"{MAX_ENGINES} engines are in use")


def _start_keeper(folder: EngineFolder, engine_id: str, start: EngineStart) -> subprocess.Popen[bytes]:
    """Start the keeper in a process session of its own, so that it outlives this command and its terminal."""
    package_root = str(Path(lakehouse.__file__).parents[1])  # the keeper runs in another folder than this process
    paths = [package_root, *filter(None, start.environment.get("PYTHONPATH", "").split(os.pathsep))]
    environment = start.environment | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "lakehouse.spark.engine.keeper", str(folder.path), engine_id, start.key]
    request = {"command": start.command, "about": start.about, "idle_seconds": start.idle_seconds}
    log = folder.file(engine_id, "log")
    try:
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "ab") as output:  # noqa: PTH123
            keeper = subprocess.Popen(
                command,
                cwd=folder.path,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        assert keeper.stdin
        with keeper.stdin:
            keeper.stdin.write(json.dumps(request).encode())
    except OSError as error:
        raise EngineUnavailable(f"the keeper could not be started: {error.strerror}") from error
    _keepers.append(keeper)
    return keeper


_keepers: list[subprocess.Popen[bytes]] = []  # a Popen that is collected while its process runs raises a warning


def _wait_for_start(folder: EngineFolder, engine_id: str, keeper: subprocess.Popen[bytes]) -> Engine:
    """Return the engine when the gateway of its JVM listens.

    Raises:
        EngineUnavailable: The JVM did not start.
    """
    deadline = time.monotonic() + _START_SECONDS
    while True:
        engine = folder.read(engine_id)
        if engine and engine.jvm:
            return engine
        if keeper.poll() is not None or time.monotonic() > deadline:
            raise EngineUnavailable(f"its JVM did not start: read {folder.file(engine_id, 'log')}")
        time.sleep(_POLL_SECONDS)


def _this_process() -> Process:
    process = Process.of(os.getpid())
    assert process  # the caller has checked that /proc is there
    return process


def leased_environment(engine: Engine) -> Mapping[str, str]:
    """Return the variables by which PySpark finds the gateway of an engine; for the time of the connection only.

    Args:
        engine: The engine.
    """
    return {"PYSPARK_GATEWAY_PORT": str(engine.port), "PYSPARK_GATEWAY_SECRET": engine.secret}
