"""Members that fail by themselves are found with few attempts; none is named if only several together fail."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.models.halving import Halving


@given(st.integers(1, 2000), st.data())
def test_what_is_found_fails_by_itself_and_something_is_found_with_few_attempts(size: int, data: st.DataObject) -> None:
    failing = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=10))
    attempts: list[tuple[int, int]] = []

    def fails(start: int, end: int) -> bool:
        attempts.append((start, end))
        return any(start <= at < end for at in failing)

    halving = Halving(fails)
    halving.search(0, size)

    assert set(halving.found) <= failing
    assert len(halving.found) == min(len(failing), 3)
    assert halving.has_passing or len(failing) > size // 2 or size == 1
    assert len(attempts) <= 3 * 2 * size.bit_length()


def test_a_half_that_passes_is_seen_after_enough_members_were_found() -> None:
    halving = Halving(lambda start, end: start < 3)
    halving.search(0, 6)

    assert (halving.found, halving.has_passing) == ([0, 1, 2], True)


def test_members_that_fail_only_together_are_not_named() -> None:
    halving = Halving(lambda start, end: start <= 1 and end > 6)
    halving.search(0, 8)

    assert (halving.found, halving.has_passing) == ([], True)


def test_a_search_without_time_ends_at_once() -> None:
    halving = Halving(lambda start, end: True, may_continue=lambda: False)
    halving.search(0, 8)

    assert halving.found == []
