"""Defines the meaning of a table's snapshots in plain Python, from the contract alone: without Spark or product code.

    Record      a row of a snapshot: its key and its content, or that they could not be read
    State       the live rows: key -> content
    diff        returns the changes of a snapshot, and the counts of its ledger row
    Timeline    a table from snapshot to snapshot: bronze without history (scd 1), and with it (scd 2)

Values are compared as `canonical_value` returns them. Rows with the same key and different content are quarantined, as
under `duplicates: quarantine`.
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
    """Return a value in the form in which it is compared: NaN equals NaN at any depth. In Python -0.0 == 0.0 anyway."""
    if isinstance(value, float) and math.isnan(value):
        return NAN_VALUE
    if isinstance(value, dict):
        return tuple((name, canonical_value(inner)) for name, inner in value.items())
    return tuple(canonical_value(inner) for inner in value) if isinstance(value, list | tuple) else value


class Record(NamedTuple):
    """A row of a snapshot.

    Attributes:
        key: None if it could not be read, or if a part of it is null.
        content: None if any part of it could not be read.
        is_key_unreadable: Whether the key could not be read, so that the row could be any row.
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
    """The columns that are not keys, those of them whose change alone is no update, and those of `slice_by`."""

    names: tuple[str, ...]
    ignored: Set[str] = frozenset()
    slice_by: tuple[str, ...] = ()

    def slice_of(self, content: Content) -> Content:
        """Return the slice of a row."""
        return tuple(content[self.names.index(name)] for name in self.slice_by)


@dataclass(frozen=True)
class Diff:
    """The changes of a snapshot.

    Attributes:
        counts: The counts of its ledger row that are not zero.
        unreadable_keys: The number of rows whose key could not be read.
    """

    changes: list[Change]
    counts: Counter[str]
    unreadable_keys: int

    @property
    def is_held(self) -> bool:
        """Return whether the snapshot is held without guards: a row that could be any row, and deletes."""
        return bool(self.unreadable_keys and self.counts["deleted"])


def diff(previous: State, records: Iterable[Record], columns: Columns, in_names: Iterable[Content] = ()) -> Diff:
    """Compare a snapshot with the state, row by row and key by key.

    Args:
        previous: The state.
        records: The rows of the snapshot.
        columns: The columns.
        in_names: The slices in the names of the snapshot's files.
    """
    records = [
        record._replace(content=None)
        if record.content is not None and None in columns.slice_of(record.content)
        else record
        for record in records
    ]
    changes, counts = [], Counter(rows_read=len(records))
    contents: dict[Key, list[Content | None]] = {}
    slices = set(in_names)
    for record in records:
        if record.key is None:
            counts["quarantined"] += 1
        else:
            contents.setdefault(record.key, []).append(record.content)
    for key, of_key in contents.items():
        if None in of_key or len(set(of_key)) > 1:
            counts["quarantined"] += len(of_key)
            continue
        now, before = of_key[0], previous.get(key)
        assert now is not None
        slices.add(columns.slice_of(now))
        counts["duplicates"] += len(of_key) - 1
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
    is_whole = not columns.slice_by
    deleted = [
        Change("D", key, content)
        for key, content in previous.items()
        if key not in contents and (is_whole or columns.slice_of(content) in slices)
    ]
    counts["deleted"] = len(deleted)
    return Diff([*changes, *deleted], +counts, sum(record.is_key_unreadable for record in records))


def apply_changes(previous: State, changes: Iterable[Change]) -> State:
    """Apply a change set to a state, and assert that each change fits the state."""
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
    """The last change of a row: `_cdc_operation`, `_cdc_timestamp`, `_cdc_sequence`."""

    operation: str
    time: datetime
    sequence: int


@dataclass(frozen=True)
class HistoryRow:
    """A row of bronze with history, valid from `cdc.time` until before `end`."""

    key: Key
    content: Content
    cdc: Cdc
    end: datetime | None = None

    def is_valid_at(self, time: datetime) -> bool:
        return self.cdc.time <= time and (self.end is None or time < self.end)


@dataclass(frozen=True)
class SnapshotResult:
    """The result of a snapshot. A held snapshot has changes too, but they are not applied."""

    time: datetime
    status: str
    sequence: int | None
    diff: Diff


@dataclass
class Timeline:
    """A table from snapshot to snapshot.

    Attributes:
        history_columns: The columns whose changes make a new history row.
        rows: Bronze without history.
        history_rows: Bronze with history, by key in the order of time.
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
        return [row for rows in self.history_rows.values() for row in rows]

    def take_snapshot(
        self, time: datetime, records: Sequence[Record], in_names: Iterable[Content] = ()
    ) -> SnapshotResult:
        """Apply the next snapshot; its time must be later than the last one's."""
        result = diff(self.state, records, self.columns, in_names)
        if result.is_held:
            return SnapshotResult(time, "held", None, result)
        self.sequence += 1
        after = apply_changes(self.state, result.changes)
        for change in result.changes:
            cdc = Cdc(change.operation, time, self.sequence)
            self._update_history(change, cdc)
            if change.operation == "D":
                del self.rows[change.key]
            else:
                self.rows[change.key] = change.content, cdc
        assert self.state == after
        return SnapshotResult(time, "accepted", self.sequence, result)

    def _update_history(self, change: Change, cdc: Cdc) -> None:
        rows = self.history_rows.setdefault(change.key, [])
        if change.operation == "U" and not self.history_columns & set(change.changed or ()):
            rows[-1] = replace(rows[-1], content=change.content)
            return
        if change.operation != "I":
            rows[-1] = replace(rows[-1], end=cdc.time)
        if change.operation != "D":
            rows.append(HistoryRow(change.key, change.content, cdc))


# --- rows without a key ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CountedDiff:
    """The changes of a snapshot of a table without a key.

    Attributes:
        changes: The rows that differ in their count: the row, the operation, and the count after it (D: before it).
        counts: The counts of its ledger row that are not zero.
        fewer: The number of rows that stay with a lower count.
    """

    changes: list[tuple[Content, str, int]]
    counts: Counter[str]
    fewer: int

    @property
    def is_held(self) -> bool:
        """Return whether it is held without guards: a row that cannot be read could be any that is gone."""
        return bool(self.counts["quarantined"] and (self.counts["deleted"] or self.fewer))


def count_changes(previous: Counter[Content], rows: Sequence[Content | None]) -> CountedDiff:
    """Compare a snapshot of rows without a key with the multiset before it.

    Args:
        previous: The rows before, each with its count.
        rows: The rows of the snapshot; None: one that cannot be read.
    """
    now = Counter(row for row in rows if row is not None)
    counts = Counter(rows_read=len(rows), quarantined=rows.count(None), duplicates=now.total() - len(now))
    changes: list[tuple[Content, str, int]] = []
    fewer = 0
    for row, count in now.items():
        operation = "I" if row not in previous else "=" if previous[row] == count else "U"
        counts[{"I": "inserted", "U": "updated", "=": "unchanged"}[operation]] += 1
        fewer += operation == "U" and count < previous[row]
        changes += [(row, operation, count)] if operation != "=" else []
    deleted = [(row, "D", count) for row, count in previous.items() if row not in now]
    counts["deleted"] = len(deleted)
    return CountedDiff([*changes, *deleted], +counts, fewer)


def apply_counts(previous: Counter[Content], found: CountedDiff) -> Counter[Content]:
    """Return the multiset after a change set."""
    rows = Counter(previous)
    for row, operation, count in found.changes:
        rows[row] = 0 if operation == "D" else count
    return +rows
