"""Decides whether a command uses an engine, and gives it back when the command has ended.

    with engine_command.command(log) as command:      # in the command line, for a process of its own
        command.exit_code = ...                       # session.get_session calls `connect` inside

A session that starts outside such a block (a notebook, a job of spark-submit, a test) uses no engine.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.error_mapping import first_line
from lakehouse.errors import ConfigError, ExitCode
from lakehouse.logs import Log
from lakehouse.spark.engine import key, lease
from lakehouse.spark.engine.files import EngineFolder, EngineUnavailable, engines_folder, with_use
from lakehouse.spark.launch import Launch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.spark.engine.connection import Connection

SWITCH_VARIABLE = "LAKEHOUSE_ENGINE"
IDLE_VARIABLE = "LAKEHOUSE_ENGINE_IDLE"
_DEFAULT_IDLE = "15m"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}
MAX_COMMANDS = 100
MAX_HEAP_SHARE = 0.7
_TIDY_SECONDS = 10.0
_ATTEMPTS = 2
# After any other exit code the state of the JVM is in doubt: a bug, or a failure of the JVM itself, which a 2 can hide.
_HEALTHY_CODES = (ExitCode.OK, ExitCode.HELD, ExitCode.REFUSED, ExitCode.BUSY)


@dataclass
class Command:
    """A command of the command line, which may use an engine.

    Attributes:
        log: Receives the messages about the engine.
        exit_code: The exit code of the command; None while it runs, and if it was interrupted.
    """

    log: Log
    exit_code: int | None = None
    _lease: lease.Lease | None = None
    _connection: Connection | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def has_new_engine(self) -> bool:
        """Whether the engine was started for this command."""
        return self._lease is not None and self._lease.is_new

    def connect(self, plain: Launch, launch: Launch) -> SparkSession | None:
        """Return a session of a warm engine, or None if the command has to start a JVM of its own.

        Args:
            plain: The Spark that the command needs; an engine that was started like this serves it.
            launch: How a new engine is started: the same Spark, perhaps with a faster start.
        """
        start = _engine_start(plain, launch)
        with self._lock:
            try:
                return self._connect(start)
            except (EngineUnavailable, OSError) as error:
                self.log.warning("no engine: this command starts a JVM of its own", reason=str(error))
                return None

    def _connect(self, start: lease.EngineStart) -> SparkSession:
        from lakehouse.spark.engine.connection import Connection, disconnect

        reason = ""
        for _ in range(_ATTEMPTS):
            self._lease = lease.acquire(EngineFolder(engines_folder()), start)
            try:
                self._connection = Connection(self._lease.engine)
            except Exception as error:  # of whatever type: the JVM hangs, has died, or is not as expected
                disconnect()
                self._lease.kill()
                self._lease, reason = None, f"{type(error).__name__}: {first_line(error)}"
                continue
            if self._lease.is_new:
                idle = f"{start.idle_seconds / 60:g} minutes"
                self.log.info(f"started a Spark engine for later commands; it ends after {idle} without one", **_HINT)
            return self._connection.spark
        raise EngineUnavailable(f"{_ATTEMPTS} engines in a row could not be used: {reason}")

    def give_back(self) -> None:
        """Release the engine for the next command, or kill it if this command has not ended regularly."""
        leased, self._lease = self._lease, None
        if leased is None:
            return
        try:
            self._give_back(leased)
        except OSError as error:  # for example a full disk: the command itself has succeeded
            self.log.warning("the engine could not be released", reason=str(error))

    def _give_back(self, leased: lease.Lease) -> None:
        heap = self._tidy() if self.exit_code in _HEALTHY_CODES else None
        if heap is None:
            leased.kill()
            return
        used = with_use(leased.engine, datetime.now(timezone.utc).isoformat(timespec="seconds"), *heap)
        if used.commands >= MAX_COMMANDS or used.heap_bytes > MAX_HEAP_SHARE * used.heap_max_bytes:
            leased.end()
        else:
            leased.release(used)

    def _tidy(self) -> tuple[int, int] | None:
        """Return the size of the heap and its maximum, or None if the engine must not be used again."""
        if self._connection is None:
            return None
        results: list[tuple[int, int]] = []
        tidy = self._connection.tidy

        def work() -> None:
            try:
                results.append(tidy())
            except Exception as error:  # of whatever type: an engine in doubt is killed
                self.log.info("the engine is not used again", reason=f"{type(error).__name__}: {first_line(error)}")

        # In a thread, because a JVM that hangs must not keep the command from ending.
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(_TIDY_SECONDS)
        return results[0] if results else None


# Settings that PySpark gives to a context which it creates itself.
_PYSPARK_DEFAULTS = {"spark.serializer.objectStreamReset": "100", "spark.rdd.compress": "True"}
_HINT = {"stop": "lakehouse engine stop", "never": f"{SWITCH_VARIABLE}=off"}
_current: Command | None = None


@contextmanager
def command(log: Log) -> Iterator[Command]:
    """Let the command of a `with` block use an engine, and give the engine back at its end.

    Args:
        log: Receives the messages about the engine.
    """
    global _current  # noqa: PLW0603 - a process runs one command, and all its threads use the same engine
    folder = EngineFolder(engines_folder())
    if folder.path.exists():
        lease.kill_abandoned(folder)
    _current = this = Command(log)
    try:
        yield this
    finally:
        _current = None
        this.give_back()


def current() -> Command | None:
    """Return the command that may use an engine, or None."""
    return _current if _current is not None and is_wanted(os.environ, sys.stderr.isatty()) else None


def is_wanted(environment: Mapping[str, str], at_terminal: bool) -> bool:
    """Return whether commands of this process use an engine.

    Args:
        environment: The environment of the process.
        at_terminal: Whether the command was typed at a terminal: only then is an engine that stays behind expected.

    Raises:
        ConfigError: The switch has another value than on and off.
    """
    switch = environment.get(SWITCH_VARIABLE, "")
    if switch not in ("", "on", "off"):
        raise ConfigError(f"{SWITCH_VARIABLE} is {switch!r}", expected="on or off")
    if not Path("/proc/self/stat").exists():  # without it, nobody can know whether a command was killed
        return False
    if switch:
        return switch == "on"
    return at_terminal and environment.get("CI", "") in ("", "false", "0")


def idle_time(environment: Mapping[str, str]) -> timedelta:
    """Return how long an engine waits for the next command.

    Args:
        environment: The environment of the process that starts it.

    Raises:
        ConfigError: The variable has no valid duration.
    """
    text = environment.get(IDLE_VARIABLE) or _DEFAULT_IDLE
    found = re.fullmatch(r"([1-9]\d{0,4})([smh])", text)
    if not found:
        raise ConfigError(f"{IDLE_VARIABLE} is {text!r}", expected="a number and a unit, such as 90s, 15m or 1h")
    return timedelta(**{_UNITS[found.group(2)]: int(found.group(1))})


def _engine_start(plain: Launch, launch: Launch) -> lease.EngineStart:
    from pyspark.find_spark_home import _find_spark_home

    spark_home = Path(_find_spark_home())
    options = [text for name, value in (_PYSPARK_DEFAULTS | launch.settings).items() for text in _option(name, value)]
    arguments = shlex.split(os.environ.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell"))
    environment = os.environ | plain.environment
    return lease.EngineStart(
        key.engine_key(plain.settings, environment, spark_home),
        key.describe(plain.settings, environment),
        [str(spark_home / "bin" / "spark-submit"), *options, *arguments],
        key.jvm_environment(environment | launch.environment),
        idle_time(environment).total_seconds(),
    )


def _option(name: str, value: str) -> tuple[str, str]:
    return "--conf", f"{name}={value}"
