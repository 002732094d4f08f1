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

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession

from lakehouse import changes, snapshot
from lakehouse.bronze import apply, read
from lakehouse.changes import Counts
from lakehouse.config import Guard, Pipeline, Table, fingerprint_config
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.lake import change_sets, forgotten_keys, ledger, quarantine
from lakehouse.lake.ledger import Entry, History
from lakehouse.lines import Lines, Unknown
from lakehouse.schema import pii, table_schema
from lakehouse.snapshot.plain import plain
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import landing
from lakehouse.storage.landing import Landed
from lakehouse.storage.paths import Lake, snapshot_name


@dataclass(frozen=True)
class Ingested:
    """What became of a table's snapshots: the rows appended to the ledger now, and the one that waits for approval."""

    table: str
    entries: tuple[Entry, ...] = ()
    held: Entry | None = None
    late: tuple[Entry, ...] = ()  # those of `entries` that were only too late, which is nobody's fault


@dataclass
class Work:
    """One table's ingest: where it is, and what it has said so far."""

    spark: SparkSession
    lake: Lake
    pipeline: Pipeline
    name: str
    run_id: str
    history: History
    late: set[datetime] = field(default_factory=set)

    @property
    def table(self) -> Table:
        return self.pipeline.tables[self.name]

    @cached_property
    def forgotten(self) -> frozenset[str]:
        """Hashes of keys that no snapshot may bring back."""
        return forgotten_keys.hashes(self.spark, self.lake, self.name)


@dataclass(frozen=True)
class Compared:
    """A snapshot that can be taken, held against the rows before it: what is to happen to each key, and how often."""

    landed: Landed  # as it was read: unpacked, where it came packed
    before: DataFrame
    read: snapshot.Read
    state: DataFrame  # all of `before`, or what of it can differ
    verdicts: DataFrame
    counts: Counts
    unknown: Unknown | None = None  # where only what can differ was compared

    @property
    def received(self) -> DataFrame:
        """The rows with how they were received."""
        return self.unknown.received if self.unknown else self.read.rows


# From a snapshot's row, `rejected` as yet, and the guard to ask, to the row as it is to stand in the ledger.
Compare = Callable[[Work, Landed, Entry, Guard | None], Entry]


def ingest(spark: SparkSession, pipeline: Pipeline, lake: Lake, name: str, run_id: str, history: History) -> Ingested:
    """Decide about every landed snapshot of a table that waits, oldest first."""
    work = Work(spark, lake, pipeline, name, run_id, history)
    refuse_other_columns(work)
    decided = []
    for landed in waiting(lake, pipeline, name, work.history):
        entry = decide(work, landed, work.table.guard, _compare_and_write)
        if _known(work.history.at(landed.time), entry):
            continue
        decided.append(ledger.append(spark, lake, entry))
        work.history = work.history.with_entry(decided[-1])
    late = tuple(e for e in decided if e.snapshot_time in work.late)
    return Ingested(name, tuple(decided), work.history.held, late)


def refuse_other_columns(work: Work) -> None:
    """Raises: ConfigError, if the schema asks for other columns than bronze has; added ones are no fault."""
    if misfits := apply.misfits(work.spark, work.lake, work.name, work.table):
        raise ConfigError(
            f"the schema of {work.name} changed: {'; '.join(misfits)}",
            expected="the columns that bronze has, or nullable ones added",
            where=str(work.pipeline.path),
            next_step=f"to rebuild the table so: lakehouse bronze {work.pipeline.folder} {work.name} --full-refresh",
        )


def _known(before: Entry | None, now: Entry) -> bool:
    """Whether the ledger says just that already: a held snapshot is asked again on every run."""
    told = ("status", "fingerprint", "reason")
    return before is not None and now.status == "held" and all(getattr(before, t) == getattr(now, t) for t in told)


def approve(spark: SparkSession, pipeline: Pipeline, lake: Lake, name: str, time: datetime, run_id: str) -> Ingested:
    """Accept a held snapshot with the guards off.

    Raises:
        ConfigError: no snapshot of that time is held, or a newer one was accepted since.
    """
    work = Work(spark, lake, pipeline, name, run_id, ledger.read(spark, lake, [name])[name])
    entry, last = work.history.at(time), work.history.last_accepted
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
    landed = landing.load(lake.landing(name) / stamp, name, time)
    accepted = decide(work, landed, None, _compare_and_write)
    return Ingested(name, (ledger.append(spark, lake, accepted),), None)


def waiting(lake: Lake, pipeline: Pipeline, name: str, history: History) -> Iterator[Landed]:
    """The landed snapshots to decide about.

    Those never decided; a held one while it is the newest, since its guard may have been changed; and, where the
    table's configuration changed since, rejected ones that are still newer than the last accepted one, and the
    newest of all, whatever was decided: that is how quarantined rows come back.
    """
    snapshots = landing.landed(lake, name)
    last = history.last_accepted
    for landed in snapshots:
        entry, is_newest = history.at(landed.time), landed is snapshots[-1]
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


