"""Retries work that failed for a reason that may pass, with growing waits.

Every retry of the project goes through `with_retries`, so that all of them wait, give up and report in the same way.
Waits have jitter, so that many runs do not come back at the same moment. A server that names the wait is obeyed, unless
it names more than `MAX_WAIT_SECONDS`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from lakehouse.errors import InfrastructureError

if TYPE_CHECKING:
    from stamina.instrumentation import RetryDetails

ATTEMPTS = 6
MAX_WAIT_SECONDS = 300.0  # the longest wait that a server may ask for

T = TypeVar("T")


class TransientError(InfrastructureError):
    """A source failed in a way that another attempt may get over.

    Args:
        found: The failure, as a sentence.
        retry_after: Seconds that the server asked to wait.
        where: The source, or the part of it.
    """

    def __init__(self, found: str, *, retry_after: float | None = None, where: str = "") -> None:
        super().__init__(
            found, expected="an answer, after a few attempts", where=where, next_step="run the same command again later"
        )
        self.retry_after = retry_after


@dataclass(frozen=True)
class RetryPolicy:
    """The number of attempts of an operation, and the waits between them.

    Attributes:
        attempts: Attempts in total, the first one included.
        wait_initial: Seconds before the second attempt; each further wait is twice as long.
        wait_max: Seconds that no wait exceeds.
        wait_jitter: Up to so many seconds are added to each wait, by chance.
        timeout: Seconds from the beginning of the first attempt after which no further one begins; None for no limit.
    """

    attempts: int = ATTEMPTS
    wait_initial: float = 1.0
    wait_max: float = 60.0
    wait_jitter: float = 1.0
    timeout: float | None = 1800.0


SOURCE_POLICY = RetryPolicy()


def retry_decision(error: Exception) -> bool | float:
    """Return whether to retry after `error` of a source; a number is the wait in seconds that its server asked for."""
    if not isinstance(error, TransientError):
        return False
    if error.retry_after is None:
        return True
    return error.retry_after if error.retry_after <= MAX_WAIT_SECONDS else False


def with_retries(
    work: Callable[[], T],
    on: type[Exception] | Callable[[Exception], bool | float] = retry_decision,
    policy: RetryPolicy = SOURCE_POLICY,
) -> T:
    """Return the result of `work`, and retry it while it fails for a reason that may pass.

    Args:
        work: The operation; repeating it must be harmless at any point.
        on: The errors to retry after: a class, or a function that decides and may return the seconds to wait.
        policy: The number of attempts and the waits.

    Raises:
        Exception: The error of the last attempt.
    """
    import stamina  # takes long, and most commands that only look at a lake retry nothing
    from stamina.instrumentation import set_on_retry_hooks

    # stamina's default hook writes the error's repr to stdout if structlog is installed; stdout is for results only.
    set_on_retry_hooks([_report_retry])
    caller = stamina.RetryingCaller(
        attempts=policy.attempts,
        timeout=policy.timeout,
        wait_initial=policy.wait_initial,
        wait_max=policy.wait_max,
        wait_jitter=policy.wait_jitter,
    )
    return caller(on, work)


def report_retries(on_retry: Callable[[RetryDetails], None]) -> None:
    """Have `on_retry` receive every retry from now on, except those of a source, which are printed to stderr."""
    _listeners[:] = [on_retry]


_listeners: list[Callable[[RetryDetails], None]] = []


def _report_retry(details: RetryDetails) -> None:
    error = details.caused_by
    if isinstance(error, TransientError):
        wait = f"attempt {details.retry_num + 1} of {ATTEMPTS} in {details.wait_for:.1f} s"
        print(f"extract  {error.found}; {wait}", file=sys.stderr)
        return
    for on_retry in _listeners:
        on_retry(details)
