"""Folds the events of one key into the rows that bronze has to have, in plain Python and one event after the other.

Bronze computes the same rows with window functions (`lakehouse/bronze/feed.py`); nothing of that is used here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Values = Mapping[str, Any]
Sequence = tuple[Any, ...]
_OF_SNAPSHOT = ("C", "R")
_Step = tuple[Sequence, int, "list[Event]"]
"""A sequence in a form that Python orders, 0 for a truncate, and the events of that sequence."""


@dataclass(frozen=True)
class FeedRules:
    """The rules of a feed.

    Attributes:
        tracked: The columns whose changes open a window of a history; None: there is no history (scd 1).
        kept_on_null: The columns whose value a null in an update keeps.
        tombstones: How long deleted keys are remembered, in the unit of the events' times; None: forever.
    """

    tracked: tuple[str, ...] | None = None
    kept_on_null: frozenset[str] = frozenset()
    tombstones: int | None = None


@dataclass(frozen=True)
class Event:
    """An accepted event of a key, or a truncate.

    Attributes:
        sequence: Its sequence.
        kind: `U` (upsert), `D` (delete), `T` (truncate), or of a snapshot beside the feed `C` (a row) or `R` (no row).
        values: The columns of bronze.
        batch: The batch's number in the ledger.
        time: The batch's time.
        newest: The newest time of all batches up to that one.
        ends_only_by_later: Whether every delete with a higher sequence counts for it, however long ago that came.
        order: The value of `updated_at` under `duplicates: latest`; the greatest counts among events of one sequence.
    """

    sequence: Sequence
    kind: str
    values: Values = field(default_factory=dict)
    batch: int = 0
    time: int = 0
    newest: int = 0
    order: Any = None
    ends_only_by_later: bool = False


@dataclass(frozen=True)
class FoldedRow:
    """A row of bronze: its values, the sequence that they have, and the window's bounds in a history."""

    values: Values
    sequence: Sequence
    start: Sequence | None = None
    end: Sequence | None = None


def fold_key(
    events: Iterable[Event],
    truncates: Iterable[Sequence],
    rules: FeedRules,
    marks: Iterable[tuple[Sequence, int]] = (),
) -> list[FoldedRow]:
    """Return the rows of one key: at most one without a history, else its windows.

    Args:
        events: The accepted events of the key, in any order.
        truncates: The sequences of all truncates, of any key.
        rules: The rules of the feed.
        marks: The sequence and the batch of each snapshot beside the feed.
    """
    by_sequence: dict[Sequence, list[Event]] = {}
    for event in _counting(list(events), [(_comparable(at), batch) for at, batch in marks]):
        by_sequence.setdefault(_comparable(event.sequence), []).append(event)
    steps: list[_Step] = [(_comparable(each), 0, [Event(each, "T")]) for each in set(truncates)]
    steps += [(sequence, 1, same) for sequence, same in by_sequence.items()]
    steps.sort(key=lambda step: step[:2])
    return _current_row(steps, rules) if rules.tracked is None else _windows(steps, rules)


def counting_truncates(
    truncates: Iterable[tuple[Sequence, int]], marks: Iterable[tuple[Sequence, int]]
) -> list[Sequence]:
    """Return the sequences of the truncates that count: one that comes after a snapshot says nothing up to its own.

    Args:
        truncates: The sequence and the batch of each truncate.
        marks: The sequence and the batch of each snapshot beside the feed.
    """
    every = [*marks]
    return [
        sequence
        for sequence, batch in truncates
        if not any(batch > other and _comparable(sequence) <= _comparable(at) for at, other in every)
    ]


def _counting(events: list[Event], marks: list[tuple[Sequence, int]]) -> list[Event]:
    """Return the events that no snapshot supersedes: one that it came before, or one that has another row for the key.

    Of the rows of snapshots, at most the last one is among them, as an upsert that only a later delete ends.
    """

    def is_late(event: Event) -> bool:
        at, is_row = _comparable(event.sequence), event.kind in _OF_SNAPSHOT
        return any(event.batch > batch and (at < mark or (at == mark and not is_row)) for mark, batch in marks)

    counting = [event for event in events if not is_late(event)]
    of_snapshots = [event for event in counting if event.kind in _OF_SNAPSHOT]
    if not of_snapshots:
        return counting
    last = max(of_snapshots, key=lambda event: (_comparable(event.sequence), event.batch))
    later = [e for e in counting if e.kind not in _OF_SNAPSHOT and _comparable(e.sequence) > _comparable(last.sequence)]
    return [*later, replace(last, kind="U", ends_only_by_later=True)] if last.kind == "C" else later


def _current_row(steps: list[_Step], rules: FeedRules) -> list[FoldedRow]:
    live: list[tuple[Event, list[Event]]] = []
    for _, is_event, same in steps:
        if not is_event:
            live.clear()
            continue
        event = _counted(same)
        if event.kind == "U":
            live.append((event, same))
        else:
            live = [(other, repeats) for other, repeats in live if not _deletes(same, other, rules)]
    if not live:
        return []
    values: dict[str, Any] = {}
    for event, _ in live:
        values = _update(values, event, rules)
    return [FoldedRow(values, live[-1][0].sequence)]


def _deletes(deletes: list[Event], event: Event, rules: FeedRules) -> bool:
    """Return whether a delete with a higher sequence counts for an event: it came with it, later, or not long ago."""
    if rules.tombstones is None or event.ends_only_by_later:
        return True
    came_later = max(each.batch for each in deletes) >= event.batch
    return came_later or max(each.time for each in deletes) >= event.newest - rules.tombstones


def _windows(steps: list[_Step], rules: FeedRules) -> list[FoldedRow]:
    closed: list[FoldedRow] = []
    window: FoldedRow | None = None
    for _, _, same in steps:
        event = _counted(same)
        if event.kind != "U":
            if window is not None:
                closed.append(FoldedRow(window.values, window.sequence, window.start, event.sequence))
            window = None
            continue
        values = _update(window.values if window else {}, event, rules)
        is_same = window is not None and all(
            _comparable_value(window.values[name]) == _comparable_value(values[name]) for name in rules.tracked or ()
        )
        if window is not None and not is_same:
            closed.append(FoldedRow(window.values, window.sequence, window.start, event.sequence))
        start = window.start if window is not None and is_same else event.sequence
        window = FoldedRow(values, event.sequence, start)
    return [*closed, *([window] if window else [])]


def _counted(same: list[Event]) -> Event:
    """Return the event that counts of those with one sequence: the latest by `updated_at`, and the first that came."""
    first_to_last = sorted(same, key=lambda event: event.batch)
    counted = first_to_last[0]
    for event in first_to_last[1:]:
        if event.order is not None and (counted.order is None or event.order > counted.order):
            counted = event
    return counted


def _update(values: Values, event: Event, rules: FeedRules) -> dict[str, Any]:
    return {
        name: values.get(name) if value is None and name in rules.kept_on_null else value
        for name, value in event.values.items()
    }


def _comparable(sequence: Sequence) -> Sequence:
    """Return a sequence by which Python orders as Spark does: NaN is the greatest number."""
    return tuple((True, 0) if value != value else (False, value) for value in sequence)


def _comparable_value(value: Any) -> Any:
    """Return a value that equals itself, NaN included."""
    return "NaN" if isinstance(value, float) and value != value else value