def fingerprint(pipeline: Pipeline, name: str, landed: Landed) -> str:
    """Of the files' names and bytes, and of the configuration that bears on reading and comparing them."""
    config = fingerprint_config(pipeline.tables[name], pipeline.timezone)
    return hashlib.sha256(json.dumps([landed.content, config]).encode()).hexdigest()


def decide(work: Work, landed: Landed, guard: Guard | None, compare: Compare) -> Entry:
    """The ledger's row for a snapshot; `compare` is asked only where the snapshot has to be read."""
    last, print_ = work.history.last_accepted, fingerprint(work.pipeline, work.name, landed)
    base = Entry(work.name, None, landed.time, print_, "rejected", run_id=work.run_id)
    if last and landed.time < last.snapshot_time:
        reason = f"older than the last accepted snapshot, {snapshot_name(last.snapshot_time)}"
        work.late.add(landed.time)
        return replace(base, reason=reason)
    if last and last.fingerprint == print_:
        return replace(base, status="unchanged")
    try:
        return compare(work, landed, base, guard)
    except DataRefused as refused:
        return replace(base, reason=refused.block())


def _compare_and_write(work: Work, landed: Landed, base: Entry, guard: Guard | None) -> Entry:
    """Compare with bronze and ask the guards; then write what the accepted entry will publish."""
    apply.apply_pending(work.spark, work.lake, work.name, work.table, work.history, landed.size)
    state = read.current(work.spark, work.lake, work.name, work.table)
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


@contextmanager
def compared(
    work: Work, landed: Landed, before: DataFrame, may_lack: frozenset[str], known: Lines | None = None
) -> Iterator[Compared]:
    """Read a snapshot and compare it with the rows before it; with `known` lines, no more of either than can differ.

    Raises:
        DataRefused: it cannot be taken, whatever the guards say.
        ConfigError: its files have expired.
    """
    if landed.expired:
        raise ConfigError(
            f"the files of the snapshot {snapshot_name(landed.time)} of {work.name} have expired",
            expected="a snapshot that `retention` has not reached",
            where=str(landed.folder),
            next_step=f"lakehouse history {work.pipeline.folder} {work.name}, for what it changed",
        )
    with plain(work.lake, work.table, landed) as files, ExitStack() as held:
        last = work.history.last_accepted
        unknown = held.enter_context(known.unknown(_as_landed(work, last), last, files, before)) if known else None
        found = _held_against(work, files, before, may_lack, unknown, held)
        if known and unknown and known.overlooked(unknown, found.verdicts, before):
            found = _held_against(work, files, before, may_lack, None, held)
        _check(work, found)
        yield found


def _held_against(
    work: Work, files: Landed, before: DataFrame, may_lack: frozenset[str], unknown: Unknown | None, held: ExitStack
) -> Compared:
    """The verdicts of a snapshot's rows, or of those that are `unknown`, and their counts."""
    table = work.table
    if unknown:
        read, state = unknown.read, unknown.state
    else:
        read, state = snapshot.read(work.spark, table, files, work.pipeline.timezone, may_lack), before
    read = _without_the_forgotten(work, read)
    if table.format == "json":  # its objects are taken apart in Python, by a long plan, and asked for several times
        held.callback(read.rows.persist(StorageLevel.MEMORY_AND_DISK).unpersist)
    verdicts = changes.verdicts(read.rows, state, table, table_schema.schema(table))
    held.callback(verdicts.persist(StorageLevel.MEMORY_AND_DISK).unpersist)
    counts = _counts(verdicts, files).with_same(unknown.same if unknown else 0)
    return Compared(files, before, read, state, verdicts, counts, unknown)


def _as_landed(work: Work, entry: Entry | None) -> Landed | None:
    """The snapshot of a row of the ledger, if its files and the configuration are still what they were."""
    landed = landing.at(work.lake, work.name, entry.snapshot_time) if entry else None
    if entry is None or landed is None or landed.expired:
        return None
    return landed if fingerprint(work.pipeline, work.name, landed) == entry.fingerprint else None


def _without_the_forgotten(work: Work, read: snapshot.Read) -> snapshot.Read:
    """A snapshot as if rows of forgotten keys were not in it."""
    if not work.forgotten:
        return read
    rows = forgotten_keys.without(read.rows, work.table, work.forgotten)
    if read.records is None:
        return replace(read, rows=rows)
    passed_over = read.rows.where(forgotten_keys.is_forgotten(work.table, work.forgotten)).count()
    return replace(read, rows=rows, records=read.records - passed_over)


def judged(base: Entry, found: Compared, guard: Guard | None) -> Entry:
    """`base` with the counts, and with the guards' word or, where they have none, accepted."""
    numbers = {k: getattr(found.counts, k) for k in ledger.COUNTS}
    if guard and (reason := _holds(found, guard)):
        return replace(base, status="held", reason=reason, **numbers)
    unnamed = found.read.unnamed
    return replace(base, status="accepted", reason=_unnamed(unnamed) if unnamed else None, **numbers)


