"""Defines a session that starts at its first use, for verbs that mostly need none.

Reading by the driver (docs/decisions/0026-without-a-jvm.md) falls back to Spark for a table that only Spark can
read. Functions with such a fallback take a session; given this one, a command that needs no fallback starts no JVM.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class _LazySession:
    """Has every attribute of the session, which is started when the first one is read."""

    def __init__(self, start: Callable[[], SparkSession]) -> None:
        self._start = start
        self._lock = Lock()
        self._session: SparkSession | None = None

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            self._session = self._session or self._start()
        return getattr(self._session, name)


def lazy_session(start: Callable[[], SparkSession]) -> SparkSession:
    """Return a session that is started at its first use.

    Args:
        start: Starts the session, or returns the one that was started before.
    """
    return cast("SparkSession", _LazySession(start))
