"""Compares a landed snapshot with the rows before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from pyspark.sql import functions as F

from lakehouse.errors import ConfigError, DataRefused
from lakehouse.ingest import diff, feed, local, slices
from lakehouse.ingest.comparison import Comparison, LocalComparison, SparkComparison
from lakehouse.ingest.context import IngestContext, StateRows
from lakehouse.ingest.feed import compare_feed
from lakehouse.ingest.guards import require_acceptable
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.readers.missing_columns import MissingColumns
from lakehouse.ingest.readers.parsed_file import ParsedSnapshot, ReadSettings
from lakehouse.ingest.renamed_columns import with_offered_names
from lakehouse.lake import change_sets, forgotten_keys
from lakehouse.spark.persist import persist_rows
from lakehouse.spark.session import SPARK_ERRORS, is_local
from lakehouse.storage import row_sizes, temp_dirs
from lakehouse.storage.archives import is_packed
from lakehouse.storage.file_kind import other_format
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name
from lakehouse.storage.prepare_files import readable_snapshot

_CLUSTER_BYTES = 64 << 20


@contextmanager
def compare_snapshot(
    context: IngestContext,
    snapshot: LandedSnapshot,
    before: StateRows,
    optional_columns: frozenset[str],
) -> Iterator[Comparison]:
    """Read a snapshot and compare it with the rows before it. In order:

    1. prepare its files for reading                                       storage/prepare_files.py
    2. read and compare it in the driver, if that knows its types          local/
    3. else read it by the declared schema and compare it with Spark       readers/, diff.py
    4. raise if it cannot be accepted, regardless of the guards            guards.py

    Args:
        context: The table's ingest.
        snapshot: The landed snapshot.
        before: The current rows of the table.
        optional_columns: Declared columns that the snapshot may lack.

    Raises:
        DataRefused: The snapshot cannot be accepted.
        ConfigError: Retention deleted its files.
    """
    if snapshot.expired:
        raise ConfigError(
            f"the files of the snapshot {snapshot_name(snapshot.time)} of {context.table.name} have expired",
            expected="a snapshot that `retention` has not reached",
            where=str(snapshot.folder),
            next_step=f"lakehouse history {context.pipeline.argument} {context.table.name}, for what it changed",
        )
    settings = context.read_settings(optional_columns)
    with ExitStack() as stack:
        try:
            readable = stack.enter_context(readable_snapshot(context.table.lake, context.config, snapshot))
            row_sizes.require_moderate_rows(context.config, readable)
            comparison: Comparison | None
            if context.config.feed:
                comparison = stack.enter_context(compare_feed(context, readable, before, optional_columns))
            else:
                snapshot_reader.require_readable_names(settings, readable)
                comparison = _compare_in_driver(context, readable, before, settings, stack)
            if comparison is None:
                parsed = snapshot_reader.read(settings, readable)
                comparison = _compare(context, readable, parsed, before, stack)
            require_acceptable(comparison)
        except DataRefused as refused:
            if isinstance(refused, MissingColumns):
                better = _with_offered_names(context, readable, before, optional_columns, refused)
            else:
                better = _other_format(context, snapshot) or refused
            if better is refused:
                raise
            raise better from refused
        yield comparison


def _with_offered_names(
    context: IngestContext,
    readable: LandedSnapshot,
    before: StateRows,
    optional_columns: frozenset[str],
    refused: MissingColumns,
) -> DataRefused:
    """Return the refusal of a file that lacks columns: it is of another format, or its columns may be renamed."""

    def compare(as_named: IngestContext, others: frozenset[str], stack: ExitStack) -> LocalComparison | None:
        settings = as_named.read_settings(optional_columns | others)
        return _compare_in_driver(as_named, readable, before, settings, stack)

    return _other_format(context, readable) or with_offered_names(context, readable, refused, compare)


def _other_format(context: IngestContext, snapshot: LandedSnapshot) -> DataRefused | None:
    """Return the refusal of a file of another format, which explains every other one; None if there is no such file."""
    found = (other_format(path, context.config.format) for path in snapshot.paths if not is_packed(path.name))
    return next((refused for refused in found if refused), None)


def _compare_in_driver(
    context: IngestContext, snapshot: LandedSnapshot, before: StateRows, settings: ReadSettings, stack: ExitStack
) -> LocalComparison | None:
    """Compare the rows in the driver; return None if only Spark can."""
    table = context.table
    limit = table.tuning.driver_compare_bytes
    if context.forgotten or not limit or snapshot.size > limit or not local.can_compare(context.config):
        return None
    if snapshot.size > _CLUSTER_BYTES and not is_local(table.spark):  # executors share the work on a large snapshot
        return None
    state = before.find()
    if state is None:
        return None
    with ExitStack() as until_compared:
        preloaded = None
        if context.backlog:
            connection, preloaded = context.backlog.database, context.backlog.preloaded_rows(settings, snapshot)
        else:
            connection = until_compared.enter_context(open_database(context, snapshot.size))
        rows = local.compare_in_driver(settings, snapshot, state, connection, before.grace, preloaded, before.time)
        if rows is None:  # Spark needs the memory now
            return None
        stack.callback(until_compared.pop_all().close)
    unknown, missing = rows.unknown_columns, rows.missing_columns
    return LocalComparison(
        context, snapshot, before, rows.counts, rows.record_count, unknown, missing, rows.slices, rows
    )


@contextmanager
def open_database(context: IngestContext, data_bytes: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database for comparisons in the driver, and a temporary folder for data that does not fit in memory.

    Args:
        context: The table's ingest.
        data_bytes: The size of the largest snapshot.
    """
    root = context.table.lake.local_path("plain")
    with ExitStack() as stack:
        # `lakehouse diff` before the first run creates no lake.
        if root.parent.exists():
            folder = stack.enter_context(temp_dirs.temp_dir(root))
        else:
            folder = Path(stack.enter_context(TemporaryDirectory()))
        connection = local.open_database(folder, data_bytes, context.pipeline.timezone)
        stack.callback(connection.close)
        yield connection