def not_yet_delivered(work: Work) -> frozenset[str]:
    """Declared columns that no snapshot has had yet, added to the schema since: a backlog without them is no fault.

    A change set is written without the columns that its snapshot lacked, so the last one tells.

    Raises:
        ConfigError: `pii` asks for something else than that one holds.
    """
    last = work.history.last_accepted
    if not last or not last.path:
        return frozenset()
    there = work.history.base if work.history.base and work.history.is_dropped(last) else last
    delivered = change_sets.delivered(work.spark, work.lake, work.table, there)
    return frozenset(name for name in table_schema.schema(work.table).names if name not in delivered)


def _counts(verdicts: DataFrame, landed: Landed) -> Counts:
    try:
        return Counts(**changes.counted(verdicts).collect()[0].asDict())
    except SPARK_ERRORS as error:
        raise snapshot.refused(error, str(landed.folder)) from error


def _check(work: Work, found: Compared) -> None:
    """Raises: DataRefused, where the snapshot cannot be taken, whatever the guards say."""
    name, table, counts, where = work.name, work.table, found.counts, str(found.landed.folder)
    if found.read.records is not None and found.read.records != counts.rows_read:
        raise DataRefused(
            f"{name} has {counts.rows_read} records by one reader and {found.read.records} by another",
            expected="a file that every reader of CSV takes alike",
            where=where,
            next_step="look for quotes that open or close in the middle of a field",
        )
    if counts.conflicts:
        keys = changes.examples(found.verdicts, changes.CONFLICT, table)
        raise DataRefused(
            f"{counts.conflicts} keys of {name} stand on rows of different content: {keys}",
            expected=f"one row a key (duplicates: {table.duplicates})",
            where=where,
            next_step="mend the source, or set `duplicates` to latest or quarantine",
        )
    if table.malformed == "fail" and counts.quarantined:
        row = changes.quarantined(found.received, found.verdicts, table).limit(1).collect()[0]
        raise DataRefused(
            f"{counts.quarantined} rows of {name} cannot be taken, such as {row['value']!r}: {row['reason']}",
            expected="rows as the schema says (malformed: fail)",
            where=where,
            next_step="mend the source, or set `malformed: quarantine`",
        )


def _holds(found: Compared, guard: Guard) -> str | None:
    """Why the snapshot has to be approved by somebody, or None."""
    reasons, counts = [], found.counts
    accepted = counts.rows_read - counts.quarantined
    if accepted < guard.min_rows:
        reasons.append(f"{accepted} rows accepted, fewer than min_rows {guard.min_rows}")
    if counts.deleted:
        live = counts.unchanged + counts.updated + counts.deleted
        if counts.quarantined:  # which may protect rows of bronze: those are in no count
            live = found.before.count()
        if counts.deleted > guard.max_deleted * live:
            reasons.append(f"{counts.deleted} of {live} rows deleted, more than max_deleted {guard.max_deleted:g}")
        if counts.unreadable_keys:
            reasons.append(
                f"{counts.unreadable_keys} rows whose key cannot be read, beside {counts.deleted} rows deleted"
            )
    if counts.quarantined > guard.max_quarantined * counts.rows_read:
        reasons.append(
            f"{counts.quarantined} of {counts.rows_read} rows quarantined,"
            f" more than max_quarantined {guard.max_quarantined:g}"
        )
    return "; ".join(reasons) or None


def _write(work: Work, found: Compared, sequence: int) -> str:
    """Write quarantine and the change set; both stay invisible until the ledger names them."""
    spark, lake, table, landed = work.spark, work.lake, work.table, found.landed
    with ExitStack() as held:
        refused = None
        if found.counts.quarantined:
            rows = changes.quarantined(found.received, found.verdicts, table)
            held.callback(rows.persist(StorageLevel.MEMORY_AND_DISK).unpersist)  # each look would read the files again
            refused = snapshot.with_lines(spark, rows, table, landed)
        quarantine.write(spark, lake, work.name, refused, "ingest", sequence)
    taken = frozenset(e.path for e in work.history.accepted if e.path)
    path = lake.change_set(work.name, sequence, landed.time, taken)
    delivered = pii.labelled(change_set(work, found, sequence).drop(*found.read.lacking), table)
    change_sets.write(delivered, lake.at(path), found.counts.changes)
    return path


def change_set(work: Work, found: Compared, sequence: int) -> DataFrame:
    """The rows that a snapshot inserts, updates and deletes, as they are to be published."""
    table = work.table
    fields = table_schema.schema(table)
    rows, verdicts, counts = found.read.rows, found.verdicts, found.counts
    return changes.change_set(rows, found.state, verdicts, counts, table, fields, sequence, found.landed.time)


def _unnamed(names: tuple[str, ...]) -> str:
    return f"columns that the schema does not name are not taken: {', '.join(names)}"
