"""What snapshots of one table mean, in plain Python, by the contract alone: no Spark, and nothing of the product.

    record      a row of a snapshot: its key and its content, or that they could not be read
    state       the live rows: key -> content
    diff        what a snapshot changes, and the counts of its ledger row
    Timeline    a table from snapshot to snapshot: bronze without history (scd 1), and with it (scd 2)

Values are compared as `canonical` gives them. Rows of one key and different content are for quarantine, as under
`duplicates: quarantine`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

Key = tuple[Any, ...]
Content = tuple[Any, ...]
State = dict[Key, Content]

NAN_VALUE = "not a number"


def canonical_value(value: Any) -> Any:
    """A value as it is compared: NaN equals NaN, at any depth; of -0.0 and 0.0 Python says so itself."""
    if isinstance(value, float) and math.isnan(value):
        return NAN_VALUE
    if isinstance(value, dict):
        return tuple((name, canonical_value(inner)) for name, inner in value.items())
    return tuple(canonical_value(inner) for inner in value) if isinstance(value, list | tuple) else value


class Record(NamedTuple):
    """A row of a snapshot.

    Attributes:
        key: None if it could not be read, or a part of it is null.
        content: None if any of it could not be read.
        is_lost: whether its key could not be read, so that it could stand for any row.
    """

    key: Key | None
    content: Content | None
    is_key_unreadable: bool = False


class Change(NamedTuple):
    """A row of a change set; `changed` is None but for updates."""

    operation: str
    key: Key
    content: Content
    changed: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Columns:
    """The columns that are no keys, and those of them that make no update by themselves."""

    names: tuple[str, ...]
    ignored: Set[str] = frozenset()


@dataclass(frozen=True)
class Diff:
    """What a snapshot changes.

    Attributes:
        counts: of its ledger row, those that are not zero.
        lost: rows whose key could not be read.
    """

    changes: list[Change]
    counts: Counter[str]
    unreadable_keys: int

    @property
    def is_held(self) -> bool:
        """With the guards off: a row that could be any, while others go."""
        return bool(self.unreadable_keys and self.counts["deleted"])


def diff(previous: State, records: Iterable[Record], columns: Columns) -> Diff:
    """Row by row, key by key: nothing cleverer."""
    records = list(records)
    changes, counts = [], Counter(rows_read=len(records))
    contents: dict[Key, list[Content | None]] = {}
    for record in records:
        if record.key is None:
            counts["quarantined"] += 1
        else:
            contents.setdefault(record.key, []).append(record.content)
    for key, found in contents.items():
        if None in found or len(set(found)) > 1:
            counts["quarantined"] += len(found)
            continue
        now, before = found[0], previous.get(key)
        assert now is not None
        counts["duplicates"] += len(found) - 1
        if before is None:
            counts["inserted"] += 1
            changes.append(Change("I", key, now))
            continue
        changed = tuple(name for name, a, b in zip(columns.names, before, now, strict=True) if a != b)
        if set(changed) - columns.ignored:
            counts["updated"] += 1
            changes.append(Change("U", key, now, changed))
        else:
            counts["unchanged"] += 1
    gone = [Change("D", key, content) for key, content in previous.items() if key not in contents]
    counts["deleted"] = len(gone)
    return Diff([*changes, *gone], +counts, sum(record.is_key_unreadable for record in records))


def apply_changes(previous: State, changes: Iterable[Change]) -> State:
    """A state with a change set applied, as strictly as by somebody who trusts nothing."""
    state = dict(previous)
    for change in changes:
        assert (change.key in state) == (change.operation != "I"), change
        if change.operation == "D":
            assert state.pop(change.key) == change.content, change
        else:
            assert state.get(change.key) != change.content, change
            state[change.key] = change.content
    return state


@dataclass(frozen=True)
class Cdc:
    """The change that made a row what it is: `_cdc_operation`, `_cdc_timestamp`, `_cdc_sequence`."""

    operation: str
    time: datetime
    sequence: int


@dataclass(frozen=True)
class HistoryRow:
    """A row of bronze with history: what was true from `by.time` until before `end`."""

    key: Key
    content: Content
    cdc: Cdc
    end: datetime | None = None

    def is_valid_at(self, time: datetime) -> bool:
        return self.cdc.time <= time and (self.end is None or time < self.end)


@dataclass(frozen=True)
class SnapshotResult:
    """What became of a snapshot; one that is held has changes too, which nobody applies."""

    time: datetime
    status: str
    sequence: int | None
    diff: Diff


@dataclass
class Timeline:
    """A table from snapshot to snapshot.

    Attributes:
        kept: the columns of which the history is kept.
        rows: bronze without history.
        spans: bronze with history; those of a key in order.
    """

    columns: Columns
    history_columns: Set[str]
    rows: dict[Key, tuple[Content, Cdc]] = field(default_factory=dict)
    history_rows: dict[Key, list[HistoryRow]] = field(default_factory=dict)
    sequence: int = 0

    @property
    def state(self) -> State:
        return {key: content for key, (content, _) in self.rows.items()}

    @property
    def history(self) -> list[HistoryRow]:
        return [span for spans in self.history_rows.values() for span in spans]

    def take_snapshot(self, time: datetime, records: Sequence[Record]) -> SnapshotResult:
        """The next snapshot; times only grow."""
        found = diff(self.state, records, self.columns)
        if found.is_held:
            return SnapshotResult(time, "held", None, found)
        self.sequence += 1
        after = apply_changes(self.state, found.changes)
        for change in found.changes:
            cdc = Cdc(change.operation, time, self.sequence)
            self._update_history(change, cdc)
            if change.operation == "D":
                del self.rows[change.key]
            else:
                self.rows[change.key] = change.content, cdc
        assert self.state == after
        return SnapshotResult(time, "accepted", self.sequence, found)

    def _update_history(self, change: Change, cdc: Cdc) -> None:
        spans = self.history_rows.setdefault(change.key, [])
        if change.operation == "U" and not self.history_columns & set(change.changed or ()):
            spans[-1] = replace(spans[-1], content=change.content)
            return
        if change.operation != "I":
            spans[-1] = replace(spans[-1], end=cdc.time)
        if change.operation != "D":
            spans.append(HistoryRow(change.key, change.content, cdc))
