"""What a table takes of the store, against what its source handed out for it. Files are listed, none is read.

    landing      the bytes as received, which are kept beside all that follows: nothing is saved there
    full-load    the first accepted snapshot, or the state that retention put in its place
    change sets  what the snapshots after it changed, against each of them whole
    bronze       the rows as they are now, against the last accepted snapshot

`kept_bytes` counts all files of a place: also those of older versions, of the Change Data Feed, and Delta's log.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.storage import file_io
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake


def table_disk_usage(
    lake: Lake, name: str, history: LedgerHistory, landed: list[LandedSnapshot], raw: dict[str, int], live: int
) -> list[dict[str, Any]]:
    """A row for each place that has something of a table.

    Args:
        raw: as `of_raw` found it.
        live: bytes of bronze's files as of its newest version.
    """
    received = {each.time: each.size for each in landed}
    first, rest = history.entries_to_fold[:1], history.entries_to_fold[1:]
    here = sum(each.size for each in landed if not each.expired)
    # A catalog does not tell what it keeps of older versions.
    bronze = live if lake.catalog else sum(file_io.file_sizes(lake.path("bronze", name)).values())
    rows = [
        _row(name, "landing", here, here, sum(received.values())),
        _row(name, "full-load", *_change_set_bytes(first, raw), _received_bytes(first, received)),
        _row(name, "change sets", *_change_set_bytes(rest, raw), _received_bytes(rest, received)),
        _row(name, "bronze", live, bronze, _received_bytes(history.accepted[-1:], received)),
    ]
    return [row for row in rows if row["kept_bytes"]]


def _change_set_bytes(entries: Iterable[LedgerEntry], raw: dict[str, int]) -> tuple[int, int]:
    size = sum(raw.get(entry.path or "", 0) for entry in entries)
    return size, size


def _received_bytes(entries: Iterable[LedgerEntry], received: dict[datetime, int]) -> int | None:
    """Bytes that landed for these; None where nobody knows any more."""
    sizes = [received.get(entry.snapshot_time) for entry in entries]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _row(table: str, place: str, live: int, kept: int, received: int | None) -> dict[str, Any]:
    less = round(100 * (1 - live / received), 1) if received else None
    return {
        "table": table,
        "place": place,
        "received_bytes": received,
        "bytes": live,
        "less_percent": less,
        "kept_bytes": kept,
    }
