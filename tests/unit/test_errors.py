"""The text of every error, and the exit code of a run over several tables."""

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


def test_the_text_has_one_line_for_each_part_that_is_given() -> None:
    error = DataRefused("2 of 5 columns are missing", where="clientes.csv:1", next_step="lakehouse validate x")

    assert error.to_text().splitlines() == [
        "found:    2 of 5 columns are missing",
        "where:    clientes.csv:1",
        "next:     lakehouse validate x",
    ]


def test_further_lines_are_indented_below_the_first() -> None:
    assert ConfigError("one\ntwo", expected="none").to_text() == "found:    one\n          two\nexpected: none"


def test_a_part_is_printable_and_cut_whatever_a_source_put_into_it() -> None:
    header = ", ".join(f"column_{n}" for n in range(100_000))
    error = DataRefused("no column a\x1b]52;c;aGk=\x07\rfound: all is well", expected=f"its header has {header}")

    assert error.found == "no column a\\x1b]52;c;aGk=\\x07\\rfound: all is well"
    assert error.to_text().endswith("... (1,388,903 characters)")
    assert len(error.to_text()) < 2_300
    assert len(DataRefused("line\n" * 100_000).to_text().splitlines()) == 500


def test_an_error_keeps_its_parts() -> None:
    error = LakehouseError("a", expected="b", where="c", next_step="d")

    assert (error.found, error.expected, error.where, error.next_step) == ("a", "b", "c", "d")
    assert str(error) == error.to_text()


def test_an_error_can_be_pickled() -> None:
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
def test_the_worst_code_is_the_most_urgent_one(codes: list[int], expected: ExitCode) -> None:
    assert worst_exit_code(codes) == expected
    assert worst_exit_code(reversed(codes)) == expected


def test_an_undefined_code_is_a_bug() -> None:
    assert worst_exit_code([0, 137]) == ExitCode.BUG


def test_what_is_kept_of_an_error_has_no_values() -> None:
    error = DataRefused("3 rows, such as 'ana'", kept="3 rows, such as in line 7", where="items.csv", next_step="look")

    assert error.to_record() == "found:    3 rows, such as in line 7\nwhere:    items.csv\nnext:     look"
    assert "'ana'" in error.to_text()
    assert pickle.loads(pickle.dumps(error)).to_record() == error.to_record()
    assert DataRefused("no values").to_record() == DataRefused("no values").to_text()


def test_a_trace_is_not_kept_if_its_error_has_values() -> None:
    error = LakehouseError("ValueError: 'ana'", where="Traceback\nValueError: 'ana'", kept="ValueError: ***")

    assert "ana" not in error.to_record()
