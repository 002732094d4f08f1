"""Accepts a snapshot on request, for `lakehouse approve`: one that is held, or one that has to be put in its place."""

from __future__ import annotations

from datetime import datetime

from lakehouse.errors import ConfigError
from lakehouse.ingest.context import IngestContext, IngestResult
from lakehouse.ingest.decide import compare_and_write, decide_snapshot, ingest_table, refresh_bronze_if_missing
from lakehouse.ingest.replay import replay
from lakehouse.lake import ledger
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.storage import landing
from lakehouse.storage.paths import snapshot_name


def approve_snapshot(context: IngestContext, time: datetime, is_landed_again: bool = False) -> IngestResult:
    """Accept a snapshot without applying the guard.

    A held one is compared with bronze. One that was rejected for being late, or that changed after a later one was
    accepted, is put in its place: it and all after it are compared again (`replay`). One that changed before anything
    was decided about it waits for a decision as before: it and those before it are decided about now, with the guard. A
    batch of a change feed that changed replaces the one that was accepted: its events count instead of those.

    Args:
        context: The table's ingest.
        time: The time of the snapshot.
        is_landed_again: Whether the snapshot was landed again because it changed; any decision about it can change.

    Raises:
        ConfigError: The snapshot is neither held nor late, or it is held and a newer one was accepted since.
        DataRefused: A later snapshot cannot be compared again; nothing was changed.
    """
    table, entry = context.table, context.history.entry_at(time)
    stamp, later = snapshot_name(time), context.history.superseding(time)
    if context.config.feed and entry and _was_landed_again(context, entry):
        is_landed_again = True
    if later and entry and (is_landed_again or entry.is_late or _was_landed_again(context, entry)):
        verb = "was put in its place" if entry.is_late else "changed after it was taken"
        return replay(context, time, f"{stamp} {verb}", added=time)
    if is_landed_again and entry is None:
        return ingest_table(context)
    if not is_landed_again and (entry is None or entry.status != "held"):
        raise ConfigError(
            f"the snapshot {stamp} of {table.name} is {entry.status}"
            if entry
            else f"{table.name} has no snapshot {stamp}",
            expected="a snapshot that is held or late, or whose folder changed after it was taken",
            where=str(context.pipeline.path),
            next_step=f"lakehouse status {context.pipeline.argument}",
        )
    if later:
        by = f"{snapshot_name(later.snapshot_time)} is {later.status}"
        raise ConfigError(
            f"the snapshot {stamp} of {table.name} was superseded: {by}",
            expected="a held snapshot that is newer than the last accepted one",
            where=str(context.pipeline.path),
            next_step=f"lakehouse history {context.pipeline.argument} {table.name}",
        )
    snapshot = landing.load_snapshot(table.lake.landing_path(table.name) / stamp, table.name, time)
    refresh_bronze_if_missing(context, snapshot)
    entry = decide_snapshot(context, snapshot, None, compare_and_write)
    return IngestResult(table.name, (ledger.append(table.spark, table.lake, entry),), None)


def _was_landed_again(context: IngestContext, entry: LedgerEntry) -> bool:
    """Return whether an accepted snapshot was landed again by an attempt that ended before it was compared."""
    landed = landing.find_snapshot(context.table.lake, context.table.name, entry.snapshot_time)
    is_confirmed = entry.status in ("accepted", "unchanged")
    return landed is not None and is_confirmed and context.fingerprint(landed) != entry.fingerprint
