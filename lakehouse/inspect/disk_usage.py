"""Compares the bytes that a table takes in the store with the bytes that its source delivered. Files are only listed.

    landing      the bytes as received, which are kept beside everything that follows: nothing is saved there
    full-load    the first accepted snapshot, or the state that retention wrote in its place
    change sets  the changes of later snapshots, against the full size of each of them
    bronze       the current rows, against the last accepted snapshot

`kept_bytes` counts all files: also those of older versions, of the Change Data Feed, and of Delta's log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.storage import file_io
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake


@dataclass(frozen=True)
class StoredTable:
    """A table, and the sizes of its files that are known already.

    Attributes:
        lake: Where the table is.
        name: The table's name.
        history: The ledger's entries of the table.
        snapshots: Its landed snapshots, also those whose files have expired.
        change_set_bytes: The sizes of all change sets of the lake, by path.
        bronze_bytes: The size of bronze's files at its current version.
    """

    lake: Lake
    name: str
    history: LedgerHistory
    snapshots: list[LandedSnapshot]
    change_set_bytes: Mapping[str, int]
    bronze_bytes: int


def table_disk_usage(table: StoredTable) -> list[dict[str, Any]]:
    """Return a row for each place that has files of a table.

    Args:
        table: The table.

    Returns:
        Rows of (table, place, received_bytes, bytes, less_percent, kept_bytes).
    """
    lake, history = table.lake, table.history
    received = {snapshot.time: snapshot.size for snapshot in table.snapshots}
    first, later = history.entries_to_fold[:1], history.entries_to_fold[1:]
    first_bytes, later_bytes = (
        sum(table.change_set_bytes.get(entry.path or "", 0) for entry in entries) for entries in (first, later)
    )
    landed_bytes = sum(snapshot.size for snapshot in table.snapshots if not snapshot.expired)
    # A catalog does not report the size of a table's older versions.
    bronze_files = {} if lake.catalog else file_io.file_sizes(lake.path("bronze", table.name))
    bronze_kept = table.bronze_bytes if lake.catalog else sum(bronze_files.values())
    rows = [
        _row("landing", landed_bytes, landed_bytes, sum(received.values())),
        _row("full-load", first_bytes, first_bytes, _received_bytes(first, received)),
        _row("change sets", later_bytes, later_bytes, _received_bytes(later, received)),
        _row("bronze", table.bronze_bytes, bronze_kept, _received_bytes(history.accepted[-1:], received)),
    ]
    return [{"table": table.name, **row} for row in rows if row["kept_bytes"]]


def _received_bytes(entries: Iterable[LedgerEntry], received: Mapping[datetime, int]) -> int | None:
    """Return the bytes of the entries' snapshots; None if the size of one is no longer known."""
    sizes = [received.get(entry.snapshot_time) for entry in entries]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _row(place: str, current: int, kept: int, received: int | None) -> dict[str, Any]:
    less = round(100 * (1 - current / received), 1) if received else None
    return {"place": place, "received_bytes": received, "bytes": current, "less_percent": less, "kept_bytes": kept}
