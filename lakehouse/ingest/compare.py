"""A snapshot compared with the rows before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from pyspark import StorageLevel
from pyspark.sql import DataFrame

from lakehouse.errors import ConfigError
from lakehouse.ingest import diff
from lakehouse.ingest.context import Comparison, IngestContext, fingerprint
from lakehouse.ingest.diff import Counts
from lakehouse.ingest.fast_path.known_lines import ChangedLines, FastPath
from lakehouse.ingest.guards import require_acceptable
from lakehouse.ingest.prepare_files import readable_snapshot
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.lake import change_sets, forgotten_keys
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.schema import table_schema
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name


@contextmanager
def compare_snapshot(
    context: IngestContext,
    snapshot: LandedSnapshot,
    state: DataFrame,
    optional_columns: frozenset[str],
    fast_path: FastPath | None = None,
) -> Iterator[Comparison]:
    """Read a snapshot and compare it with the rows before it; with `known` lines, no more of either than can differ.

    Raises:
        DataRefused: it cannot be taken, whatever the guards say.
        ConfigError: its files have expired.
    """
    if snapshot.expired:
        raise ConfigError(
            f"the files of the snapshot {snapshot_name(snapshot.time)} of {context.name} have expired",
            expected="a snapshot that `retention` has not reached",
            where=str(snapshot.folder),
            next_step=f"lakehouse history {context.pipeline.folder} {context.name}, for what it changed",
        )
    with readable_snapshot(context.lake, context.table, snapshot) as files, ExitStack() as held:
        last = context.history.last_accepted
        unknown = (
            held.enter_context(fast_path.find_changes(_unchanged_snapshot(context, last), last, files, state))
            if fast_path
            else None
        )
        found = _compare(context, files, state, optional_columns, unknown, held)
        if fast_path and unknown and fast_path.has_overlooked_rows(unknown, found.verdicts, state):
            found = _compare(context, files, state, optional_columns, None, held)
        require_acceptable(context, found)
        yield found


def _compare(
    context: IngestContext,
    files: LandedSnapshot,
    full_state: DataFrame,
    optional_columns: frozenset[str],
    changes: ChangedLines | None,
    stack: ExitStack,
) -> Comparison:
    """The verdicts of a snapshot's rows, or of those that are `unknown`, and their counts."""
    table = context.table
    if changes:
        read, state = changes.parsed, changes.state
    else:
        read, state = (
            snapshot_reader.read(context.spark, table, files, context.pipeline.timezone, optional_columns),
            full_state,
        )
    read = _drop_forgotten_rows(context, read)
    if table.format == "json":  # its objects are taken apart in Python, by a long plan, and asked for several times
        stack.callback(read.rows.persist(StorageLevel.MEMORY_AND_DISK).unpersist)
    verdicts = diff.verdicts(read.rows, state, table, table_schema.stored_schema(table))
    stack.callback(verdicts.persist(StorageLevel.MEMORY_AND_DISK).unpersist)
    counts = _collect_counts(verdicts, files).with_unchanged(changes.unchanged_count if changes else 0)
    return Comparison(files, full_state, read, state, verdicts, counts, changes)


def _unchanged_snapshot(context: IngestContext, entry: LedgerEntry | None) -> LandedSnapshot | None:
    """The snapshot of a row of the ledger, if its files and the configuration are still what they were."""
    landed = landing.find_snapshot(context.lake, context.name, entry.snapshot_time) if entry else None
    if entry is None or landed is None or landed.expired:
        return None
    return landed if fingerprint(context.pipeline, context.name, landed) == entry.fingerprint else None


def _drop_forgotten_rows(
    context: IngestContext, parsed: snapshot_reader.ParsedSnapshot
) -> snapshot_reader.ParsedSnapshot:
    """A snapshot as if rows of forgotten keys were not in it."""
    if not context.forgotten:
        return parsed
    rows = forgotten_keys.drop_forgotten(parsed.rows, context.table, context.forgotten)
    if parsed.record_count is None:
        return replace(parsed, rows=rows)
    passed_over = parsed.rows.where(forgotten_keys.is_forgotten(context.table, context.forgotten)).count()
    return replace(parsed, rows=rows, record_count=parsed.record_count - passed_over)


def undelivered_columns(context: IngestContext) -> frozenset[str]:
    """Declared columns that no snapshot has had yet, added to the schema since: a backlog without them is no fault.

    A change set is written without the columns that its snapshot lacked, so the last one tells.

    Raises:
        ConfigError: `pii` asks for something else than that one holds.
    """
    last = context.history.last_accepted
    if not last or not last.path:
        return frozenset()
    there = context.history.base_state if context.history.base_state and context.history.is_dropped(last) else last
    delivered = change_sets.delivered_columns(context.spark, context.lake, context.table, there)
    return frozenset(name for name in table_schema.stored_schema(context.table).names if name not in delivered)


def _collect_counts(verdicts: DataFrame, snapshot: LandedSnapshot) -> Counts:
    try:
        return Counts(**diff.count_verdicts(verdicts).collect()[0].asDict())
    except SPARK_ERRORS as error:
        raise snapshot_reader.to_data_refused(error, str(snapshot.folder)) from error


def change_set(context: IngestContext, comparison: Comparison, sequence: int) -> DataFrame:
    """The rows that a snapshot inserts, updates and deletes, as they are to be published."""
    table = context.table
    fields = table_schema.stored_schema(table)
    rows, verdicts, counts = comparison.parsed.rows, comparison.verdicts, comparison.counts
    return diff.change_set(rows, comparison.state, verdicts, counts, table, fields, sequence, comparison.snapshot.time)
