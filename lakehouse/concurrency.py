"""Provides the pool of threads for tables and models, and shares the result of an operation between threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

T = TypeVar("T")

_WORKERS = 4  # tables or models at a time: the driver plans one while the executors work on another
_LIGHT_WORKERS = 16  # of tables that mostly wait for a commit of the ledger, which those that wait together share


def worker_pool(is_light: bool = False) -> ThreadPoolExecutor:
    """Return a pool of threads that each work on one table or model at a time.

    Args:
        is_light: Whether the work on each of them takes little time and memory.
    """
    return ThreadPoolExecutor(_LIGHT_WORKERS if is_light else _WORKERS)


def once(work: Callable[[], T]) -> Callable[[], T]:
    """Return a function that does `work` at its first call and returns the same result or error at each call.

    Args:
        work: The operation. Threads that call while it runs wait for its end.
    """
    lock, result = Lock(), Future[T]()

    def get() -> T:
        with lock:
            if not result.done():
                try:
                    result.set_result(work())
                except Exception as error:
                    result.set_exception(error)
        return result.result()

    return get
