"""Again, a few times: what failed on the way to a source may succeed a moment later.

Waits grow from a second to a minute, with jitter, so that many runs do not come back at the same instant; a server that
says how long to wait is believed, unless that is longer than anybody would sit there for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from lakehouse.errors import InfrastructureError

ATTEMPTS = 6
LONGEST_WAIT = 300.0  # seconds that a server may ask for
_ALL_TOGETHER = 1800.0  # seconds after which no further attempt begins

T = TypeVar("T")


class Again(InfrastructureError):
    """A failure that another attempt may get over.

    Args:
        after: seconds that the other side asked to be left alone for.
    """

    def __init__(self, found: str, *, after: float | None = None, where: str = "") -> None:
        super().__init__(
            found, expected="an answer, after a few attempts", where=where, next_step="run the same command again later"
        )
        self.after = after


def patiently(work: Callable[[], T]) -> T:
    """What `work` returns, tried again while it raises `Again`.

    Raises:
        Again: what the last attempt raised.
    """
    # stamina's own hook logs the error's repr, to standard output where structlog is installed: neither is wanted.
    set_on_retry_hooks([_told])
    for attempt in stamina.retry_context(
        on=_wait, attempts=ATTEMPTS, timeout=_ALL_TOGETHER, wait_initial=1, wait_max=60, wait_jitter=1
    ):
        with attempt:
            return work()
    raise AssertionError("stamina raises the last error")


def _wait(error: Exception) -> bool | float:
    """Whether to try again; a number: after so many seconds."""
    if not isinstance(error, Again):
        return False
    return True if error.after is None else error.after if error.after <= LONGEST_WAIT else False


def _told(details: RetryDetails) -> None:
    if isinstance(details.caused_by, Again):
        wait = f"attempt {details.retry_num + 1} of {ATTEMPTS} in {details.wait_for:.1f} s"
        print(f"extract  {details.caused_by.found}; {wait}", file=sys.stderr)
