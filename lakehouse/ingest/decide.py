"""Decides about the landed snapshots of a table. For each that is pending, oldest first:

1. reject it if it is older than the last accepted one; record it as unchanged if its fingerprint is the same, unless
   a key expires that is missing (grace.py); a batch of a change feed is neither
2. bring bronze to the ledger's last accepted sequence                        lakehouse/bronze/apply.py
3. read it, compare it with bronze, and count                                 compare.py
4. apply the guard                                                            guards.py
5. write quarantine and the change set, which nobody reads yet                lakehouse/lake/
6. append its row to the ledger: the commit point                             lakehouse/lake/ledger.py

`lakehouse diff` runs steps 1, 3 and 4 with the same functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from lakehouse import bronze
from lakehouse.config import Guard
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.failpoints import failpoint
from lakehouse.ingest import feed
from lakehouse.ingest.backlog import collect_decisions
from lakehouse.ingest.compare import compare_snapshot, undelivered_columns
from lakehouse.ingest.context import CompareFunction, IngestContext, IngestResult
from lakehouse.ingest.grace import GUARD_OF_EQUAL, is_expiry_due, state_of_bronze
from lakehouse.ingest.guards import apply_guards
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.rebuild import schema_changes
from lakehouse.lake import delta, ledger, quarantine
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.spark.persist import persist_rows
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name


def ingest_table(context: IngestContext) -> IngestResult:
    """Decide about every pending snapshot of a table, oldest first.

    Args:
        context: The table's ingest; its history grows with each decision.

    Raises:
        ConfigError: The schema or `pii` was changed in a way that needs a rebuild.
    """
    require_same_columns(context)
    pending = list(pending_snapshots(context))
    with collect_decisions(context, pending):
        entries = _decide_all(context, pending)
    late = tuple(e for e in entries if e.snapshot_time in context.late)
    held = context.history.held_entry
    return IngestResult(context.table.name, tuple(entries), held, late, context.held_messages)


def _decide_all(context: IngestContext, pending: list[LandedSnapshot]) -> list[LedgerEntry]:
    """Decide about the pending snapshots of a table, oldest first, and return their rows of the ledger."""
    entries: list[LedgerEntry] = []
    for snapshot in pending:
        refresh_bronze_if_missing(context, snapshot)
        entry = decide_snapshot(context, snapshot, context.config.guard, compare_and_write)
        recorded = context.history.entry_at(snapshot.time)
        compared = ("status", "fingerprint", "reason")
        is_repeated = recorded and all(getattr(recorded, name) == getattr(entry, name) for name in compared)
        if entry.status == "held" and is_repeated:
            continue  # a held snapshot is compared on every run, but recorded once
        if context.backlog:
            context.backlog.add(entry)
        elif context.unchanged is not None and entry.status == "unchanged" and snapshot is pending[-1]:
            context.unchanged.append(entry)  # it publishes nothing, and can wait for those of other tables
        else:
            entry = ledger.append(context.table.spark, context.table.lake, entry)
            failpoint("after_decision", entry.table)
        entries.append(entry)
        context.history = context.history.with_entry(entry)
    return entries


def require_same_columns(context: IngestContext) -> None:
    """Raise if the schema renames, removes or retypes columns of bronze; added columns are allowed.

    Raise, too, if a table has got a feed, has lost it, or is to accept its events by other rules.

    If bronze is missing, it would be built from the change sets, so their columns are compared. If the change sets
    were rebuilt, and a killed run left bronze as it was, bronze is about to follow.

    Raises:
        ConfigError: With each column that differs.
    """
    table, history = context.table, context.history
    if problem := feed.acceptance_change(context):
        raise ConfigError(
            f"{table.name}: {problem}",
            expected="the settings by which the events in raw were accepted",
            where=str(context.pipeline.path),
            next_step=f"to take all of them again from landing: lakehouse ingest {context.pipeline.argument}"
            f" {table.name} --full-refresh",
        )
    if bronze.is_rebuild_pending(table, history):
        return
    has_bronze = delta.exists(table.spark, table.bronze)
    is_of_bronze = has_bronze or table.config.feed
    if mismatches := bronze.schema_mismatches(table) if is_of_bronze else schema_changes(table, history):
        command = f"lakehouse bronze {context.pipeline.argument} {context.table.name} --full-refresh"
        raise ConfigError(
            f"the schema of {context.table.name} changed: {'; '.join(mismatches)}",
            expected="the columns that bronze has, or nullable ones added",
            where=str(context.pipeline.path),
            next_step=f"to rebuild it: {command}",
        )


def pending_snapshots(context: IngestContext) -> Iterator[LandedSnapshot]:
    """Yield the landed snapshots to decide about, oldest first.

    These are the snapshots never decided about, and the newest one while it is held, since its guard may have been
    changed. If the table's configuration changed, also the newest one in any case, so that quarantined rows come back,
    and those held or rejected that are newer than the last accepted one.

    Of a change feed these are the batches never decided about, all that are held, since no other batch has their
    events, and those rejected under another configuration. An accepted batch is taken once.

    Args:
        context: The table's ingest.
    """
    snapshots, history = landing.list_snapshots(context.table.lake, context.table.name), context.history
    for snapshot in snapshots:
        entry, is_newest = history.entry_at(snapshot.time), snapshot is snapshots[-1]
        if entry is None:
            yield snapshot
            continue
        is_feed = context.config.feed is not None
        is_newer = history.superseding(snapshot.time) is None
        is_stale = entry.fingerprint != context.fingerprint(snapshot)
        is_pending = {
            "held": is_newest or is_feed or (is_stale and is_newer),
            "rejected": is_stale and is_newer,
            "accepted": is_stale and is_newest and not is_feed,
            "unchanged": is_stale and is_newest and not is_feed,
        }
        if is_pending[entry.status]:
            yield snapshot


def decide_snapshot(
    context: IngestContext, snapshot: LandedSnapshot, guard: Guard | None, compare: CompareFunction
) -> LedgerEntry:
    """Return the ledger row of a snapshot.

    Args:
        context: The table's ingest.
        snapshot: The landed snapshot.
        guard: The limits to apply; None accepts any change.
        compare: Called only if the snapshot has to be read; returns the row, or raises `DataRefused`.
    """
    last, fingerprint = context.history.last_accepted, context.fingerprint(snapshot)
    base = LedgerEntry(context.table.name, None, snapshot.time, fingerprint, "rejected", run_id=context.run_id)
    if context.config.feed:
        base, last = replace(base, kind="feed"), None
    if later := context.history.superseding(snapshot.time):
        context.late.add(snapshot.time)
        reason = f"{ledger.LATE} {later.status} snapshot, {snapshot_name(later.snapshot_time)}"
        return replace(base, reason=reason)
    if last and last.fingerprint == fingerprint:
        if not is_expiry_due(context, snapshot.time):
            return replace(base, status="unchanged", missing=last.missing, slices=last.slices)
        guard = guard and GUARD_OF_EQUAL
    try:
        return compare(context, snapshot, base, guard)
    except DataRefused as refused:
        return replace(base, reason=refused.to_record())


def refresh_bronze_if_missing(context: IngestContext, snapshot: LandedSnapshot) -> None:
    """Bring bronze to the ledger's last sequence if keys are missing: with an equal snapshot too, one may expire."""
    last = context.history.last_accepted
    if last and last.missing:
        bronze.apply_pending(context.table, context.history, snapshot.size)


