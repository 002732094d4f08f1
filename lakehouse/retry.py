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
MAX_WAIT_SECONDS = 300.0  # seconds that a server may ask for
_TOTAL_SECONDS = 1800.0  # seconds after which no further attempt begins

T = TypeVar("T")


class TransientError(InfrastructureError):
    """A failure that another attempt may get over.

    Args:
        after: seconds that the other side asked to be left alone for.
    """

    def __init__(self, found: str, *, retry_after: float | None = None, where: str = "") -> None:
        super().__init__(
            found, expected="an answer, after a few attempts", where=where, next_step="run the same command again later"
        )
        self.retry_after = retry_after


def with_retries(work: Callable[[], T]) -> T:
    """What `work` returns, tried again while it raises `Again`.

    Raises:
        Again: what the last attempt raised.
    """
    # stamina's own hook logs the error's repr, to standard output where structlog is installed: neither is wanted.
    set_on_retry_hooks([_print_retry])
    for attempt in stamina.retry_context(
        on=_retry_decision, attempts=ATTEMPTS, timeout=_TOTAL_SECONDS, wait_initial=1, wait_max=60, wait_jitter=1
    ):
        with attempt:
            return work()
    raise AssertionError("stamina raises the last error")


def _retry_decision(error: Exception) -> bool | float:
    """Whether to try again; a number: after so many seconds."""
    if not isinstance(error, TransientError):
        return False
    return True if error.retry_after is None else error.retry_after if error.retry_after <= MAX_WAIT_SECONDS else False


def _print_retry(details: RetryDetails) -> None:
    if isinstance(details.caused_by, TransientError):
        wait = f"attempt {details.retry_num + 1} of {ATTEMPTS} in {details.wait_for:.1f} s"
        print(f"extract  {details.caused_by.found}; {wait}", file=sys.stderr)
