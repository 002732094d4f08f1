"""Which counts of a comparison hold a snapshot, with which reason. No JVM: tests/lake/ingest has one case each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.config import Guard
from lakehouse.ingest.diff import Counts
from lakehouse.ingest.guards import hold_reason

DEFAULT = Guard()


def counted(**numbers: int) -> Counts:
    """Return counts in which only these are not zero; rows_read follows from them."""
    names = ("inserted", "updated", "deleted", "unchanged", "quarantined", "duplicates", "conflicts", "unreadable_keys")
    counts = dict.fromkeys(names, 0) | numbers
    read = sum(counts[name] for name in ("inserted", "updated", "unchanged", "quarantined", "duplicates"))
    return Counts(rows_read=read, **counts)


def never() -> int:
    raise AssertionError("the counts include every row: they must not be counted again")


@pytest.mark.parametrize(
    ("guard", "counts", "reason"),
    [
        # min_rows
        (DEFAULT, counted(), "0 rows accepted, fewer than min_rows 1"),
        (DEFAULT, counted(inserted=1), None),
        (Guard(min_rows=0), counted(), None),
        (Guard(min_rows=5), counted(inserted=1, unchanged=3), "4 rows accepted, fewer than min_rows 5"),
        (Guard(min_rows=5), counted(inserted=1, updated=1, unchanged=2, duplicates=1), None),
        (Guard(min_rows=2, max_quarantined=1), counted(inserted=1, quarantined=1), "1 row accepted, fewer than"),
        # max_deleted: of the rows before
        (DEFAULT, counted(unchanged=7, deleted=3), None),  # exactly at the limit
        (DEFAULT, counted(unchanged=6, deleted=3), "3 of 9 rows deleted, more than max_deleted 0.3"),
        (DEFAULT, counted(updated=6, deleted=3), "3 of 9 rows deleted, more than max_deleted 0.3"),
        (DEFAULT, counted(unchanged=6, inserted=100, deleted=3), "3 of 9 rows deleted, more than max_deleted 0.3"),
        (Guard(max_deleted=0), counted(unchanged=99, deleted=1), "1 of 100 rows deleted, more than max_deleted 0"),
        (Guard(max_deleted=0), counted(unchanged=99), None),
        (Guard(max_deleted=1, min_rows=0), counted(deleted=5), None),
        # max_quarantined: of the rows read
        (DEFAULT, counted(unchanged=2, quarantined=2), None),
        (DEFAULT, counted(unchanged=2, quarantined=3), "3 of 5 rows quarantined, more than max_quarantined 0.5"),
        (Guard(max_quarantined=0), counted(unchanged=9, quarantined=1), "1 of 10 rows quarantined, more than"),
        (Guard(max_quarantined=1, min_rows=0), counted(quarantined=4), None),
        # max_updated and max_inserted: of the rows before, if there are any
        (Guard(max_updated=0.29), counted(unchanged=71, updated=29), None),
        (
            Guard(max_updated=0.29),
            counted(unchanged=70, updated=30),
            "30 of 100 rows updated, more than max_updated",
        ),
        (Guard(max_updated=0), counted(inserted=5), None),
        (Guard(max_inserted=1), counted(unchanged=3, inserted=3), None),
        (Guard(max_inserted=1), counted(unchanged=3, inserted=4), "4 rows inserted beside 3, more than max_inserted 1"),
        (Guard(max_inserted=1.5), counted(unchanged=2, inserted=4), "4 rows inserted beside 2, more than max_inserted"),
        (Guard(max_inserted=0), counted(inserted=5), None),
        (Guard(max_inserted=0), counted(unchanged=1, inserted=1), "1 row inserted beside 1, more than max_inserted 0"),
        # a row whose key cannot be read may be the one that is missing
        (DEFAULT, counted(unchanged=4, quarantined=1, unreadable_keys=1), None),
    ],
)
def test_a_snapshot_is_held_beyond_a_limit_and_not_at_it(guard: Guard, counts: Counts, reason: str | None) -> None:
    found = hold_reason(counts, guard, never)

    assert found is None if reason is None else found is not None and found.startswith(reason)


def test_rows_protected_by_the_quarantine_count_as_live() -> None:
    counts = counted(unchanged=4, quarantined=2, deleted=3)  # of 7 known rows, 3 are deleted

    assert hold_reason(counts, DEFAULT, lambda: 10) is None
    assert hold_reason(counts, DEFAULT, lambda: 9) == "3 of 9 rows deleted, more than max_deleted 0.3"


def test_an_unreadable_key_holds_every_snapshot_that_would_delete() -> None:
    counts = counted(unchanged=98, quarantined=1, unreadable_keys=1, deleted=1)

    assert hold_reason(counts, DEFAULT, lambda: 100) == "1 row whose key cannot be read, beside 1 row deleted"


def test_all_reasons_are_reported_at_once() -> None:
    counts = counted(quarantined=4, unreadable_keys=1, deleted=5)

    assert hold_reason(counts, DEFAULT, lambda: 5) == (
        "0 rows accepted, fewer than min_rows 1; 5 of 5 rows deleted, more than max_deleted 0.3; "
        "1 row whose key cannot be read, beside 5 rows deleted; "
        "4 of 4 rows quarantined, more than max_quarantined 0.5"
    )


NUMBERS = st.integers(0, 50)


@given(inserted=NUMBERS, updated=NUMBERS, deleted=NUMBERS, unchanged=NUMBERS, quarantined=NUMBERS)
def test_the_widest_guard_holds_nothing_and_the_narrowest_any_delete_or_quarantine(**numbers: int) -> None:
    counts, live = counted(**numbers), numbers["updated"] + numbers["deleted"] + numbers["unchanged"]

    assert hold_reason(counts, Guard(min_rows=0, max_deleted=1, max_quarantined=1), lambda: live) is None
    narrow = hold_reason(counts, Guard(min_rows=0, max_deleted=0, max_quarantined=0), lambda: live)
    assert (narrow is not None) is bool(counts.deleted or counts.quarantined)
