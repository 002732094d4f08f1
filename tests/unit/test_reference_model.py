"""The model obeys the law itself: else what is compared with it proves nothing."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from reference_model import (
    NAN_VALUE,
    Columns,
    Content,
    Key,
    Record,
    State,
    Timeline,
    apply_changes,
    canonical_value,
    diff,
)

COLUMNS = Columns(("a", "b", "seen"), frozenset({"seen"}))
KEPT = frozenset({"a"})
NOON = datetime(2025, 10, 3, 12)

keys = st.tuples(st.sampled_from(["doc-7", "doc-71", ""]), st.sampled_from([12, 2]))
contents = st.tuples(
    st.sampled_from([None, "", "x"]), st.sampled_from([None, 0.0, -0.0, math.nan]), st.sampled_from([None, 1])
).map(canonical_value)
good = st.builds(Record, keys, contents)
broken = st.sampled_from([Record(None, None), Record(None, None, is_key_unreadable=True)]) | st.builds(
    Record, keys, st.none()
)
clean = st.dictionaries(keys, contents)
# Often a row again, or a bad one; seldom a key that nobody has had.
dirty = st.lists(good | good | good | broken, max_size=12).flatmap(st.permutations)


def records(rows: State) -> list[Record]:
    return [Record(key, content) for key, content in rows.items()]


def meant(previous: State, snapshot: list[Record]) -> State:
    """What is to be there after a snapshot, said without a diff."""

    def row(key: Key) -> Content | None:
        found = {record.content for record in snapshot if record.key == key}
        only = next(iter(found)) if len(found) == 1 else None
        return only if differs(previous.get(key), only) else previous.get(key)

    rows = {record.key: row(record.key) for record in snapshot if record.key is not None}
    return {key: content for key, content in rows.items() if content is not None}


def differs(before: Content | None, now: Content | None) -> bool:
    """Whether there is another content now, and in more than the column `seen`."""
    return now is not None and (before is None or before[:2] != now[:2])


def test_values_are_compared_as_the_contract_says() -> None:
    assert canonical_value([math.nan, {"x": -math.nan, "y": None}]) == (NAN_VALUE, (("x", NAN_VALUE), ("y", None)))
    assert canonical_value(-0.0) == canonical_value(0.0)
    assert len({canonical_value(v) for v in (None, "", 0, NAN_VALUE, b"", [])}) == 6


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(clean, clean)
def test_the_difference_applied_is_the_snapshot(previous: State, current: State) -> None:
    columns = Columns(COLUMNS.names)
    found = diff(previous, records(current), columns)

    assert apply_changes(previous, found.changes) == current
    assert diff(current, records(current), columns).changes == []
    assert found.counts["inserted"] == len(current.keys() - previous.keys())
    assert found.counts["deleted"] == len(previous.keys() - current.keys())
    assert all(c.changed is None or c.changed for c in found.changes)


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(clean, dirty)
def test_rows_that_cannot_be_taken_change_nothing(previous: State, snapshot: list[Record]) -> None:
    found = diff(previous, snapshot, COLUMNS)
    after = apply_changes(previous, found.changes)

    assert after == meant(previous, snapshot)
    again = diff(after, snapshot, COLUMNS)
    assert again.changes == []
    assert again.counts["quarantined"] == found.counts["quarantined"]
    counts = found.counts
    taken = ("inserted", "updated", "unchanged", "quarantined", "duplicates")
    assert counts["rows_read"] == sum(counts[name] for name in taken)
    assert Counter(change.operation for change in found.changes) == +Counter(
        I=counts["inserted"], U=counts["updated"], D=counts["deleted"]
    )
    turned = diff(previous, snapshot[::-1], COLUMNS)
    assert (set(turned.changes), turned.counts) == (set(found.changes), counts)


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(st.lists(clean.map(records) | dirty, min_size=2, max_size=7), st.sampled_from([KEPT, frozenset(COLUMNS.names)]))
def test_windows_never_overlap_and_leave_no_gap_while_a_key_lives(
    snapshots: list[list[Record]], kept: frozenset[str]
) -> None:
    timeline = Timeline(COLUMNS, kept)
    states: list[tuple[datetime, State]] = []
    for number, snapshot in enumerate(snapshots):
        time = NOON + timedelta(days=number)
        before = timeline.state
        taken = timeline.take_snapshot(time, snapshot)
        assert taken.status == "accepted" or timeline.state == before
        states.append((time, timeline.state))

    at = [number for number, name in enumerate(COLUMNS.names) if name in kept]
    for time, state in states:
        holding = [span for span in timeline.history if span.is_valid_at(time)]
        assert len({span.key for span in holding}) == len(holding)
        found = {span.key: [span.content[n] for n in at] for span in holding}
        assert found == {key: [content[n] for n in at] for key, content in state.items()}
    assert {s.key: s.content for s in timeline.history if s.end is None} == timeline.state
    for spans in timeline.history_rows.values():
        for one, following in pairwise(spans):
            assert one.end is not None
            assert one.cdc.time < one.end <= following.cdc.time
            assert (one.end == following.cdc.time) == (following.cdc.operation == "U")
