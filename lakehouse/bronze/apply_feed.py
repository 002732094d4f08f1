"""Brings a table with a change feed to a batch: one commit for each batch that changes rows.

Only the keys of the batch are computed again, each from all of its events or, if that is enough, from the row that it
has and the accepted batches that overlap the new one (`feed_order`). `ingest` counts the changes of a batch by the same
comparison (`compare_batch`), before the ledger publishes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.bronze import feed, feed_difference, feed_order, scd2
from lakehouse.bronze.read import schema_mismatches, stored_rows
from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.lake import delta, feed_events
from lakehouse.lake.cached_rows import CachedRows
from lakehouse.lake.cdc import DELETE
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.merge import ACTION, MergeTarget, WriteResult, merge_changes, merge_computed, merge_to_match
from lakehouse.lake.table_ref import TableRef, bronze_schema


class Batch(NamedTuple):
    """A batch: its sequence in the ledger, and its time."""

    sequence: int
    time: datetime


def compare_batch(
    table: TableRef,
    before: list[LedgerEntry],
    events: DataFrame,
    batch: Batch,
    current: DataFrame | None = None,
    is_corrected: bool = False,
    all_keys: bool = False,
    overlapping: list[LedgerEntry] | None = None,
) -> DataFrame:
    """Return the changes of a batch in bronze (`feed_difference.compare`).

    Args:
        table: The table, whose bronze is at the last batch before this one.
        before: The ledger rows of the batches before it.
        events: The accepted events of the batch, with their kind.
        batch: The batch.
        current: The rows of bronze before the batch; None: those of bronze.
        is_corrected: Whether a snapshot beside the events is among them.
        all_keys: Whether to compare all keys: the batch replaces another one, whose keys it need not have.
        overlapping: Those of the batches before it that overlap it, if they and bronze may be used in place of all
            (`feed_order`); None: they may not.
    """
    config = table.config
    stored = stored_rows(table) if current is None else current
    earlier: DataFrame | None = None
    if overlapping is not None and feed_order.is_enough(overlapping, before, config):
        stored = feed_order.changeable_rows(stored, config)
        earlier = feed_order.events_before(table, overlapping, events, batch.sequence, stored)
    elif before:
        earlier = feed_events.read(table, before)
    all_events = events if earlier is None else earlier.unionByName(events)
    has_marks = is_corrected or feed_events.has_marks(before)
    truncated, marked = feed.of_all_keys(all_events, config, has_marks)
    if earlier is not None and not all_keys:
        keys = feed.keys_of(events, config)
        if truncated is not None:
            keys = keys.unionByName(feed.truncated_keys(events, stored, config)).distinct()
        all_events = earlier.join(keys, on=list(config.keys), how="left_semi").unionByName(events)
        stored = stored.join(keys, on=list(config.keys), how="left_semi")
    wanted = feed.fold(all_events, truncated, marked, config)
    of_batch = (F.lit(batch.sequence).cast("bigint"), F.lit(batch.time).cast("timestamp"))
    return feed_difference.compare(stored, wanted, config, scd2.row_keys(config), of_batch)


def rows_after(stored: DataFrame, compared: DataFrame, config: Table) -> DataFrame:
    """Return the rows of bronze after some changes; of a table without a history.

    Args:
        stored: The rows before.
        compared: The result of `compare_batch`.
        config: The table's configuration.
    """
    keys, columns = [*map(quote_identifier, config.keys)], [*map(quote_identifier, bronze_schema(config).names)]
    others = stored.select(*columns).join(compared.select(*keys), on=list(config.keys), how="left_anti")
    remaining = compared.where(~F.col(ACTION).eqNullSafe(DELETE))
    return others.select(*columns).unionByName(remaining.select(*columns))


def apply_batch(
    table: TableRef,
    before: list[LedgerEntry],
    entry: LedgerEntry,
    is_replacement: bool,
    target: MergeTarget,
    progress: Mapping[str, Any],
) -> WriteResult:
    """Write the changes of a batch to bronze.

    Args:
        table: The table, whose bronze is at the last batch before this one.
        before: The ledger rows of the batches before it.
        entry: The ledger row of the batch.
        is_replacement: Whether it replaces a batch of the same time.
        target: Bronze.
        progress: The metadata of the commit.

    Raises:
        InfrastructureError: The batch does not have the events that the ledger reports.
    """
    feed_events.prepare_for(table, [*before, entry])
    feed_events.require_complete(table, [entry])
    events, batch = feed_events.read(table, [entry]), Batch(entry.sequence or 0, entry.snapshot_time)
    overlapping = None if is_replacement else _overlapping(table, before, entry)
    is_corrected = feed_events.has_marks([entry])
    compared = compare_batch(
        table, before, events, batch, None, is_corrected, all_keys=is_replacement, overlapping=overlapping
    )
    if not delta.exists(table.spark, table.bronze):
        return merge_to_match(target, compared.select(*_columns(table)), progress)
    written = _write(table, compared, target, progress, entry.changed_rows <= table.tuning.local_rows)
    if not written.committed:  # so that the next run does not compare again
        delta.record_progress(table.spark, table.bronze, progress)
    return written


def _overlapping(table: TableRef, before: list[LedgerEntry], entry: LedgerEntry) -> list[LedgerEntry] | None:
    """Return the accepted batches that overlap one, if they and bronze may be used in place of all."""
    if not before or feed_events.has_marks([*before, entry]):
        return None
    (bounds,) = feed_order.bounds_of_batches(table, [entry])
    return feed_order.overlapping_batches(table, before, bounds)


def repair(
    table: TableRef, entries: list[LedgerEntry], target: MergeTarget, progress: Mapping[str, Any]
) -> WriteResult:
    """Make bronze equal to the fold of all batches, also if its rows are wrong.

    Args:
        table: The table.
        entries: The ledger rows of all batches.
        target: Bronze; it is replaced if its columns do not fit and the target allows it.
        progress: The metadata of the commit.

    Raises:
        InfrastructureError: A batch does not have the events that the ledger reports.
        ConfigError: The columns of bronze do not fit.
    """
    feed_events.prepare_for(table, entries)
    feed_events.require_complete(table, entries)
    wanted = feed.fold_batches(table, entries)
    if not delta.exists(table.spark, table.bronze) or schema_mismatches(table):
        return merge_to_match(target, wanted, progress)
    config = table.config
    compared = feed_difference.compare(stored_rows(table), wanted, config, scd2.row_keys(config), None)
    return _write(table, compared, target, progress, expect_few=False)


def _write(
    table: TableRef, compared: DataFrame, target: MergeTarget, progress: Mapping[str, Any], expect_few: bool
) -> WriteResult:
    """Write the difference; few rows are collected at once, and so computed once."""
    changes, limit = compared.where(F.col(ACTION).isNotNull()).select(ACTION, *_columns(table)), table.tuning.local_rows
    # The driver matches rows by plain values only: not by the start of a window of several columns.
    types = {field.name: field.dataType for field in changes.schema}
    is_plain = not any(isinstance(types[key], T.StructType) for key in target.keys)
    if expect_few and (local := changes.limit(limit + 1).toArrow()).num_rows <= limit:
        counts = Counter(local.column(ACTION).to_pylist())
        few = CachedRows(table.spark.createDataFrame(local, changes.schema), local if is_plain else None)
        return merge_changes(target, few, counts, progress) if counts else WriteResult()
    return merge_computed(target, changes, progress)


def _columns(table: TableRef) -> list[str]:
    return [*map(quote_identifier, bronze_schema(table.config).names)]
