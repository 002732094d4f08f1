"""From a landed snapshot to one row of the ledger. In order, for each snapshot of a table that waits:

1. refuse it if it is older than the last accepted; note it as unchanged if its fingerprint is the same
2. bring bronze to the ledger's last accepted sequence
3. read it by the declared schema                                     snapshot.py
4. compare it with bronze, count, and ask the guards                  changes.py
5. write quarantine and the change set, which nobody sees yet
6. append its row to the ledger: the commit point

`lakehouse diff` asks the same questions with the same functions, up to 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime

from pyspark import StorageLevel
from pyspark.sql import SparkSession

from lakehouse.bronze import apply, read
from lakehouse.config import Guard, Pipeline
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.ingest import diff
from lakehouse.ingest.compare import change_set, compare_snapshot, undelivered_columns
from lakehouse.ingest.context import CompareFunction, Comparison, IngestContext, IngestResult, fingerprint
from lakehouse.ingest.fast_path.known_lines import FastPath
from lakehouse.ingest.guards import apply_guards
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.lake import change_sets, ledger, quarantine
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.schema import pii
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake, snapshot_name


def ingest(
    spark: SparkSession, pipeline: Pipeline, lake: Lake, name: str, run_id: str, history: LedgerHistory
) -> IngestResult:
    """Decide about every landed snapshot of a table that waits, oldest first."""
    work = IngestContext(spark, lake, pipeline, name, run_id, history)
    require_same_columns(work)
    decided = []
    for landed in pending_snapshots(lake, pipeline, name, work.history):
        entry = decide(work, landed, work.table.guard, _compare_and_write)
        if _is_recorded(work.history.entry_at(landed.time), entry):
            continue
        decided.append(ledger.append(spark, lake, entry))
        work.history = work.history.with_entry(decided[-1])
    late = tuple(e for e in decided if e.snapshot_time in work.late)
    return IngestResult(name, tuple(decided), work.history.held_entry, late)


def require_same_columns(context: IngestContext) -> None:
    """Raises: ConfigError, if the schema asks for other columns than bronze has; added ones are no fault."""
    if misfits := apply.schema_mismatches(context.spark, context.lake, context.name, context.table):
        raise ConfigError(
            f"the schema of {context.name} changed: {'; '.join(misfits)}",
            expected="the columns that bronze has, or nullable ones added",
            where=str(context.pipeline.path),
            next_step=f"to rebuild it: lakehouse bronze {context.pipeline.folder} {context.name} --full-refresh",
        )


def _is_recorded(recorded: LedgerEntry | None, entry: LedgerEntry) -> bool:
    """Whether the ledger says just that already: a held snapshot is asked again on every run."""
    told = ("status", "fingerprint", "reason")
    return (
        recorded is not None and entry.status == "held" and all(getattr(recorded, t) == getattr(entry, t) for t in told)
    )


def approve(
    spark: SparkSession, pipeline: Pipeline, lake: Lake, name: str, time: datetime, run_id: str
) -> IngestResult:
    """Accept a held snapshot with the guards off.

    Raises:
        ConfigError: no snapshot of that time is held, or a newer one was accepted since.
    """
    work = IngestContext(spark, lake, pipeline, name, run_id, ledger.read_histories(spark, lake, [name])[name])
    entry, last = work.history.entry_at(time), work.history.last_accepted
    stamp = snapshot_name(time)
    if entry is None or entry.status != "held":
        raise ConfigError(
            f"the snapshot {stamp} of {name} is {entry.status}" if entry else f"{name} has no snapshot {stamp}",
            expected="a snapshot that is held",
            next_step=f"lakehouse status {pipeline.folder}",
        )
    if last and last.snapshot_time > time:
        raise ConfigError(
            f"the snapshot {stamp} of {name} was superseded: {snapshot_name(last.snapshot_time)} is accepted",
            expected="a held snapshot that is newer than the last accepted one",
        )
    landed = landing.load_snapshot(lake.landing_path(name) / stamp, name, time)
    accepted = decide(work, landed, None, _compare_and_write)
    return IngestResult(name, (ledger.append(spark, lake, accepted),), None)


def pending_snapshots(lake: Lake, pipeline: Pipeline, name: str, history: LedgerHistory) -> Iterator[LandedSnapshot]:
    """The landed snapshots to decide about.

    Those never decided; a held one while it is the newest, since its guard may have been changed; and, where the
    table's configuration changed since, rejected ones that are still newer than the last accepted one, and the
    newest of all, whatever was decided: that is how quarantined rows come back.
    """
    snapshots = landing.list_snapshots(lake, name)
    last = history.last_accepted
    for landed in snapshots:
        entry, is_newest = history.entry_at(landed.time), landed is snapshots[-1]
        if entry is None:
            yield landed
            continue
        newer = last is None or landed.time > last.snapshot_time
        stale = entry.fingerprint != fingerprint(pipeline, name, landed)
        again = {
            "held": is_newest or (stale and newer),
            "rejected": stale and newer,
            "accepted": stale and is_newest,
            "unchanged": stale and is_newest,
        }
        if again[entry.status]:
            yield landed


def decide(
    context: IngestContext, snapshot: LandedSnapshot, guard: Guard | None, compare: CompareFunction
) -> LedgerEntry:
    """The ledger's row for a snapshot; `compare` is asked only where the snapshot has to be read."""
    last, print_ = context.history.last_accepted, fingerprint(context.pipeline, context.name, snapshot)
    base = LedgerEntry(context.name, None, snapshot.time, print_, "rejected", run_id=context.run_id)
    if last and snapshot.time < last.snapshot_time:
        reason = f"older than the last accepted snapshot, {snapshot_name(last.snapshot_time)}"
        context.late.add(snapshot.time)
        return replace(base, reason=reason)
    if last and last.fingerprint == print_:
        return replace(base, status="unchanged")
    try:
        return compare(context, snapshot, base, guard)
    except DataRefused as refused:
        return replace(base, reason=refused.to_text())


