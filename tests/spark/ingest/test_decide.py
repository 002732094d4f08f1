"""Which landed snapshots a run decides about, and which it decides without reading them. No JVM."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lakehouse.errors import DataRefused
from lakehouse.ingest import decide
from lakehouse.ingest.context import IngestContext
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot

FIRST = datetime(2025, 1, 1, tzinfo=timezone.utc)
NOW, BEFORE = "with today's settings", "with other settings"


def snapshot(day: int) -> LandedSnapshot:
    return LandedSnapshot("items", FIRST + timedelta(days=day), Path("landing"), ())


class Context(IngestContext):
    """The ingest of a table with this history, one snapshot a day; the settings are part of a fingerprint."""

    def __init__(self, *entries: LedgerEntry, feed: object = None) -> None:
        table = cast(Any, SimpleNamespace(name="items", lake=None, config=SimpleNamespace(feed=feed)))
        super().__init__(table, cast(Any, None), "a run", LedgerHistory(list(entries)))

    def fingerprint(self, snapshot: LandedSnapshot) -> str:
        return f"{(snapshot.time - FIRST).days} {NOW}"


def decided(day: int, status: str, settings: str = NOW, content: int | None = None) -> LedgerEntry:
    """Return the ledger row of the snapshot of a day, with the bytes of `content`, another day's."""
    time = FIRST + timedelta(days=day)
    fingerprint = f"{day if content is None else content} {settings}"
    sequence = day + 1 if status == "accepted" else None
    return LedgerEntry("items", sequence, time, fingerprint, status, recorded_at=time)


@pytest.mark.parametrize(
    ("entries", "pending"),
    [
        ([], [0, 1, 2]),
        ([decided(0, "accepted")], [1, 2]),
        ([decided(1, "accepted")], [0, 2]),  # an older one that was never decided about: it is rejected as late
        ([decided(0, "accepted"), decided(1, "rejected"), decided(2, "rejected")], []),
        ([decided(0, "accepted"), decided(1, "accepted"), decided(2, "unchanged")], []),
        # the newest one while it is held, since its guard may have been changed; an older held one waits no more
        ([decided(0, "accepted"), decided(1, "accepted"), decided(2, "held")], [2]),
        ([decided(0, "accepted"), decided(1, "held"), decided(2, "held")], [2]),
        ([decided(0, "accepted"), decided(1, "held"), decided(2, "accepted")], []),
        # after a change of the settings: the newest one, and those held or rejected after the last accepted one
        ([decided(day, "accepted", BEFORE) for day in range(3)], [2]),
        ([decided(0, "accepted", BEFORE), decided(1, "accepted", BEFORE), decided(2, "unchanged", BEFORE)], [2]),
        ([decided(0, "accepted", BEFORE), decided(1, "held", BEFORE), decided(2, "rejected", BEFORE)], [1, 2]),
        ([decided(0, "rejected", BEFORE), decided(1, "held", BEFORE), decided(2, "accepted", BEFORE)], [2]),
        ([decided(0, "held", BEFORE), decided(1, "rejected", BEFORE), decided(2, "held", BEFORE)], [0, 1, 2]),
    ],
)
def test_pending_snapshots(entries: list[LedgerEntry], pending: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "list_snapshots", lambda *_: [snapshot(day) for day in range(3)])

    found = [(one.time - FIRST).days for one in decide.pending_snapshots(Context(*entries))]

    assert found == pending


def must_not_be_read(*_: Any) -> LedgerEntry:
    raise AssertionError("this snapshot need not be read")


def accept(context: Any, snapshot: Any, base: LedgerEntry, guard: Any) -> LedgerEntry:
    return replace(base, status="accepted")


def test_a_snapshot_older_than_the_last_accepted_one_is_rejected_unread_and_counts_as_late() -> None:
    context = Context(decided(1, "accepted"), decided(2, "held"))

    entry = decide.decide_snapshot(context, snapshot(0), None, must_not_be_read)

    assert entry.status == "rejected"
    assert entry.reason == "older than the last accepted snapshot, 20250102_000000"
    assert context.late == {FIRST}


