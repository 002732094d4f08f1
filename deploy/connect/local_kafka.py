"""Runs a Kafka broker and a Kafka Connect worker on this machine, without Docker: for people, and for the tests.

    python deploy/connect/local_kafka.py          # until Ctrl-C; Connect is at http://127.0.0.1:8083

    with broker(folder) as kafka, worker(folder, kafka.address, environment) as connect:
        connect.address                           # "http://127.0.0.1:40123"

Java 17 or later and Maven are required. At first use Maven downloads Kafka and Debezium (70 MB), builds the sink and
runs its tests; everything is in target/. Both servers listen on free ports of the loopback only, and each is ended
through its own process. The broker's data is in the folder that it was given; a broker started there again has it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jar_lists

HERE = Path(__file__).parent
TARGET = HERE / "target"
_START_TIMEOUT = 120.0  # seconds; a start takes up to ten on an idle machine
_STOP_TIMEOUT = 20.0
# One compiler and one garbage collector: a start takes half the time, and throughput does not matter here.
_JVM_OPTIONS = [
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}",
]
_CLUSTER_ID = "lakehouse-local-kafka-"  # an id has 22 characters


@dataclass(frozen=True)
class Server:
    """A running broker (`address` is host:port) or worker (its URL)."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """Send SIGKILL, to imitate a crash."""
        self.process.kill()
        self.process.wait(_STOP_TIMEOUT)


@cache
def build() -> Path:
    """Return target/ with worker/ and plugins/, which Maven builds if a source is newer, with their jars checked."""
    TARGET.mkdir(exist_ok=True)
    done = TARGET / ".done"
    with (TARGET / ".lock").open("w") as lock:  # between test processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        sources = [*HERE.glob("pom.xml"), *HERE.glob("*/pom.xml"), *HERE.glob("s3-json-sink/src/**/*")]
        if not done.exists() or any(source.stat().st_mtime > done.stat().st_mtime for source in sources):
            command = jar_lists.connect_command()
            result = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if result.returncode:
                raise RuntimeError(f"{' '.join(command)} ended with {result.returncode}:\n{result.stdout[-8000:]}")
            done.touch()
    jar_lists.check_jars(TARGET, jar_lists.LIST)
    return TARGET


@contextmanager
def broker(folder: Path, port: int | None = None, more: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a broker during the block.

    Args:
        folder: The folder for its data and its log.
        port: Its port; by default a free one.
        more: Further settings, which take precedence.
    """
    port, controller = port or free_port(), free_port()
    settings = {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "log.dirs": str(folder / "broker"),
        **(more or {}),
    }
    file = _write_properties(folder / "broker.properties", "broker.properties", settings)
    if not (folder / "broker" / "meta.properties").exists():
        format_ = java_command("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(file))
        subprocess.run(format_, check=True, stdout=subprocess.DEVNULL, timeout=_START_TIMEOUT)
    log = folder / "broker.log"
    with _run_process(java_command("kafka.Kafka", str(file)), log, os.environ) as process:
        _wait_until_ready(lambda: b"Kafka Server started" in log.read_bytes(), process, log)
        yield Server(f"127.0.0.1:{port}", process, log)


@contextmanager
def worker(
    folder: Path,
    bootstrap: str,
    environment: Mapping[str, str],
    port: int | None = None,
    more: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run a Connect worker during the block.

    Args:
        folder: The folder for its settings and its log.
        bootstrap: The broker's address.
        environment: The variables for connector files, and for the AWS SDK.
        port: Its port; by default a free one.
        more: Further settings, which take precedence.
    """
    port = port or free_port()
    settings = {
        "bootstrap.servers": bootstrap,
        "listeners": f"http://127.0.0.1:{port}",
        "rest.advertised.host.name": "127.0.0.1",
        "plugin.path": str(build() / "plugins"),
        **(more or {}),
    }
    file = _write_properties(folder / "worker.properties", "worker.properties", settings)
    log, url = folder / "worker.log", f"http://127.0.0.1:{port}"
    command = java_command("org.apache.kafka.connect.cli.ConnectDistributed", str(file))
    with _run_process(command, log, environment) as process:
        _wait_until_ready(lambda: _is_answering(f"{url}/connectors"), process, log)
        yield Server(url, process, log)


def java_command(*arguments: str) -> list[str]:
    """Return the command line that runs a class of Kafka: `java("org.apache.kafka.tools.TopicCommand", "--help")`."""
    program = str(Path(os.environ["JAVA_HOME"], "bin", "java")) if "JAVA_HOME" in os.environ else "java"
    return [program, *_JVM_OPTIONS, "-cp", f"{build() / 'worker'}/*", *arguments]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write_properties(file: Path, base: str, more: Mapping[str, str]) -> Path:
    """Write the settings of the file `base` and then these, which take precedence."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{name}={value}\n" for name, value in more.items())
    file.write_text(f"{(HERE / base).read_text(encoding='utf-8')}\n{lines}", encoding="utf-8")
    return file


@contextmanager
def _run_process(command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process during the block. Its log is truncated, so that it has no lines of an earlier process."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(environment), start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_TIMEOUT)


def _wait_until_ready(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-8000:]}")
        time.sleep(0.2)


def _is_answering(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Kafka and Kafka Connect on this machine, until Ctrl-C.")
    parser.add_argument("--folder", type=Path, default=Path("lake/kafka"), help="folder for Kafka's data and the logs")
    parser.add_argument("--port", type=int, default=8083, help="port of Connect")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = options.folder.resolve()
    try:
        with broker(folder) as kafka:
            print(f"Kafka:    {kafka.address}", flush=True)
            with worker(folder, kafka.address, os.environ, options.port) as connect:
                print(f"Connect:  {connect.address}\nlogs:     {folder}\nCtrl-C ends both", flush=True)
                while kafka.process.poll() is None and connect.process.poll() is None:
                    time.sleep(1)
                print(f"a server has ended: see {folder}", file=sys.stderr)
                return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
