"""A snapshot compared with the rows before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from pyspark import StorageLevel
from pyspark.sql import DataFrame

from lakehouse.errors import ConfigError
from lakehouse.ingest import diff
from lakehouse.ingest.diff import Counts
from lakehouse.ingest.fast_path.known_lines import Lines, Unknown
from lakehouse.ingest.guards import _check
from lakehouse.ingest.prepare_files import plain
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.work import Compared, Work, fingerprint
from lakehouse.lake import change_sets, forgotten_keys
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.schema import table_schema
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name


@contextmanager
def compared(
    work: Work, landed: LandedSnapshot, before: DataFrame, may_lack: frozenset[str], known: Lines | None = None
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
    work: Work,
    files: LandedSnapshot,
    before: DataFrame,
    may_lack: frozenset[str],
    unknown: Unknown | None,
    held: ExitStack,
) -> Compared:
    """The verdicts of a snapshot's rows, or of those that are `unknown`, and their counts."""
    table = work.table
    if unknown:
        read, state = unknown.read, unknown.state
    else:
        read, state = snapshot_reader.read(work.spark, table, files, work.pipeline.timezone, may_lack), before
    read = _without_the_forgotten(work, read)
    if table.format == "json":  # its objects are taken apart in Python, by a long plan, and asked for several times
        held.callback(read.rows.persist(StorageLevel.MEMORY_AND_DISK).unpersist)
    verdicts = diff.verdicts(read.rows, state, table, table_schema.stored_schema(table))
    held.callback(verdicts.persist(StorageLevel.MEMORY_AND_DISK).unpersist)
    counts = _counts(verdicts, files).with_same(unknown.same if unknown else 0)
    return Compared(files, before, read, state, verdicts, counts, unknown)


def _as_landed(work: Work, entry: LedgerEntry | None) -> LandedSnapshot | None:
    """The snapshot of a row of the ledger, if its files and the configuration are still what they were."""
    landed = landing.find_snapshot(work.lake, work.name, entry.snapshot_time) if entry else None
    if entry is None or landed is None or landed.expired:
        return None
    return landed if fingerprint(work.pipeline, work.name, landed) == entry.fingerprint else None


def _without_the_forgotten(work: Work, read: snapshot_reader.Read) -> snapshot_reader.Read:
    """A snapshot as if rows of forgotten keys were not in it."""
    if not work.forgotten:
        return read
    rows = forgotten_keys.drop_forgotten(read.rows, work.table, work.forgotten)
    if read.records is None:
        return replace(read, rows=rows)
    passed_over = read.rows.where(forgotten_keys.is_forgotten(work.table, work.forgotten)).count()
    return replace(read, rows=rows, records=read.records - passed_over)


def not_yet_delivered(work: Work) -> frozenset[str]:
    """Declared columns that no snapshot has had yet, added to the schema since: a backlog without them is no fault.

    A change set is written without the columns that its snapshot lacked, so the last one tells.

    Raises:
        ConfigError: `pii` asks for something else than that one holds.
    """
    last = work.history.last_accepted
    if not last or not last.path:
        return frozenset()
    there = work.history.base_state if work.history.base_state and work.history.is_dropped(last) else last
    delivered = change_sets.delivered_columns(work.spark, work.lake, work.table, there)
    return frozenset(name for name in table_schema.stored_schema(work.table).names if name not in delivered)


def _counts(verdicts: DataFrame, landed: LandedSnapshot) -> Counts:
    try:
        return Counts(**diff.counted(verdicts).collect()[0].asDict())
    except SPARK_ERRORS as error:
        raise snapshot_reader.refused(error, str(landed.folder)) from error


def change_set(work: Work, found: Compared, sequence: int) -> DataFrame:
    """The rows that a snapshot inserts, updates and deletes, as they are to be published."""
    table = work.table
    fields = table_schema.stored_schema(table)
    rows, verdicts, counts = found.read.rows, found.verdicts, found.counts
    return diff.change_set(rows, found.state, verdicts, counts, table, fields, sequence, found.landed.time)
