"""The fold of a change feed does not depend on the order of arrival, and is what the definition says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from feed_reference import DELETE, TRUNCATE, UPSERT, Batch, Row, Rules, Sent, fold
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.verify.feed_fold import Event, FeedRules, fold_key

MANY = settings(max_examples=1000, deadline=None)

_SEQUENCES = st.integers(1, 12)
_VALUES = st.tuples(st.sampled_from([None, 1, 2]), st.sampled_from([None, "x", "y"]))


@st.composite
def _events(draw: st.DrawFn) -> list[Sent]:
    """Events of which no two of one key and sequence differ, which is outside of the promise."""
    found: dict[tuple[str | None, int], Sent] = {}
    for _ in range(draw(st.integers(0, 14))):
        kind = draw(st.sampled_from([UPSERT, UPSERT, UPSERT, DELETE, TRUNCATE]))
        key, sequence = None if kind == TRUNCATE else draw(st.sampled_from("kl")), draw(_SEQUENCES)
        a, b = draw(_VALUES)
        found.setdefault((key, sequence), Sent(key, sequence, kind, (("a", a), ("b", b))))
    return list(found.values())


@st.composite
def _batches(draw: st.DrawFn, events: list[Sent]) -> list[Batch]:
    """Some order, split into batches with times in any order, of which some come again."""
    shuffled = draw(st.permutations(events))
    parts: list[list[Sent]] = [[]]
    for event in shuffled:
        if draw(st.booleans()):
            parts.append([])
        parts[-1].append(event)
    replayed = [part for part in parts if draw(st.booleans())] if draw(st.booleans()) else []
    every = [*parts, *replayed]
    return [Batch(draw(st.integers(0, 100)), tuple(part)) for part in every]


_RULES = st.builds(
    Rules,
    scd=st.sampled_from([1, 2]),
    tracked=st.sampled_from([("a", "b"), ("a",), ()]),
    kept_on_null=st.sampled_from([frozenset(), frozenset("a"), frozenset("ab")]),
)


def _folded(batches: list[Batch], rules: Rules) -> list[Row]:
    """Fold by the function under test."""
    events: dict[str, list[Event]] = {}
    truncates = []
    newest = 0
    for number, batch in enumerate(batches):
        newest = max(newest, batch.time) if number else batch.time
        for sent in batch.events:
            if sent.kind == TRUNCATE:
                truncates.append((sent.sequence,))
                continue
            assert sent.key
            event = Event((sent.sequence,), sent.kind, dict(sent.values), number, batch.time, newest)
            events.setdefault(sent.key, []).append(event)
    of_feed = FeedRules(rules.tracked if rules.scd == 2 else None, rules.kept_on_null, rules.tombstones)
    rows = []
    for key in sorted(events):
        for row in fold_key(events[key], truncates, of_feed):
            window = {"start": row.start and row.start[0], "end": row.end and row.end[0]} if rules.scd == 2 else {}
            rows.append({"key": key, **row.values, "sequence": row.sequence[0], **window})
    return rows


@MANY
@given(st.data(), _events(), _RULES)
def test_any_order_split_and_replay_of_a_feed_gives_the_rows_of_the_definition(
    data: st.DataObject, events: list[Sent], rules: Rules
) -> None:
    rules = replace(rules, tombstones=data.draw(st.sampled_from([None, 1000])))  # longer than any batch is late
    in_order = [Batch(0, tuple(sorted(events, key=lambda event: event.sequence)))]

    batches = data.draw(_batches(events))

    assert _folded(batches, rules) == fold(batches, rules) == fold(in_order, rules)


@MANY
@given(st.data(), _events(), st.integers(0, 60))
def test_an_event_that_is_later_than_the_tombstone_of_its_key_is_taken_by_both_alike(
    data: st.DataObject, events: list[Sent], tombstones: int
) -> None:
    batches = data.draw(_batches(events))

    assert _folded(batches, Rules(tombstones=tombstones)) == fold(batches, Rules(tombstones=tombstones))


def test_a_late_event_restores_a_deleted_key_once_its_tombstone_is_forgotten() -> None:
    delete, late = Sent("k", 5, DELETE), Sent("k", 3, UPSERT, (("a", 1),))

    def rows(days: int) -> Iterable[Row]:
        return _folded([Batch(0, (delete,)), Batch(days, (late,))], Rules(tombstones=7))

    assert rows(7) == []
    assert rows(8) == [{"key": "k", "a": 1, "sequence": 3}]


@pytest.mark.parametrize("at", [4, 5, 6])
def test_a_truncate_stands_for_ever_and_an_event_of_its_sequence_remains(at: int) -> None:
    batches = [Batch(0, (Sent(None, 5, TRUNCATE),)), Batch(999, (Sent("k", at, UPSERT, (("a", 1),)),))]

    assert _folded(batches, Rules(tombstones=1)) == ([] if at == 4 else [{"key": "k", "a": 1, "sequence": at}])
