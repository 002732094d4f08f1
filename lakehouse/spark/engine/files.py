"""The files by which commands and keepers know each other, in the user's cache folder.

    engines/lock          locked (`flock`) while a command looks for an engine or starts one
    engines/<id>.json     the engine: its key, processes, port and secret. The keeper writes it, then the leaseholder
    engines/<id>.lease    locked by the command that uses the engine, whose process it contains
    engines/<id>.log      stderr of the keeper and its JVM

A command that ends regularly empties the lease file. So a lease file that is not locked and not empty means that its
command was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from lakehouse.errors import ConfigError
from lakehouse.storage import private_dirs
from lakehouse.storage.processes import Process

_POLL_SECONDS = 0.02
_KEEPER_SECONDS = 5.0  # a keeper ends within a second after its JVM
SCRATCH_PREFIX = "lakehouse-engine-"
END_SECONDS = 15.0  # for an orderly end, in which the JVM removes its temporary files


class EngineUnavailable(Exception):
    """No engine can be used; the command starts a JVM of its own."""


@dataclass(frozen=True)
class Engine:
    """An engine as its file describes it.

    Attributes:
        id: The first part of its key, and a random part.
        key: The hash of the settings of its JVM.
        about: The readable parts of the key, for people.
        keeper: The keeper's process.
        started: When it was started, in UTC.
        jvm: The JVM's process; None while it starts.
        port: The port of its gateway, on the loopback interface.
        secret: The secret that the gateway requires.
        scratch: The folder of its temporary files.
        commands: The number of commands that have used it.
        last_used: When the last one ended, in UTC.
        heap_bytes: The size of the heap after the last collection of garbage, as the last command saw it.
        heap_max_bytes: The maximum size of the heap.
    """

    id: str
    key: str
    about: dict[str, str]
    keeper: Process
    started: str
    jvm: Process | None = None
    port: int = 0
    secret: str = field(default="", repr=False)
    scratch: str = ""
    commands: int = 0
    last_used: str = ""
    heap_bytes: int = 0
    heap_max_bytes: int = 0

    @classmethod
    def from_document(cls, document: Any) -> Engine:
        """Return the engine of a JSON document.

        Args:
            document: The content of an engine's file.

        Raises:
            ValueError: The document does not describe an engine.
        """
        try:
            keeper = Process.from_document(document["keeper"])
            engine = cls(**document | {"keeper": keeper, "jvm": Process.from_document(document["jvm"])})
        except (TypeError, KeyError) as error:
            raise ValueError("not an engine") from error
        if keeper is None:
            raise ValueError("not an engine")
        return engine

    def document(self) -> dict[str, Any]:
        """Return the document for the engine's file."""
        return asdict(self)


