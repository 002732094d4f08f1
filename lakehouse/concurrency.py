"""Provides the pool of threads for tables and models, and shares the result of an operation between threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

T = TypeVar("T")

_WORKERS = 4  # tables or models at a time: the driver plans one while the executors work on another


def worker_pool() -> ThreadPoolExecutor:
    """Return a pool of threads that each work on one table or model at a time."""
    return ThreadPoolExecutor(_WORKERS)


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
