"""Tests which landed snapshots retention may remove, without a JVM."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.retention import RetentionLimit, expired_snapshots
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake

FIRST = datetime(2025, 1, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)


def expired_days(folder: Path, statuses: list[str | None], now: datetime, keep: timedelta) -> list[int]:
    """Return the expired ones of snapshots that landed one a day, with these ledger statuses; None: undecided."""
    lake = Lake(str(folder / "lake"))
    (folder / "a.csv").write_text("id\n")
    entries, sequence = [], 0
    for day, status in enumerate(statuses):
        landing.land_snapshot(lake, "items", FIRST + day * DAY, [folder / "a.csv"])
        sequence += status == "accepted"
        if status:
            number = sequence if status == "accepted" else None
            entries.append(LedgerEntry("items", number, FIRST + day * DAY, "", status))
    snapshots = landing.list_snapshots(lake, "items")
    expired = expired_snapshots(snapshots, LedgerHistory(entries), RetentionLimit(now, keep))
    return [(snapshot.time - FIRST).days for snapshot in expired]


@pytest.mark.parametrize(
    ("statuses", "expired"),
    [
        (["accepted", "accepted"], [0]),
        (["accepted", "unchanged", "accepted", "accepted"], [0, 1, 2]),
        (["accepted", "accepted", "unchanged", "held"], [0, 2]),  # the last accepted one and the held one are kept
        (["accepted", "unchanged"], []),  # the newest is kept, and the last accepted
        (["rejected", "accepted", "accepted"], [0, 1]),
        (["accepted", None, "accepted"], [0]),  # undecided
        (["held", "rejected"], []),  # none is accepted
        ([], []),
    ],
)
def test_superseded_snapshots_expire(tmp_path: Path, statuses: list[str | None], expired: list[int]) -> None:
    assert expired_days(tmp_path, statuses, now=FIRST + 100 * DAY, keep=DAY) == expired


def test_a_snapshot_expires_only_when_it_is_older_than_the_limit(tmp_path: Path) -> None:
    statuses = ["accepted", "accepted", "accepted"]
    assert expired_days(tmp_path, statuses, now=FIRST + 3 * DAY, keep=2 * DAY) == [0]


@pytest.mark.parametrize(
    ("count", "dry_run", "status"), [(0, False, "kept"), (2, False, "expired"), (2, True, "would be expired")]
)
def test_the_status_of_a_removal_depends_on_the_count_and_the_dry_run(count: int, dry_run: bool, status: str) -> None:
    assert RetentionLimit(FIRST, DAY, dry_run).status("expired", count) == status
