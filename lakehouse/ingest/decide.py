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
from lakehouse.ingest.compare import change_set, compared, not_yet_delivered
from lakehouse.ingest.fast_path.known_lines import Lines
from lakehouse.ingest.guards import judged
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.work import Compare, Compared, Ingested, Work, fingerprint
from lakehouse.lake import change_sets, ledger, quarantine
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.schema import pii
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake, snapshot_name


def ingest(
    spark: SparkSession, pipeline: Pipeline, lake: Lake, name: str, run_id: str, history: LedgerHistory
) -> Ingested:
    """Decide about every landed snapshot of a table that waits, oldest first."""
    work = Work(spark, lake, pipeline, name, run_id, history)
    refuse_other_columns(work)
    decided = []
    for landed in waiting(lake, pipeline, name, work.history):
        entry = decide(work, landed, work.table.guard, _compare_and_write)
        if _known(work.history.entry_at(landed.time), entry):
            continue
        decided.append(ledger.append(spark, lake, entry))
        work.history = work.history.with_entry(decided[-1])
    late = tuple(e for e in decided if e.snapshot_time in work.late)
    return Ingested(name, tuple(decided), work.history.held_entry, late)


def refuse_other_columns(work: Work) -> None:
    """Raises: ConfigError, if the schema asks for other columns than bronze has; added ones are no fault."""
    if misfits := apply.schema_mismatches(work.spark, work.lake, work.name, work.table):
        raise ConfigError(
            f"the schema of {work.name} changed: {'; '.join(misfits)}",
            expected="the columns that bronze has, or nullable ones added",
            where=str(work.pipeline.path),
            next_step=f"to rebuild the table so: lakehouse bronze {work.pipeline.folder} {work.name} --full-refresh",
        )


def _known(before: LedgerEntry | None, now: LedgerEntry) -> bool:
    """Whether the ledger says just that already: a held snapshot is asked again on every run."""
    told = ("status", "fingerprint", "reason")
    return before is not None and now.status == "held" and all(getattr(before, t) == getattr(now, t) for t in told)


def approve(spark: SparkSession, pipeline: Pipeline, lake: Lake, name: str, time: datetime, run_id: str) -> Ingested:
    """Accept a held snapshot with the guards off.

    Raises:
        ConfigError: no snapshot of that time is held, or a newer one was accepted since.
    """
    work = Work(spark, lake, pipeline, name, run_id, ledger.read_histories(spark, lake, [name])[name])
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
    return Ingested(name, (ledger.append(spark, lake, accepted),), None)


def waiting(lake: Lake, pipeline: Pipeline, name: str, history: LedgerHistory) -> Iterator[LandedSnapshot]:
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


def decide(work: Work, landed: LandedSnapshot, guard: Guard | None, compare: Compare) -> LedgerEntry:
    """The ledger's row for a snapshot; `compare` is asked only where the snapshot has to be read."""
    last, print_ = work.history.last_accepted, fingerprint(work.pipeline, work.name, landed)
    base = LedgerEntry(work.name, None, landed.time, print_, "rejected", run_id=work.run_id)
    if last and landed.time < last.snapshot_time:
        reason = f"older than the last accepted snapshot, {snapshot_name(last.snapshot_time)}"
        work.late.add(landed.time)
        return replace(base, reason=reason)
    if last and last.fingerprint == print_:
        return replace(base, status="unchanged")
    try:
        return compare(work, landed, base, guard)
    except DataRefused as refused:
        return replace(base, reason=refused.to_text())


def _compare_and_write(work: Work, landed: LandedSnapshot, base: LedgerEntry, guard: Guard | None) -> LedgerEntry:
    """Compare with bronze and ask the guards; then write what the accepted entry will publish."""
    apply.apply_pending(work.spark, work.lake, work.name, work.table, work.history, landed.size)
    state = read.current_rows(work.spark, work.lake, work.name, work.table)
    # Hashes of whole lines, and keys as they were received: not of what is personal or to be forgotten.
    private = work.table.pii or work.forgotten
    known = None if private else Lines(work.spark, work.lake, work.name, work.table, work.pipeline.timezone)
    with compared(work, landed, state, not_yet_delivered(work), known) as found:
        entry = judged(base, found, guard)
        if entry.status == "held":
            return entry
        sequence = (work.history.last_accepted.sequence or 0) + 1 if work.history.last_accepted else 1
        path = _write(work, found, sequence)
        entry = replace(entry, sequence=sequence, kind="full-load" if sequence == 1 else "cdc", path=path)
        if known:
            known.remember(found.landed, entry, found.verdicts, found.unknown)
        return entry


def _write(work: Work, found: Compared, sequence: int) -> str:
    """Write quarantine and the change set; both stay invisible until the ledger names them."""
    spark, lake, table, landed = work.spark, work.lake, work.table, found.landed
    with ExitStack() as held:
        refused = None
        if found.counts.quarantined:
            rows = diff.quarantined(found.received, found.verdicts, table)
            held.callback(rows.persist(StorageLevel.MEMORY_AND_DISK).unpersist)  # each look would read the files again
            refused = snapshot_reader.with_lines(spark, rows, table, landed)
        quarantine.write_of_table(spark, lake, work.name, refused, "ingest", sequence)
    taken = frozenset(e.path for e in work.history.accepted if e.path)
    path = lake.change_set_path(work.name, sequence, landed.time, taken)
    delivered = pii.with_labels(change_set(work, found, sequence).drop(*found.read.lacking), table)
    change_sets.write(delivered, lake.spark_path(path), found.counts.changes)
    return path
