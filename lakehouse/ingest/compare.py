"""Compares a landed snapshot with the rows before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from pyspark.sql import DataFrame

from lakehouse.errors import ConfigError
from lakehouse.ingest import diff
from lakehouse.ingest.context import Comparison, IngestContext
from lakehouse.ingest.fast_path import FastPath
from lakehouse.ingest.guards import require_acceptable
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.readers.parsed_file import ParsedSnapshot
from lakehouse.lake import change_sets, forgotten_keys
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.spark.persist import persist_rows
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name
from lakehouse.storage.prepare_files import readable_snapshot


@contextmanager
def compare_snapshot(
    context: IngestContext,
    snapshot: LandedSnapshot,
    state: DataFrame,
    optional_columns: frozenset[str],
    use_fast_path: bool = False,
) -> Iterator[Comparison]:
    """Read a snapshot and compare it with the rows before it. In order:

    1. prepare its files for reading                                       storage/prepare_files.py
    2. compare only its changed lines with bronze, if that is possible     fast_path/
    3. else read it by the declared schema and compare all rows            readers/, diff.py
    4. raise if it cannot be accepted, whatever the guards allow           guards.py

    Args:
        context: The table's ingest.
        snapshot: The landed snapshot.
        state: The current rows of the table.
        optional_columns: Declared columns that the snapshot may lack.
        use_fast_path: Whether `state` is bronze with the last accepted snapshot, so that lines can be compared.

    Raises:
        DataRefused: The snapshot cannot be accepted.
        ConfigError: Retention deleted its files.
    """
    if snapshot.expired:
        raise ConfigError(
            f"the files of the snapshot {snapshot_name(snapshot.time)} of {context.table.name} have expired",
            expected="a snapshot that `retention` has not reached",
            where=str(snapshot.folder),
            next_step=f"lakehouse history {context.pipeline.folder} {context.table.name}, for what it changed",
        )
    with readable_snapshot(context.table.lake, context.config, snapshot) as readable, ExitStack() as stack:
        comparison = _compare_changed_lines(context, readable, state, stack) if use_fast_path else None
        if comparison is None:
            parsed = snapshot_reader.read(context.read_settings(optional_columns), readable)
            comparison = _compare(context, readable, parsed, state, stack)
        require_acceptable(context, comparison)
        yield comparison


def _compare_changed_lines(
    context: IngestContext, snapshot: LandedSnapshot, state: DataFrame, stack: ExitStack
) -> Comparison | None:
    """Compare only the lines that the last accepted snapshot does not have; return None if that is not possible."""
    last, fast_path = context.history.last_accepted, _fast_path(context)
    if fast_path is None or last is None:
        return None
    before = landing.find_snapshot(context.table.lake, context.table.name, last.snapshot_time)
    if before is None or before.expired or context.fingerprint(before) != last.fingerprint:
        return None  # the files or the configuration changed since
    changes = fast_path.find_changes(last, before, snapshot, state, stack)
    if changes is None:
        return None
    comparison = _compare(context, snapshot, changes.parsed, changes.state, stack)
    if fast_path.has_overlooked_rows(changes, comparison.verdicts, state):
        return None
    counts = comparison.counts.with_unchanged(changes.unchanged_count)
    return replace(comparison, full_state=state, counts=counts, changes=changes)


def _fast_path(context: IngestContext) -> FastPath | None:
    # It keeps hashes of lines, and keys as received: not of personal data, nor of keys to be forgotten.
    is_private = context.config.pii or context.forgotten
    return None if is_private else FastPath(context.table, context.read_settings())


def _compare(
    context: IngestContext, snapshot: LandedSnapshot, parsed: ParsedSnapshot, state: DataFrame, stack: ExitStack
) -> Comparison:
    if context.forgotten:  # as if the snapshot had never had the rows of forgotten keys
        rows, record_count = parsed.rows, parsed.record_count
        if record_count is not None:
            record_count -= rows.where(forgotten_keys.is_forgotten(context.config, context.forgotten)).count()
        remaining = forgotten_keys.drop_forgotten(rows, context.config, context.forgotten)
        parsed = replace(parsed, rows=remaining, record_count=record_count)
    if context.config.format == "json":  # Python splits its objects in a long plan, and the rows are used several times
        stack.enter_context(persist_rows(parsed.rows))
    verdicts = stack.enter_context(persist_rows(diff.verdicts(parsed.rows, state, context.config)))
    try:
        counts = diff.Counts(**diff.count_verdicts(verdicts).collect()[0].asDict())
    except SPARK_ERRORS as error:
        raise snapshot_reader.to_data_refused(error, str(snapshot.folder)) from error
    return Comparison(snapshot, state, parsed, state, verdicts, counts)


def prepare_next_comparison(context: IngestContext, comparison: Comparison, entry: LedgerEntry) -> None:
    """Save what the fast path needs to compare the next snapshot with this one.

    Args:
        context: The table's ingest.
        comparison: The comparison of the snapshot.
        entry: Its ledger row, which is about to be appended.
    """
    if fast_path := _fast_path(context):
        fast_path.save_faulty_lines(comparison.snapshot, entry, comparison.verdicts, comparison.changes)


def undelivered_columns(context: IngestContext) -> frozenset[str]:
    """Return the declared columns that no snapshot has had yet, so that older snapshots may lack them.

    A change set has only the columns of its snapshot, so the last change set shows which were delivered.

    Raises:
        ConfigError: `pii` was changed since the last change set was written.
    """
    history, last = context.history, context.history.last_accepted
    if not last or not last.path:
        return frozenset()
    entry = history.base_state if history.base_state and history.is_dropped(last) else last
    delivered = change_sets.delivered_columns(context.table, entry)
    return frozenset(name for name in context.table.schema.names if name not in delivered)


def change_set(context: IngestContext, comparison: Comparison, sequence: int) -> DataFrame:
    """Return the rows that a snapshot inserts, updates and deletes, with their `_cdc_*` columns.

    Args:
        context: The table's ingest.
        comparison: The comparison of the snapshot.
        sequence: The sequence that the change set gets.
    """
    rows, counts = comparison.parsed.rows, comparison.counts
    changes = diff.changed_rows(rows, comparison.state, comparison.verdicts, counts, context.config)
    return diff.to_change_set(changes, sequence, comparison.snapshot.time)
