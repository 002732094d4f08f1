"""The keeper of an engine: a small process that starts its JVM, outlives the command and decides when the JVM ends.

    python -m lakehouse.spark.engine.keeper FOLDER ID KEY < request.json

It ends the JVM when the process of the lease is gone without a clean release (at once, by SIGKILL), when no command has
used the engine for the idle time, when it gets SIGTERM, and when its files were deleted. If the keeper itself dies, the
kernel closes the JVM's standard input, and Spark's gateway ends the JVM.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lakehouse.spark.engine.files import SCRATCH_PREFIX, Engine, EngineFolder, parse_holder
from lakehouse.storage.processes import Process

_POLL_SECONDS = 0.2
_END_SECONDS = 10.0  # the JVM's own end, with its temporary files
_CONNECTION_FILE = "_PYSPARK_DRIVER_CONN_INFO_PATH"  # where Spark's gateway writes its port and secret


@dataclass(frozen=True)
class Request:
    """How an engine is started.

    Attributes:
        command: The command line of the JVM.
        about: The readable parts of the key.
        idle_seconds: How long the engine waits for a command.
    """

    command: list[str]
    about: dict[str, str]
    idle_seconds: float


class Keeper:
    """Starts the JVM of one engine and watches it.

    Args:
        folder: The folder of the engines.
        engine: The engine, without a JVM.
        request: How to start it.
    """

    def __init__(self, folder: EngineFolder, engine: Engine, request: Request) -> None:
        self._folder, self._request = folder, request
        self._lease = folder.file(engine.id, "lease").open(encoding="utf-8")
        self._must_end = False
        self._scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX))
        self._engine = replace(engine, scratch=str(self._scratch))

    def run(self) -> None:
        """Start the JVM, and return when it has ended."""
        signal.signal(signal.SIGTERM, self._request_end)
        for signum in (signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        self._folder.write(self._engine)
        jvm = self._start_jvm()
        try:
            if self._wait_for_gateway(jvm):
                self._watch(jvm)
        finally:
            self._end(jvm)

    def _request_end(self, *_: Any) -> None:
        self._must_end = True

    def _start_jvm(self) -> subprocess.Popen[bytes]:
        # The temporary files of a JVM that is killed are removed with the folder. It is the working directory too,
        # where Spark creates its warehouse.
        settings = {"spark.local.dir": self._scratch}
        command = [*self._request.command[:1], *_options(settings), *self._request.command[1:]]
        environment = os.environ | {"SPARK_CONNECT_MODE": "0", _CONNECTION_FILE: str(self._scratch / "connection")}
        return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, cwd=self._scratch)

    def _wait_for_gateway(self, jvm: subprocess.Popen[bytes]) -> bool:
        """Write the port and secret of the gateway to the engine's file as soon as the JVM has them."""
        path = self._scratch / "connection"
        while not path.exists():
            if self._has_to_end_now(jvm) or self._must_end:
                return False
            time.sleep(_POLL_SECONDS / 4)
        port, secret = parse_connection(path.read_bytes())
        path.unlink()
        self._folder.write(replace(self._engine, jvm=Process.of(jvm.pid), port=port, secret=secret))
        return True

    def _watch(self, jvm: subprocess.Popen[bytes]) -> None:
        """Return when the engine has to end."""
        used = time.monotonic()
        while not self._has_to_end_now(jvm) and not self._must_end:
            if self._holder():
                used = time.monotonic()
            elif time.monotonic() - used > self._request.idle_seconds or not self._has_files():
                if self._end_unless_leased():
                    return
                used = time.monotonic()
            time.sleep(_POLL_SECONDS)

    def _has_to_end_now(self, jvm: subprocess.Popen[bytes]) -> bool:
        """Kill the JVM if its command was killed; return whether the JVM has ended."""
        holder = self._holder()
        # A second look: the command may have ended regularly after the file was read.
        if holder and not holder.is_alive() and self._holder() == holder:
            jvm.kill()
            jvm.wait()
        return jvm.poll() is not None

    def _holder(self) -> Process | None:
        self._lease.seek(0)
        return parse_holder(self._lease.read())

    def _has_files(self) -> bool:
        return self._folder.file(self._engine.id, "json").exists()

    def _end_unless_leased(self) -> bool:
        """Remove the engine's files while no command has the lease, so that none gets it any more."""
        if not self._has_files():
            return True
        lease = self._folder.try_lease(self._engine.id)
        if lease is None:
            return False
        self._folder.remove(self._engine.id)
        lease.close()
        return True

    def _end(self, jvm: subprocess.Popen[bytes]) -> None:
        """Remove the files of the engine, and end its JVM."""
        self._folder.remove(self._engine.id)
        if jvm.stdin:
            jvm.stdin.close()  # the gateway ends the JVM in order
        try:
            jvm.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            jvm.kill()
            jvm.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)


def parse_connection(content: bytes) -> tuple[int, str]:
    """Return the port and the secret that Spark's gateway has written.

    Args:
        content: The port and the length of the secret, each in four bytes, and the secret.
    """
    port, length = struct.unpack(">ii", content[:8])
    return port, content[8 : 8 + length].decode()


def _options(settings: dict[str, Any]) -> list[str]:
    return [text for name, value in settings.items() for text in ("--conf", f"{name}={value}")]


def main() -> None:
    """Run the keeper of the engine that the arguments name, as the request on stdin describes it."""
    folder, engine_id, key = EngineFolder(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
    request = Request(**json.load(sys.stdin))
    keeper = Process.of(os.getpid())
    assert keeper
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    Keeper(folder, Engine(engine_id, key, request.about, keeper, started), request).run()


if __name__ == "__main__":
    main()
