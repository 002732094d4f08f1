"""Something that is done at most once, by whichever table asks first."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import TypeVar

T = TypeVar("T")


def once(work: Callable[[], T]) -> Callable[[], T]:
    """`work`, done at the first call; the others wait, and get its result or its error."""
    lock, done = Lock(), Future[T]()

    def get() -> T:
        with lock:
            if not done.done():
                try:
                    done.set_result(work())
                except Exception as error:
                    done.set_exception(error)
        return done.result()

    return get
