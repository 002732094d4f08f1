"""Finds the changes between two times of the rows of bronze that made a row, in the order of their snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lakehouse.lake.cdc import END_AT

Row = Mapping[str, Any]


@dataclass(frozen=True)
class SourceChange:
    """A change of one row of bronze between two times, or of several rows that are applied together.

    Attributes:
        table: The table of bronze.
        rows: The rows before and after, None where there is none; one pair for each changed row.
        time: The time of the snapshot with the last of the changes; None if it is not known.
    """

    table: str
    rows: Sequence[tuple[Row | None, Row | None]]
    time: datetime | None

    @property
    def kind(self) -> str:
        """What `diff` calls the change; of several rows, `changed`."""
        if len(self.rows) > 1:
            return "changed"
        before, after = self.rows[0]
        return "inserted" if before is None else "deleted" if after is None else "updated"


@dataclass
class TableChange:
    """The rows of one table of bronze that made a row at two times, by key.

    Attributes:
        table: The table.
        keys: The columns of its key.
        before: The rows at the earlier time.
        after: The rows at the later time.
    """

    table: str
    keys: Sequence[str]
    before: Sequence[Row]
    after: Sequence[Row]
    _pairs: dict[str, tuple[Row | None, Row | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Pair the rows by key."""
        then, now = ({identity(row, self.keys): row for row in rows} for rows in (self.before, self.after))
        self._pairs = {key: (then.get(key), now.get(key)) for key in {**then, **now}}

    @property
    def unchanged(self) -> list[Row]:
        """The rows that are equal at both times."""
        return [before for before, after in self._pairs.values() if before is not None and _is_equal(before, after)]

    @property
    def changed(self) -> list[tuple[Row | None, Row | None]]:
        """The rows before and after of the keys that changed."""
        return [(before, after) for before, after in self._pairs.values() if not _is_equal(before, after)]


def ordered_changes(
    tables: Iterable[TableChange], deleted_at: Mapping[str, Mapping[str, datetime]]
) -> list[SourceChange]:
    """Return the changes of several tables in the order of their snapshots.

    Args:
        tables: The rows of each table.
        deleted_at: By table and identity of the key (`identity`), the time of the snapshot that deleted it.
    """
    found = [
        SourceChange(table.table, [pair], _time_of(pair, table, deleted_at.get(table.table, {})))
        for table in tables
        for pair in table.changed
    ]
    return sorted(found, key=lambda change: (change.time is None, change.time or datetime.min, change.table))


def merge_changes(changes: Iterable[SourceChange]) -> list[SourceChange]:
    """Return the changes with those of one table in one snapshot together, in the same order."""
    merged: dict[tuple[datetime | None, str], list[tuple[Row | None, Row | None]]] = {}
    for change in changes:
        merged.setdefault((change.time, change.table), []).extend(change.rows)
    return [SourceChange(table, rows, time) for (time, table), rows in merged.items()]


def identity(row: Row, keys: Sequence[str]) -> str:
    """Return a text that is equal for equal keys, NaN included.

    Args:
        row: The row.
        keys: The columns of its key.
    """
    return repr([row[key] for key in keys])


def _is_equal(before: Row | None, after: Row | None) -> bool:
    return before is not None and after is not None and repr([*before.values()]) == repr([*after.values()])


def _time_of(
    pair: tuple[Row | None, Row | None], table: TableChange, deleted_at: Mapping[str, datetime]
) -> datetime | None:
    before, after = pair
    if after is None:
        assert before is not None
        return deleted_at.get(identity(before, table.keys))
    if before is not None and after.get(END_AT) is not None and before.get(END_AT) is None:
        end = after[END_AT]  # the window was closed; its `_cdc_*` are those of the change that opened it
        return end if isinstance(end, datetime) else None
    time: datetime = after["_cdc_timestamp"]
    return time