def compare_and_write(
    context: IngestContext, snapshot: LandedSnapshot, base: LedgerEntry, guard: Guard | None
) -> LedgerEntry:
    """Compare a snapshot with bronze and apply the guard; write the files that an accepted ledger row will publish."""
    table, history = context.table, context.history
    before = context.backlog.rows_before(snapshot) if context.backlog else None
    if before is None:
        bronze.apply_pending(table, history, snapshot.size, context.computed)
        before = state_of_bronze(context, snapshot.time)
    with compare_snapshot(context, snapshot, before, undelivered_columns(context)) as comparison:
        entry = apply_guards(base, comparison, guard)
        if entry.status == "held":
            return entry
        sequence = (history.last_accepted.sequence or 0) + 1 if history.last_accepted else 1
        failpoint("before_quarantine", table.name)
        # What is written now stays invisible until the ledger has the sequence and names the change set.
        with ExitStack() as stack:
            rejected = None
            if comparison.counts.quarantined:
                rows = comparison.quarantine_rows()
                stack.enter_context(persist_rows(rows))  # else each use would read the files again
                rejected = snapshot_reader.add_line_numbers(table.spark, rows, table.config, comparison.snapshot)
            quarantine.write_of_table(table, rejected, sequence, comparison.slices, context.pipeline.timezone)
        failpoint("after_quarantine", table.name)
        used_paths = context.reserved_paths.union(e.path for e in history.entries if e.path)
        is_feed = context.config.feed is not None
        kind = "feed" if is_feed else "full-load" if sequence == 1 else "cdc"
        path = table.lake.change_set_path(table.name, sequence, snapshot.time, used_paths, is_feed)
        if context.backlog:
            context.backlog.write_change_set(comparison, sequence, path)
        else:
            comparison.write_change_set(sequence, path)
        context.computed = comparison.computed_batch()
        failpoint("after_change_set", table.name)
        return replace(entry, sequence=sequence, kind=kind, path=path)
