"""Tests whether bronze is at the ledger's sequence, by its own commits alone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from lakehouse.bronze.apply import is_current
from lakehouse.config import Table
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.storage.delta_log import Commit, TableVersion

TABLE = Table.model_validate({"file": "items.csv", "format": "csv", "schema": "id STRING", "keys": ["id"]})
FIRST = datetime(2025, 1, 1, tzinfo=timezone.utc)


def history(*changes: int) -> LedgerHistory:
    """Return accepted snapshots, one a day, with these numbers of inserted rows."""
    times = [FIRST + timedelta(days=day) for day in range(len(changes))]
    entries = zip(range(1, len(changes) + 1), times, changes, strict=True)
    return LedgerHistory(
        [LedgerEntry("items", n, t, "", "accepted", inserted=rows, recorded_at=t) for n, t, rows in entries]
    )


def table_version(*sequences: int | None) -> TableVersion:
    """Return a table with a commit for each sequence; None is a commit of somebody else."""
    metadata = [{"stage": "bronze", "sequence": s} if s else {} for s in sequences]
    commits = [Commit(version, "MERGE", own) for version, own in enumerate(metadata)]
    return TableVersion("an id", len(commits) - 1, 0, tuple(reversed(commits)))


@pytest.mark.parametrize(
    ("accepted", "version", "expected"),
    [
        (history(), None, True),
        (history(2), None, False),
        (history(0), None, False),  # the first snapshot creates the table, with or without rows
        (history(2), table_version(1), True),
        (history(2, 1), table_version(1), False),
        (history(2, 1), table_version(1, 2), True),
        (history(2, 0), table_version(1), True),
        (history(2, 0), table_version(1, 2), True),  # a repair, which recorded the last sequence
        (history(2), table_version(1, 2), False),  # ahead: the ledger was restored, or a run is in progress
        (history(2), table_version(1, None), False),
    ],
)
def test_bronze_is_current_if_its_last_commit_is_at_the_ledgers_sequence(
    accepted: LedgerHistory, version: TableVersion | None, expected: bool
) -> None:
    assert is_current(version, TABLE, accepted) is expected