def test_a_snapshot_older_than_one_that_was_unchanged_is_late_too() -> None:
    context = Context(decided(-1, "accepted"), decided(1, "unchanged"))

    entry = decide.decide_snapshot(context, snapshot(0), None, must_not_be_read)

    assert (entry.status, context.late) == ("rejected", {FIRST})
    assert entry.reason == "older than the last unchanged snapshot, 20250102_000000"


def test_a_snapshot_with_the_fingerprint_of_the_last_accepted_one_is_unchanged_unread() -> None:
    context = Context(decided(0, "accepted", content=1))

    entry = decide.decide_snapshot(context, snapshot(1), None, must_not_be_read)

    assert (entry.status, entry.sequence, entry.reason) == ("unchanged", None, None)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [decided(0, "held", content=1)],  # equal to a snapshot that was not accepted
        [decided(0, "accepted", BEFORE, content=1)],  # equal bytes, read with other settings
        [decided(-1, "accepted", content=1), decided(0, "accepted")],  # equal to an earlier one: there and back
    ],
)
def test_any_other_snapshot_is_read(history: list[LedgerEntry]) -> None:
    entry = decide.decide_snapshot(Context(*history), snapshot(1), None, accept)

    assert (entry.status, entry.run_id, entry.fingerprint) == ("accepted", "a run", f"1 {NOW}")


def test_data_that_cannot_be_accepted_is_rejected_with_the_whole_message() -> None:
    def refuse(*_: Any) -> LedgerEntry:
        raise DataRefused("a.csv is empty", expected="a header", where="landing/a.csv")

    entry = decide.decide_snapshot(Context(), snapshot(0), None, refuse)

    assert entry.status == "rejected"
    assert entry.reason is not None
    assert "a.csv is empty" in entry.reason and "a header" in entry.reason and "landing/a.csv" in entry.reason


# --- a change feed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "pending"),
    [
        ([], [0, 1, 2]),
        ([decided(2, "accepted")], [0, 1]),  # late ones are taken
        ([decided(0, "accepted"), decided(1, "accepted"), decided(2, "accepted", BEFORE)], []),  # each is taken once
        ([decided(0, "held"), decided(1, "accepted"), decided(2, "accepted")], [0]),  # nobody else has its events
        ([decided(0, "rejected"), decided(1, "accepted"), decided(2, "accepted")], []),
        ([decided(0, "rejected", BEFORE), decided(1, "accepted"), decided(2, "accepted")], [0]),
    ],
)
def test_pending_batches_of_a_feed(
    entries: list[LedgerEntry], pending: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "list_snapshots", lambda lake, name: [snapshot(day) for day in range(3)])

    found = decide.pending_snapshots(Context(*(replace(entry, kind="feed") for entry in entries), feed=object()))

    assert [(each.time - FIRST).days for each in found] == pending


def test_a_batch_of_a_feed_is_read_however_old_it_is_and_whatever_its_bytes() -> None:
    context, read = Context(replace(decided(1, "accepted"), kind="feed"), feed=object()), []

    def compare(context: IngestContext, batch: LandedSnapshot, base: LedgerEntry, guard: Any) -> LedgerEntry:
        read.append(batch)
        return base

    entries = [decide.decide_snapshot(context, snapshot(day), None, compare) for day in (0, 1)]

    assert [(entry.kind, len(read)) for entry in entries] == [("feed", 2)] * 2
    assert not context.late


def test_a_held_batch_of_a_feed_waits_whatever_was_accepted_since() -> None:
    held = replace(decided(0, "held"), kind="feed")

    assert LedgerHistory([held, decided(1, "accepted")]).held_entry == held
    assert LedgerHistory([decided(0, "held"), decided(1, "accepted")]).held_entry is None
