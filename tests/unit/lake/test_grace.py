"""The rule of `missing` as both comparisons read it, against the plain model of tests/grace_model.py."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import duckdb
import pytest
from grace_model import BAD, Row, Table, slice_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.lake.grace import (
    FROM_STATE,
    Grace,
    epoch_micros,
    expiry_bound,
    operation_sql,
    outcome_sql,
    since_sql,
)

FIRST = datetime(2025, 1, 1, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
KEYS = range(12)  # each a pattern of its own
# Of a key in a snapshot: its content, a row for quarantine, or nothing.
PRESENCE = st.sampled_from([1, 1, 1, 2, BAD, None, None, None])
SNAPSHOT = st.tuples(
    st.integers(1, 30),
    st.lists(PRESENCE, min_size=len(KEYS), max_size=len(KEYS)),
    st.sets(st.sampled_from([0, 1, 2]), min_size=1),  # the slices that it contains
)
AFTER = st.one_of(st.integers(0, 4), st.integers(1, 60).map(lambda hours: hours * HOUR))


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def decide(
    connection: duckdb.DuckDBPyConnection,
    rows: dict[int, Row],
    contents: dict[int, int],
    grace: Grace,
    slices: set[int] | None,
) -> dict[int, tuple[str, str, datetime | None, bool]]:
    """Return the outcome of each key by the product's SQL: its operation, and since when it is missing after it."""

    def micros(time: datetime | None) -> str:
        return "NULL" if time is None else f"make_timestamp({epoch_micros(time)})"

    facts = []
    for key in rows.keys() | contents.keys():
        row, content = rows.get(key), contents.get(key)
        since = row.since if row else None
        bound = grace.bounds([(str(slice_of(key)),)])[(str(slice_of(key)),)]
        is_due = bound is not None and (since or grace.time) <= bound
        is_contained = slices is None or slice_of(key) in slices
        is_read = content not in (None, BAD)
        is_same = row is not None and row.content == content
        flags = (
            is_read,
            content == BAD,
            row is not None,
            is_same,
            row is not None and row.marked,
            is_due,
            is_contained,
        )
        facts.append(f"({key}, {micros(since)}::TIMESTAMP, {', '.join(map(str, flags))})")
    if not facts:
        return {}
    names = "key, _cdc_since, _cdc_accepted, _cdc_quarantined, _cdc_known, _cdc_same, _cdc_marked, _cdc_due"
    names += ", _cdc_contained"
    found = f"SELECT *, {outcome_sql(grace.keeps_marked)} AS outcome FROM (VALUES {', '.join(facts)}) t({names})"
    since_after = since_sql("outcome", micros(grace.time), grace.keeps_marked)
    query = f"SELECT key, outcome, {operation_sql('outcome')}, {since_after} FROM ({found})"
    result: dict[int, tuple[Any, ...]] = {
        key: (outcome, operation, since and since.replace(tzinfo=timezone.utc))
        for key, outcome, operation, since in connection.execute(query).fetchall()
    }
    return {key: (*each, each[0] in FROM_STATE) for key, each in result.items()}


@settings(max_examples=200, deadline=None)
@given(AFTER, st.booleans(), st.booleans(), st.lists(SNAPSHOT, min_size=1, max_size=12))
def test_the_rule_does_what_the_plain_model_does(
    connection: duckdb.DuckDBPyConnection,
    after: int | timedelta,
    mark: bool,
    has_slices: bool,
    snapshots: list[tuple[int, list[int | None], set[int]]],
) -> None:
    """A snapshot of slices counts only for the keys of these."""
    table, time, taken = Table(after, mark), FIRST, list[tuple[datetime, set[int]]]()

    def bound_in(each: tuple[str, ...]) -> datetime | None:
        return expiry_bound(after, time, [at for at, slices in taken if int(each[0]) in slices])

    for hours, presence, slices in snapshots:
        time += hours * HOUR
        contained = slices if has_slices else None
        contents = {key: content for key, content in zip(KEYS, presence, strict=True) if content is not None}
        if has_slices:
            contents = {key: content for key, content in contents.items() if slice_of(key) in slices}
        grace = Grace(time, expiry_bound(after, time, [at for at, _ in taken]), mark, bound_in if has_slices else None)
        found = decide(connection, dict(table.rows), contents, grace, contained)

        result = table.take(time, contents, slices=contained)
        taken.append((time, slices))

        operations = {key: operation for key, (_, operation, _, _) in found.items() if operation in "IUDMR"}
        assert operations == result.operations
        assert sum(outcome in ("missing", "M") for outcome, *_ in found.values()) == result.missing
        for key, operation in operations.items():
            since, from_state = found[key][2:]
            after_it = table.rows.get(key)
            assert since == (after_it.since if after_it else None)
            assert from_state == (operation in "DMR")


@pytest.mark.parametrize(
    ("after", "lacking", "bound"),
    [
        (0, 0, 0),
        (1, 0, 0),
        (2, 0, None),
        (2, 1, 1),
        (3, 1, None),
        (3, 2, 2),
        (3, 5, 2),
    ],
)
def test_a_key_expires_with_the_nth_snapshot_without_it(after: int, lacking: int, bound: int | None) -> None:
    """With `lacking` snapshots taken since the first one without it."""
    time = FIRST + 10 * HOUR
    taken = [time - n * HOUR for n in range(1, lacking + 1)]
    assert expiry_bound(after, time, taken) == (None if bound is None else time - bound * HOUR)


def test_a_snapshot_that_is_taken_again_counts_once() -> None:
    time = FIRST + 3 * HOUR
    taken = [FIRST + HOUR, FIRST + HOUR, time]  # twice by another configuration; and the one that is decided
    assert expiry_bound(3, time, taken) is None
    assert expiry_bound(2, time, taken) == FIRST + HOUR


def test_a_duration_ends_at_the_time_of_a_snapshot_not_before() -> None:
    assert expiry_bound(2 * HOUR, FIRST + 2 * HOUR, ()) == FIRST
    assert expiry_bound(timedelta(days=999_999), FIRST, ()) is None