def _compare_and_write(
    context: IngestContext, snapshot: LandedSnapshot, base: LedgerEntry, guard: Guard | None
) -> LedgerEntry:
    """Compare with bronze and ask the guards; then write what the accepted entry will publish."""
    apply.apply_pending(context.spark, context.lake, context.name, context.table, context.history, snapshot.size)
    state = read.current_rows(context.spark, context.lake, context.name, context.table)
    # Hashes of whole lines, and keys as they were received: not of what is personal or to be forgotten.
    private = context.table.pii or context.forgotten
    known = (
        None
        if private
        else FastPath(context.spark, context.lake, context.name, context.table, context.pipeline.timezone)
    )
    with compare_snapshot(context, snapshot, state, undelivered_columns(context), known) as found:
        entry = apply_guards(base, found, guard)
        if entry.status == "held":
            return entry
        sequence = (context.history.last_accepted.sequence or 0) + 1 if context.history.last_accepted else 1
        path = _write_change_set(context, found, sequence)
        entry = replace(entry, sequence=sequence, kind="full-load" if sequence == 1 else "cdc", path=path)
        if known:
            known.save_faulty_lines(found.snapshot, entry, found.verdicts, found.changes)
        return entry


def _write_change_set(context: IngestContext, comparison: Comparison, sequence: int) -> str:
    """Write quarantine and the change set; both stay invisible until the ledger names them."""
    spark, lake, table, landed = context.spark, context.lake, context.table, comparison.snapshot
    with ExitStack() as held:
        refused = None
        if comparison.counts.quarantined:
            rows = diff.quarantine_rows(comparison.received_rows, comparison.verdicts, table)
            held.callback(rows.persist(StorageLevel.MEMORY_AND_DISK).unpersist)  # each look would read the files again
            refused = snapshot_reader.add_line_numbers(spark, rows, table, landed)
        quarantine.write_of_table(spark, lake, context.name, refused, "ingest", sequence)
    taken = frozenset(e.path for e in context.history.accepted if e.path)
    path = lake.change_set_path(context.name, sequence, landed.time, taken)
    delivered = pii.with_labels(
        change_set(context, comparison, sequence).drop(*comparison.parsed.missing_columns), table
    )
    change_sets.write(delivered, lake.spark_path(path), comparison.counts.changes)
    return path