def _compare(
    context: IngestContext,
    snapshot: LandedSnapshot,
    parsed: ParsedSnapshot,
    before: StateRows,
    stack: ExitStack,
) -> SparkComparison:
    """Compare the rows with Spark."""
    record_count = parsed.record_count
    if context.forgotten:  # as if the snapshot had never had the rows of forgotten keys
        if record_count is not None:
            is_forgotten = forgotten_keys.is_forgotten(context.config, context.forgotten)
            record_count -= parsed.rows.where(is_forgotten).count()
        remaining = forgotten_keys.drop_forgotten(parsed.rows, context.config, context.forgotten)
        parsed = replace(parsed, rows=remaining)
    if context.config.format == "json":  # Python splits its objects in a long plan, and the rows are used several times
        stack.enter_context(persist_rows(parsed.rows))
    verdicts = stack.enter_context(persist_rows(diff.verdicts(parsed.rows, before.frame, context.config, before.grace)))
    found, live_rows = None, None
    try:
        if context.config.slice_by:
            in_names = slices.slices_in_names(context.read_settings(), snapshot)
            found = slices.find_slices(verdicts, in_names, context.config, str(snapshot.folder))
            verdicts, live_rows = slices.restrict_to_slices(verdicts, found, before.grace), F.col(slices.IN_SLICES)
        counts = diff.Counts(**diff.count_verdicts(verdicts, live_rows).collect()[0].asDict())
    except SPARK_ERRORS as error:
        raise snapshot_reader.to_data_refused(error, str(snapshot.folder)) from error
    unknown, missing = parsed.unknown_columns, parsed.missing_columns
    return SparkComparison(context, snapshot, before, counts, record_count, unknown, missing, found, parsed, verdicts)


def undelivered_columns(context: IngestContext) -> frozenset[str]:
    """Return the declared columns that no snapshot has had yet, so that older snapshots may lack them.

    Of a feed, it is those that an accepted batch lacked.

    A change set has only the columns of its snapshot, so the last change set shows which were delivered.

    Raises:
        ConfigError: `pii` was changed since the last change set was written.
    """
    if context.config.feed:
        return feed.undelivered_columns(context)
    history, last = context.history, context.history.last_accepted
    if not last or not last.path:
        return frozenset()
    entry = history.base_state if history.base_state and history.is_dropped(last) else last
    if context.backlog and (undelivered := context.backlog.undelivered.get(entry.path or "")) is not None:
        return undelivered
    delivered = change_sets.delivered_columns(context.table, entry)
    return frozenset(name for name in context.table.schema.names if name not in delivered)
