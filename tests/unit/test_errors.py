"""What every error tells, and which exit code wins."""

from __future__ import annotations

import pickle

import pytest

from lakehouse.errors import (
    ConfigError,
    DataRefused,
    ExitCode,
    InfrastructureError,
    LakeBusy,
    LakehouseError,
    worst_exit_code,
)


def test_the_block_has_a_line_for_each_thing_known_and_none_for_the_rest() -> None:
    error = DataRefused("2 of 5 columns are missing", where="clientes.csv:1", next_step="lakehouse validate x")

    assert error.to_text().splitlines() == [
        "found:    2 of 5 columns are missing",
        "where:    clientes.csv:1",
        "next:     lakehouse validate x",
    ]


def test_further_lines_of_a_text_stand_under_its_first() -> None:
    assert ConfigError("one\ntwo", expected="none").to_text() == "found:    one\n          two\nexpected: none"


def test_an_error_keeps_what_it_was_told() -> None:
    error = LakehouseError("a", expected="b", where="c", next_step="d")

    assert (error.found, error.expected, error.where, error.next_step) == ("a", "b", "c", "d")
    assert str(error) == error.to_text()


def test_an_error_survives_the_way_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(LakeBusy("held", where="host 1")))

    assert isinstance(error, LakeBusy)
    assert error.to_text() == LakeBusy("held", where="host 1").to_text()


@pytest.mark.parametrize(
    ("error", "code"),
    [(LakehouseError, 1), (ConfigError, 2), (InfrastructureError, 3), (DataRefused, 5), (LakeBusy, 6)],
)
def test_each_kind_of_error_has_its_exit_code(error: type[LakehouseError], code: int) -> None:
    assert error.exit_code == code
    assert error("x").exit_code == code


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], ExitCode.OK),
        ([0, 0], ExitCode.OK),
        ([0, 4], ExitCode.HELD),
        ([4, 5], ExitCode.REFUSED),
        ([5, 3, 4], ExitCode.INFRASTRUCTURE),
        ([3, 6], ExitCode.BUSY),
        ([6, 2], ExitCode.USAGE),
        ([2, 1, 6, 5], ExitCode.BUG),
    ],
)
def test_the_worst_code_is_what_needs_a_hand_soonest(codes: list[int], expected: ExitCode) -> None:
    assert worst_exit_code(codes) == expected
    assert worst_exit_code(reversed(codes)) == expected


def test_a_code_nobody_defined_is_a_bug() -> None:
    assert worst_exit_code([0, 137]) == ExitCode.BUG
