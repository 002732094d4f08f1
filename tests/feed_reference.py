"""What a table with a change feed has to have, by definition: slow, and each rule on its own.

`fold` looks at all pairs of events; `lakehouse/verify/feed_fold.py` goes through them once, bronze by window functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UPSERT, DELETE, TRUNCATE = "U", "D", "T"
Row = dict[str, Any]


@dataclass(frozen=True)
class Sent:
    """An event as the source sends it."""

    key: str | None
    sequence: int
    kind: str
    values: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Batch:
    """A batch, with its time; batches are in the order in which the ledger accepts them."""

    time: int
    events: tuple[Sent, ...]


@dataclass(frozen=True)
class Rules:
    scd: int = 1
    tracked: tuple[str, ...] = ("a", "b")
    kept_on_null: frozenset[str] = frozenset()
    tombstones: int | None = None


def fold(batches: list[Batch], rules: Rules) -> list[Row]:
    """Return the rows of bronze: the key, the values, `sequence` and, in a history, `start` and `end`."""
    first: dict[Sent, int] = {}
    last_batch: dict[Sent, int] = {}
    last_time: dict[Sent, int] = {}
    for number, batch in enumerate(batches):
        for event in batch.events:
            first.setdefault(event, number)
            last_batch[event] = number
            last_time[event] = max(last_time.get(event, batch.time), batch.time)
    newest = [max(batch.time for batch in batches[: number + 1]) for number in range(len(batches))]
    truncates = {event.sequence for event in first if event.kind == TRUNCATE}

    def is_forgotten(delete: Sent, event: Sent) -> bool:
        """Whether a delete had been forgotten when the event came."""
        if rules.tombstones is None or rules.scd == 2 or last_batch[delete] >= first[event]:
            return False
        return newest[first[event]] - last_time[delete] > rules.tombstones

    rows = []
    for key in sorted({event.key for event in first if event.kind != TRUNCATE and event.key is not None}):
        own = sorted((e for e in first if e.key == key and e.kind != TRUNCATE), key=lambda e: e.sequence)
        deletes, upserts = [e for e in own if e.kind == DELETE], [e for e in own if e.kind == UPSERT]

        def ends_between(low: int, high: int, deletes: list[Sent] = deletes) -> list[int]:
            """The sequences at which the row of `low` ends, up to that of `high`."""
            by_delete = [d.sequence for d in deletes if low < d.sequence < high]
            return sorted(by_delete + [t for t in truncates if low < t <= high])

        if rules.scd == 1:
            live = [
                e
                for e in upserts
                if not any(t > e.sequence for t in truncates)
                and not any(d.sequence > e.sequence and not is_forgotten(d, e) for d in deletes)
            ]
            if live:
                rows.append({"key": key, **_values(live, rules), "sequence": live[-1].sequence})
            continue
        rows += _windows(key, upserts, ends_between, rules)
    return rows


def _windows(key: str, upserts: list[Sent], ends_between: Any, rules: Rules) -> list[Row]:
    """Each upsert is a state from its sequence to the next one; equal neighbours are one window."""
    states: list[Row] = []
    for at, event in enumerate(upserts):
        following = upserts[at + 1].sequence if at + 1 < len(upserts) else None
        ends = ends_between(event.sequence, 10**9 if following is None else following)
        end = ends[0] if ends else following
        same_life = [e for e in upserts[: at + 1] if not ends_between(e.sequence, event.sequence)]
        states.append(
            {
                "key": key,
                **_values(same_life, rules),
                "sequence": event.sequence,
                "start": event.sequence,
                "end": end,
                "begins_life": len(same_life) == 1,
            }
        )
    windows: list[Row] = []
    for state in states:
        before = windows[-1] if windows else None
        if before and not state["begins_life"] and all(before[c] == state[c] for c in rules.tracked):
            windows[-1] = state | {"start": before["start"]}
        else:
            windows.append(state)
    return [{name: value for name, value in window.items() if name != "begins_life"} for window in windows]


def _values(events: list[Sent], rules: Rules) -> Row:
    """The values of the last of some events; of a column that is kept on null, the last that is there."""
    row: Row = {}
    for event in events:
        for name, value in event.values:
            if value is not None or name not in rules.kept_on_null:
                row[name] = value
            else:
                row.setdefault(name, None)
    return row
