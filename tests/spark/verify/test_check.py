"""Results of `verify` if something cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession

from lakehouse import verify
from lakehouse.errors import ConfigError, ExitCode, InfrastructureError
from lakehouse.verify.check import Check, Claim

NO_SESSION = cast(SparkSession, None)
HOLDS = Claim("I5", "the ledger's counts add up", "items").holds("3 rows")


@pytest.mark.parametrize(
    ("error", "result", "code"),
    [
        (ValueError("corrupt footer"), "failed", ExitCode.REFUSED),
        (InfrastructureError("the store does not answer"), "not checkable", ExitCode.INFRASTRUCTURE),
        (ConfigError("the store forbids it"), "not checkable", ExitCode.USAGE),
    ],
)
def test_a_part_that_cannot_be_read_has_failed_unless_the_store_is_the_cause(
    error: Exception, result: str, code: ExitCode
) -> None:
    def part(_: SparkSession) -> Iterator[Check]:
        yield HOLDS
        raise error

    held, unread = verify._run_checks(NO_SESSION, "items", part)
    assert (held, held.code) == (HOLDS, ExitCode.OK)
    assert (unread.invariant, unread.result, unread.code) == ("I0", result, code)
    assert str(error) in unread.figures


def test_a_part_is_retried_from_its_start_after_a_network_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    resets: list[Any] = [Exception("java.io.UncheckedIOException: java.net.SocketException: Connection reset")] * 2

    def part(_: SparkSession) -> Iterator[Check]:
        yield HOLDS
        if resets:
            raise resets.pop()

    assert verify._run_checks(NO_SESSION, "items", part) == [HOLDS]