def engines_folder() -> Path:
    """Return the folder of the engines in the user's cache folder; it may not exist."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "lakehouse" / "engines"


@dataclass(frozen=True)
class EngineFolder:
    """The folder of the engines of a user."""

    path: Path

    def create(self) -> None:
        """Create the folder if it is missing, for its owner only.

        Raises:
            EngineUnavailable: It cannot be created, is a link, or belongs to somebody else.
        """
        try:
            self.path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.path.parent, self.path):
                private_dirs.create_private(folder)
        except OSError as error:
            raise EngineUnavailable(f"{self.path}: {error.strerror}") from error
        except ConfigError as error:
            raise EngineUnavailable(error.found) from error

    @contextmanager
    def locked(self, seconds: float = 10.0) -> Iterator[None]:
        """Keep other commands from looking for engines, starting and ending them, for the time of a `with` block.

        Args:
            seconds: How long to wait for another command.

        Raises:
            EngineUnavailable: Another command does not release the lock in time.
        """
        deadline = time.monotonic() + seconds
        with _open_private(self.path / "lock") as file:
            while not _try_lock(file):
                if time.monotonic() > deadline:
                    raise EngineUnavailable(f"{self.path / 'lock'} is locked by another process")
                time.sleep(_POLL_SECONDS)
            yield

    def engines(self) -> list[Engine]:
        """Return the engines whose keeper runs, oldest first."""
        found = [engine for file in sorted(self.path.glob("*.json")) if (engine := self.read(file.stem))]
        return sorted((engine for engine in found if engine.keeper.is_alive()), key=lambda engine: engine.started)

    def read(self, engine_id: str) -> Engine | None:
        """Return an engine, or None if its file is missing or not valid.

        Args:
            engine_id: The engine's id.
        """
        try:
            engine = Engine.from_document(json.loads(self.file(engine_id, "json").read_text()))
        except (OSError, ValueError):
            return None
        return engine if engine.id == engine_id else None

    def write(self, engine: Engine) -> None:
        """Write the file of an engine, readable by its owner only.

        Args:
            engine: The engine.
        """
        target = self.file(engine.id, "json")
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        with _open_private(temporary) as file:
            file.truncate(0)
            json.dump(engine.document(), file)
        temporary.replace(target)

    def file(self, engine_id: str, kind: str) -> Path:
        """Return the path of one of an engine's files.

        Args:
            engine_id: The engine's id.
            kind: `json`, `lease` or `log`.
        """
        return self.path / f"{engine_id}.{kind}"

    def try_lease(self, engine_id: str) -> LeaseFile | None:
        """Return the lease of an engine, or None if another process has it.

        Args:
            engine_id: The engine's id; its lease file is created if it is missing.
        """
        path = self.file(engine_id, "lease")
        file = _open_private(path)
        if _try_lock(file) and path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return LeaseFile(file)
        file.close()
        return None

    def holder(self, engine_id: str) -> Process | None:
        """Return the process that an engine's lease file contains; it may have been killed.

        Args:
            engine_id: The engine's id.
        """
        try:
            return parse_holder(self.file(engine_id, "lease").read_text())
        except OSError:
            return None

    def kill(self, engine: Engine) -> None:
        """Kill an engine, its JVM first, and return when both processes have ended.

        Args:
            engine: The engine.
        """
        if engine.jvm:
            engine.jvm.kill()
            engine.jvm.wait(_KEEPER_SECONDS)
        # A keeper that sees the end of its JVM removes the temporary files.
        if engine.jvm is None or not engine.keeper.wait(_KEEPER_SECONDS):
            engine.keeper.kill()
            engine.keeper.wait(_KEEPER_SECONDS)
        _remove_scratch(engine)
        self.remove(engine.id)

    def end(self, engine: Engine) -> None:
        """End an engine that no command uses, in order, and return when it has ended.

        Args:
            engine: The engine.
        """
        engine.keeper.kill(signal.SIGTERM)
        if not engine.keeper.wait(END_SECONDS):
            self.kill(engine)
        self.remove(engine.id)

    def remove(self, engine_id: str) -> None:
        """Remove the files of an engine that has ended. The log stays until the next engine starts.

        Args:
            engine_id: The engine's id.
        """
        for kind in ("json", "lease"):
            self.file(engine_id, kind).unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove the files of engines that do not run any more. Requires the lock of the folder."""
        running = {engine.id for engine in self.engines()}
        for path in [path for kind in ("json", "lease", "log", "tmp") for path in self.path.glob(f"*.{kind}")]:
            engine_id = path.name.partition(".")[0]
            if engine_id in running:
                continue
            lease = self.try_lease(engine_id)  # a command that waits for the start of its engine has it
            if lease:
                _remove_scratch(self.read(engine_id))
                path.unlink(missing_ok=True)
                self.file(engine_id, "lease").unlink(missing_ok=True)
                lease.close()


@dataclass(frozen=True)
class LeaseFile:
    """The locked lease file of an engine. The kernel releases the lock when the process ends."""

    file: IO[str]

    def holder(self) -> Process | None:
        """Return the process of the command that had the lease before and was killed, if there is one."""
        self.file.seek(0)
        return parse_holder(self.file.read())

    def record_holder(self, process: Process) -> None:
        """Write the process of the command that uses the engine from now on.

        Args:
            process: The command's process.
        """
        self._write(json.dumps(process.document()))

    def release(self) -> None:
        """Empty the file and unlock it, so that the next command can use the engine."""
        self._write("")
        self.close()

    def close(self) -> None:
        """Unlock the file and leave its content."""
        self.file.close()

    def _write(self, text: str) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.file.write(text)
        self.file.flush()


def parse_holder(text: str) -> Process | None:
    """Return the process that the text of a lease file contains.

    A text that is not valid belongs to no process that runs: its command died while it wrote.

    Args:
        text: The content of a lease file.
    """
    if not text.strip():
        return None
    document = None
    with suppress(ValueError):
        document = json.loads(text)
    return Process.from_document(document) or Process(0, "unknown")


def with_use(engine: Engine, last_used: str, heap_bytes: int, heap_max_bytes: int) -> Engine:
    """Return the engine after one more command.

    Args:
        engine: The engine before it.
        last_used: When the command ended.
        heap_bytes: The size of the heap after the last collection of garbage.
        heap_max_bytes: The maximum size of the heap.
    """
    return replace(
        engine,
        commands=engine.commands + 1,
        last_used=last_used,
        heap_bytes=heap_bytes,
        heap_max_bytes=heap_max_bytes,
    )


def _remove_scratch(engine: Engine | None) -> None:
    """Remove the temporary files of an engine that has ended, if its keeper could not."""
    if engine and Path(engine.scratch).name.startswith(SCRATCH_PREFIX):
        shutil.rmtree(engine.scratch, ignore_errors=True)


def _open_private(path: Path) -> IO[str]:
    """Open a file for reading and writing, created for its owner only."""
    try:
        return private_dirs.open_private(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise EngineUnavailable(f"{path}: {error.strerror}") from error


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
