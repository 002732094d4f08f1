"""Whether bronze is where the ledger is, from its own commits alone."""

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
    """Accepted snapshots, one a day, with so many inserted rows each."""
    times = [FIRST + timedelta(days=day) for day in range(len(changes))]
    entries = zip(range(1, len(changes) + 1), times, changes, strict=True)
    return LedgerHistory(
        [LedgerEntry("items", n, t, "", "accepted", inserted=rows, recorded_at=t) for n, t, rows in entries]
    )


def head(*sequences: int | None) -> TableVersion:
    """A table with a commit for each of these sequences; None: by somebody else."""
    ours = [{"stage": "bronze", "sequence": s} if s else {} for s in sequences]
    commits = [Commit(version, "MERGE", own) for version, own in enumerate(ours)]
    return TableVersion("an id", len(commits) - 1, 0, tuple(reversed(commits)))


@pytest.mark.parametrize(
    ("accepted", "at", "current"),
    [
        (history(), None, True),
        (history(2), None, False),
        (history(0), None, False),  # the first one makes the table, whatever it holds
        (history(2), head(1), True),
        (history(2, 1), head(1), False),
        (history(2, 1), head(1, 2), True),
        (history(2, 0), head(1), True),
        (history(2, 0), head(1, 2), True),  # healed, and recorded as at the last of all
        (history(2), head(1, 2), False),  # ahead: the ledger was restored, or a run is on
        (history(2), head(1, None), False),
    ],
)
def test_bronze_is_current_where_its_last_commit_says_so(
    accepted: LedgerHistory, at: TableVersion | None, current: bool
) -> None:
    assert is_current(at, TABLE, accepted) is current
