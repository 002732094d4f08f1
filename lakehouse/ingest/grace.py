"""Finds the rows that a snapshot is compared with and, of a table with `missing`, the grace of keys that it lacks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from lakehouse import bronze
from lakehouse.config import Guard, Table
from lakehouse.ingest.context import IngestContext, StateRows
from lakehouse.lake.grace import Grace, expiry_bound
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.slices import Slice, Slices

GUARD_OF_EQUAL = Guard(min_rows=0, max_deleted=1, max_quarantined=1)
"""The guard of a snapshot that is equal to the last accepted one: its rows were accepted, and keys only expire."""


def find_grace(context: IngestContext, time: datetime) -> Grace | None:
    """Return the treatment of the keys that a snapshot lacks; None if they are deleted, and none is missing.

    Args:
        context: The table's ingest.
        time: The time of the snapshot.
    """
    missing, history = context.config.grace, context.history
    if missing is None and not any(entry.keeps_missing for entry in history.accepted):
        return None
    # Without `missing`, which was switched off, the keys that are still missing expire at once.
    after = missing.after if missing else 0
    taken = history.confirmed if context.taken is None else context.taken
    bound = expiry_bound(after, time, [entry.snapshot_time for entry in taken])
    bound_in = _bound_by_slice(context.config, after, time, taken) if context.config.slice_by else None
    return Grace(time, bound, missing is not None and missing.then == "mark", bound_in)


def _bound_by_slice(
    table: Table, after: int | timedelta, time: datetime, taken: list[LedgerEntry]
) -> Callable[[Slice], datetime | None]:
    """Return a function that returns the bound of a slice: only snapshots that contain it count.

    A snapshot of other columns of `slice_by` counts for no slice of today's.
    """
    columns, contained = tuple(table.slice_by or ()), list[tuple[datetime, frozenset[Slice] | None]]()
    for entry in taken if isinstance(after, int) and after > 1 else ():
        slices = Slices.from_json(entry.slices) if entry.slices is not None else None
        values = None if slices is None else slices.values if slices.columns == columns else frozenset()
        contained.append((entry.snapshot_time, values))

    def bound_in(each: Slice) -> datetime | None:
        return expiry_bound(after, time, [at for at, slices in contained if slices is None or each in slices])

    return bound_in


def state_of_bronze(context: IngestContext, time: datetime, version: int | None = None) -> StateRows:
    """Return the rows of bronze that a snapshot is compared with.

    Args:
        context: The table's ingest.
        time: The time of the snapshot.
        version: The version of bronze to read; None: the current one.
    """
    table, grace = context.table, find_grace(context, time)
    read = bronze.state_rows if grace else bronze.current_rows
    return StateRows(
        lambda: read(table, version), lambda: bronze.find_current_rows(table, version, grace is not None), grace
    )


def is_expiry_due(context: IngestContext, time: datetime) -> bool:
    """Return whether the grace of a key ends with a snapshot that is equal to the last accepted one.

    Args:
        context: The table's ingest; bronze is at the ledger's last sequence.
        time: The time of the snapshot.
    """
    last = context.history.last_accepted
    if last is None or not last.missing or (grace := find_grace(context, time)) is None:
        return False
    if last.slices is None or grace.bound_in is None:
        since = bronze.find_missing(context.table).since
        return since is not None and grace.bound is not None and since <= grace.bound
    since_in = bronze.find_missing_by_slice(context.table)
    bounds = grace.bounds(Slices.from_json(last.slices).values)
    return any(bound is not None and each in since_in and since_in[each] <= bound for each, bound in bounds.items())
