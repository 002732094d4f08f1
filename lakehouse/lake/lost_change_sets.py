"""Finds change sets that the ledger names and that are lost or cut."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pyarrow.parquet as pq

from lakehouse.lake import change_sets
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.storage import file_io, landing
from lakehouse.storage.paths import Lake
from lakehouse.storage.s3 import S3Path
from lakehouse.text import counted


@dataclass(frozen=True)
class LostChangeSet:
    """A change set that is not as the ledger says.

    Attributes:
        entry: Its row in the ledger.
        fault: What is wrong with it.
    """

    entry: LedgerEntry
    fault: str


def find_lost_change_sets(lake: Lake, history: LedgerHistory) -> list[LostChangeSet]:
    """Return the change sets that a table is folded from and that are not complete. On S3, objects are only listed.

    Args:
        lake: The lake.
        history: The ledger's rows of the table.
    """
    return [LostChangeSet(e, fault) for e in history.entries_to_fold if (fault := _fault(lake, e))]


def replay_start(lake: Lake, table: str, history: LedgerHistory, lost: list[LostChangeSet]) -> datetime | None:
    """Return from which snapshot on a replay writes lost change sets again; None if it cannot.

    Args:
        lake: The lake.
        table: The table's name.
        history: The ledger's rows of the table.
        lost: Its lost change sets, at least one.
    """
    start = min(each.entry.snapshot_time for each in lost)
    base = history.base_state
    if any(each.entry.kind == "feed" for each in lost) or (base and start <= base.snapshot_time):
        return None
    landed = {each.time: each for each in landing.list_snapshots(lake, table) if each.files and not each.expired}
    needed = [time for time in history.confirmed_times if time >= start]
    complete = all(time in landed and all(path.exists() for path in landed[time].paths) for time in needed)
    return start if complete else None


def _fault(lake: Lake, entry: LedgerEntry) -> str:
    """Return what is wrong with a change set; empty if nothing is."""
    folder = lake.path(entry.path or "")
    files = [name for name in file_io.list_names(folder) if name.endswith(".parquet")]
    if not files:
        return "has no files" if entry.path and (entry.changed_rows or entry.kind == "feed") else ""
    if isinstance(folder, S3Path) or entry.kind == "feed":
        return ""
    try:
        count = sum(pq.read_metadata(str(folder / name)).num_rows for name in files)
        count += change_sets.count_erased(folder).total()
    except (OSError, ValueError) as error:
        return f"cannot be read ({type(error).__name__})"
    return "" if count == entry.changed_rows else f"has {counted(count, 'row')} instead of {entry.changed_rows:,}"
