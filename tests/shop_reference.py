"""Defines what a small shop's lake has to have after any sequence of snapshots, batches and runs, in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """An event of the change feed: the greatest sequence of a key wins; `value` None is a delete."""

    key: str
    sequence: int
    value: int | None


@dataclass(frozen=True)
class Folder:
    """A snapshot folder of the source: the whole table of items, and a batch of events."""

    time: str
    items: tuple[tuple[str, tuple[int, str, int | None]], ...]
    events: tuple[Event, ...]
    has_extra: bool


@dataclass
class Reference:
    """The source and the lake.

    Attributes:
        pending: The folders that no run has taken, in any order.
        items: The rows of the newest snapshot that was taken, by key: qty, note, extra.
        events: All events that were taken.
        newest: The time of the newest snapshot that was taken.
        has_extra: Whether `extra` is declared.
    """

    pending: list[Folder] = field(default_factory=list)
    items: dict[str, tuple[int, str, int | None]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    newest: str = ""
    has_extra: bool = False

    def run(self) -> None:
        """Take all folders: events of each; of a snapshot, only one that is newer than the newest."""
        for folder in sorted(self.pending, key=lambda each: each.time):
            self.events += folder.events
            if folder.time > self.newest:
                self.newest = folder.time
                self.items = {
                    key: (qty, note, extra if folder.has_extra else None) for key, (qty, note, extra) in folder.items
                }
        self.pending.clear()

    def tables(self) -> dict[str, list[Row]]:
        """Return the rows of each table, sorted by key."""
        extra = (lambda value: {"extra": value}) if self.has_extra else (lambda value: {})
        items = [{"id": k, "qty": q, "note": n, **extra(e)} for k, (q, n, e) in sorted(self.items.items())]
        plain = [{"id": row["id"], "qty": row["qty"], "note": row["note"]} for row in items]
        notes: dict[str, int] = {}
        for row in plain:
            notes[row["note"]] = notes.get(row["note"], 0) + row["qty"]
        last: dict[str, Event] = {}
        for event in sorted(self.events, key=lambda each: each.sequence):
            last[event.key] = event
        events = [{"id": k, "value": e.value} for k, e in sorted(last.items()) if e.value is not None]
        return {
            "bronze/items": items,
            "silver/items": plain,
            "silver/many": [{"id": row["id"], "qty": row["qty"]} for row in plain if row["qty"] > 4],
            "gold/notes": [{"note": note, "qty": qty} for note, qty in sorted(notes.items())],
            "bronze/events": events,
            "silver/events": events,
        }
