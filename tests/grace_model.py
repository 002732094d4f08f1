"""Defines `missing` in plain Python, from the contract alone: key by key, snapshot by snapshot, without product code.

Row       a row of bronze, with since when its key is missing, and how many snapshots in a row have lacked it
Table     a table from snapshot to snapshot: `take` returns what the snapshot changed
BAD       in place of a content: the row goes to quarantine
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

Content = int
BAD = -1


def slice_of(key: int) -> int:
    """Return the slice of a key, in a table of slices."""
    return key % 3


@dataclass(frozen=True)
class Row:
    """A row of bronze; `marked` if its key was deleted, and `then: mark` keeps it."""

    content: Content
    operation: str
    time: datetime
    sequence: int
    since: datetime | None = None
    lacking: int = 0
    marked: bool = False

    @property
    def is_missing(self) -> bool:
        return self.since is not None and not self.marked


@dataclass(frozen=True)
class Window:
    """A window of a history."""

    key: int
    content: Content
    start: datetime
    end: datetime | None = None


@dataclass(frozen=True)
class Taken:
    """What a snapshot did."""

    status: str
    operations: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    missing: int = 0


@dataclass
class Table:
    """A table from snapshot to snapshot.

    Attributes:
        after: How many snapshots in a row have to lack a key, or for how long; 0: `missing` is off.
        mark: Whether the row of a key that expires is marked, instead of deleted.
    """

    after: int | timedelta
    mark: bool = False
    rows: dict[int, Row] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    sequence: int = 0
    last: Mapping[int, Content] | None = None

    def take(
        self,
        time: datetime,
        contents: Mapping[int, Content],
        unreadable: bool = False,
        approved: bool = False,
        slices: Collection[int] | None = None,
    ) -> Taken:
        """Take the next snapshot.

        Args:
            time: Its time, later than that of the one before.
            contents: The content of each key that it has.
            unreadable: Whether it also has a row whose key cannot be read.
            approved: Whether a person accepts it.
            slices: The slices that it contains (`slice_of` its keys); None: it is the whole table.
        """
        after: dict[int, Row] = {}
        operations: dict[int, str] = {}
        counts = Counter[str]()
        sequence = self.sequence + 1
        for key in self.rows.keys() | contents.keys():
            row, content = self.rows.get(key), contents.get(key)
            if content is None:
                assert row is not None
                if slices is not None and slice_of(key) not in slices:
                    after[key] = row
                    continue
                self._lack(key, row, time, sequence, after, operations)
            elif content == BAD:
                counts["quarantined"] += 1
                if row is not None:
                    after[key] = row if row.marked else replace(row, since=None, lacking=0)
                    if row.is_missing:
                        operations[key] = "R"
            elif row is None or row.marked:
                operations[key], after[key] = "I", Row(content, "I", time, sequence)
            elif row.content != content:
                operations[key], after[key] = "U", Row(content, "U", time, sequence)
            else:
                counts["unchanged"] += 1
                after[key] = replace(row, since=None, lacking=0)
                if row.is_missing:
                    operations[key] = "R"
        done = set(operations.values())
        if contents == self.last and not unreadable and "D" not in done:  # equal bytes, and nothing expires
            self.rows = after
            return Taken("unchanged", missing=self._missing)
        if unreadable and done & {"D", "M"} and not approved:
            return Taken("held")
        names = {"I": "inserted", "U": "updated", "D": "deleted"}
        counts.update(names[o] for o in operations.values() if o in names)
        self._write_windows(operations, after, time)
        self.rows, self.sequence = after, sequence
        self.last = dict(contents) if not unreadable else None
        return Taken("accepted", operations, counts, self._missing)

    @property
    def _missing(self) -> int:
        return sum(row.is_missing for row in self.rows.values())

    def _lack(
        self, key: int, row: Row, time: datetime, sequence: int, after: dict[int, Row], operations: dict[int, str]
    ) -> None:
        since, lacking = row.since or time, row.lacking + 1
        if row.marked:
            if self.mark:
                after[key] = row
            else:
                operations[key] = "D"
        elif time - since >= self.after if isinstance(self.after, timedelta) else lacking >= self.after:
            operations[key] = "D"
            if self.mark:
                after[key] = Row(row.content, "D", time, sequence, since, marked=True)
        else:
            after[key] = replace(row, since=since, lacking=lacking)
            if row.since is None:
                operations[key] = "M"

    def _write_windows(self, operations: Mapping[int, str], after: Mapping[int, Row], time: datetime) -> None:
        for key, operation in operations.items():
            if operation in "UD":
                end = (self.rows[key].since or time) if operation == "D" else time
                (window,) = [w for w in self.windows if w.key == key and w.end is None]
                self.windows[self.windows.index(window)] = replace(window, end=end)
            if operation in "IU":
                self.windows.append(Window(key, after[key].content, time))
