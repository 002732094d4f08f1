"""All retries follow one rule: which errors, how many attempts, which waits, and where a retry is reported."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import stamina
from stamina.instrumentation import RetryDetails

from lakehouse import retry
from lakehouse.errors import InfrastructureError
from lakehouse.retry import RetryPolicy, TransientError, report_retries, with_retries


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the waits between attempts instead of sleeping."""
    seconds: list[float] = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


@pytest.fixture(autouse=True)
def no_listener() -> Iterator[None]:
    yield
    retry._listeners.clear()


class Failing:
    """An operation that raises these errors, one at each call, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_a_failure_of_a_source_is_retried_and_printed(waits: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert with_retries(Failing(TransientError("the database is down"), TransientError("no answer"))) == "done"

    assert 1 <= waits[0] <= 2 <= waits[1] <= 3
    first, second = capsys.readouterr().err.splitlines()
    assert re.match(r"extract  the database is down; attempt 2 of 6 in (1\.\d|2\.0) s", first), first
    assert re.match(r"extract  no answer; attempt 3 of 6 in (2\.\d|3\.0) s", second), second


def test_after_the_last_attempt_its_error_is_raised(waits: list[float]) -> None:
    errors = [TransientError(f"failure {n}") for n in range(1, 8)]

    with pytest.raises(TransientError, match="failure 6"):
        with_retries(Failing(*errors))

    assert len(waits) == 5


def test_any_other_error_is_raised_at_once(waits: list[float]) -> None:
    for error in (ValueError("bug"), InfrastructureError("disk full")):
        work = Failing(error)
        with pytest.raises(type(error)):
            with_retries(work)
        assert work.calls == 1
    assert waits == []


def test_an_interrupt_is_not_retried(waits: list[float]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    for on in (retry.retry_decision, Exception):
        with pytest.raises(KeyboardInterrupt):
            with_retries(interrupted, on)
    assert waits == []


@pytest.mark.parametrize(("requested", "retried"), [(2.0, True), (300.0, True), (301.0, False), (86400.0, False)])
def test_a_wait_that_a_server_asks_for_is_obeyed_unless_it_is_too_long(
    waits: list[float], requested: float, retried: bool
) -> None:
    work = Failing(TransientError("too many requests", retry_after=requested))

    if retried:
        assert with_retries(work) == "done"
    else:
        with pytest.raises(TransientError):
            with_retries(work)
    assert waits == ([requested] if retried else [])


@pytest.mark.parametrize("on", [OSError, lambda error: isinstance(error, OSError)], ids=["class", "function"])
def test_a_policy_sets_the_attempts_and_the_waits(waits: list[float], on: Any) -> None:
    policy = RetryPolicy(attempts=4, wait_initial=2.0, wait_max=3.0, wait_jitter=0.0, timeout=None)
    work = Failing(*[OSError("reset")] * 3)

    assert with_retries(work, on, policy) == "done"
    assert waits == [2.0, 3.0, 3.0]


def test_a_retry_is_reported_to_the_listener_and_never_to_stdout(
    waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with_retries(Failing(OSError("nobody listens")), OSError)
    reported: list[RetryDetails] = []
    report_retries(reported.append)

    with_retries(Failing(OSError("reset"), TransientError("printed")), Exception)

    assert [(details.retry_num, str(details.caused_by)) for details in reported] == [(1, "reset")]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("extract  printed; attempt 3 of 6 in ")


def test_stamina_can_be_put_in_testing_mode(waits: list[float]) -> None:
    with stamina.set_testing(True, attempts=2), pytest.raises(TransientError):
        with_retries(Failing(*[TransientError("down")] * 3))
    assert waits == [0.0]
