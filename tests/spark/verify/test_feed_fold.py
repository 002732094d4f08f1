"""The fold of a change feed does not depend on the order of arrival, and is what the definition says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field

import pytest
from feed_reference import DELETE, TRUNCATE, UPSERT, Batch, Row, Rules, Sent, fold
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.verify.feed_fold import Event, FeedRules, counting_truncates, fold_key

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


# --- snapshots beside the feed ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Full:
    """A snapshot: all rows of the table as it stood at a sequence."""

    sequence: int
    rows: tuple[tuple[str, int | None], ...]


@dataclass
class Corrected:
    """Accepts events and snapshots as `ingest` does: of a snapshot, the rows in which the feed was wrong."""

    events: dict[str, list[Event]] = dataclass_field(default_factory=dict)
    truncates: list[tuple[tuple[int, ...], int]] = dataclass_field(default_factory=list)
    marks: list[tuple[tuple[int, ...], int]] = dataclass_field(default_factory=list)
    batch: int = 0

    def take(self, part: list[Sent | Full]) -> None:
        self.batch += 1
        for sent in part:
            if isinstance(sent, Full):
                continue
            if sent.kind == TRUNCATE:
                self.truncates.append(((sent.sequence,), self.batch))
            else:
                assert sent.key
                self._add(sent.key, sent.sequence, sent.kind, dict(sent.values))
        for full in part:
            if isinstance(full, Full):
                self._correct(full)

    def rows(self) -> dict[str, int | None]:
        truncates = counting_truncates(self.truncates, self.marks)
        folded = {key: fold_key(events, truncates, FeedRules(), self.marks) for key, events in self.events.items()}
        return {key: rows[0].values["a"] for key, rows in folded.items() if rows}

    def _add(self, key: str, sequence: int, kind: str, values: dict[str, int | None]) -> None:
        self.events.setdefault(key, []).append(Event((sequence,), kind, values, self.batch))

    def _correct(self, full: Full) -> None:
        if any(at[0] > full.sequence for at, _ in self.marks) or any(at[0] > full.sequence for at, _ in self.truncates):
            return
        before, wanted = self.rows(), dict(full.rows)
        for key in "kl":
            events = self.events.get(key, [])
            is_newer = any(event.kind in "UD" and event.sequence[0] > full.sequence for event in events)
            if is_newer or ((key in before) == (key in wanted) and before.get(key) == wanted.get(key)):
                continue
            self._add(key, full.sequence, "C" if key in wanted else "R", {"a": wanted.get(key)})
        self.marks.append(((full.sequence,), self.batch))


@st.composite
def _fulls(draw: st.DrawFn) -> list[Full]:
    sequences = draw(st.sets(st.integers(1, 12), min_size=1, max_size=3))
    rows = st.dictionaries(st.sampled_from("kl"), st.sampled_from([None, 1, 2]))
    return [Full(sequence, tuple(draw(rows).items())) for sequence in sorted(sequences)]


@MANY
@given(st.data(), _events(), _fulls())
def test_snapshots_beside_a_feed_give_the_same_rows_in_any_order(
    data: st.DataObject, events: list[Sent], fulls: list[Full]
) -> None:
    """The last snapshot says everything up to its sequence, and the events above it the rest."""
    last = fulls[-1]
    by_definition = dict(last.rows)
    for event in sorted(events, key=lambda each: (each.sequence, each.kind != TRUNCATE)):
        if event.sequence <= last.sequence:
            continue
        if event.kind == TRUNCATE:
            by_definition.clear()
        elif event.kind == DELETE:
            by_definition.pop(str(event.key), None)
        else:
            by_definition[str(event.key)] = dict(event.values)["a"]
    table = Corrected()

    parts: list[list[Sent | Full]] = [[]]
    for item in data.draw(st.permutations([*events, *fulls])):
        if data.draw(st.booleans()):
            parts.append([])
        parts[-1].append(item)
    for part in parts:
        table.take(part)

    assert table.rows() == by_definition
