"""Brings a table with a change feed to a batch: one commit for each batch that changes rows.

Only the keys of the batch are computed again, each from all of its events. `ingest` counts the changes of a
batch by the same comparison (`compare_batch`), before the ledger publishes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.bronze import feed, feed_difference, feed_rules, scd2
from lakehouse.bronze.read import schema_mismatches, stored_rows
from lakehouse.config.ddl import quote_identifier
from lakehouse.lake import delta, feed_events
from lakehouse.lake.cached_rows import CachedRows
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.merge import ACTION, MergeTarget, WriteResult, merge_changes, merge_computed, merge_to_match
from lakehouse.lake.table_ref import TableRef, bronze_schema


def compare_batch(
    table: TableRef,
    before: list[LedgerEntry],
    batch: DataFrame,
    sequence: int,
    time: datetime,
    current: DataFrame | None = None,
) -> DataFrame:
    """Return the changes of a batch in bronze (`feed_difference.compare`).

    Args:
        table: The table, whose bronze is at the last batch before this one.
        before: The ledger rows of the batches before it.
        batch: The accepted events of the batch, with their kind.
        sequence: The batch's sequence.
        time: The batch's time.
        current: The rows of bronze before the batch; None: those of bronze.
    """
    config = table.config
    stored = stored_rows(table) if current is None else current
    all_events = feed_events.read(table, before).unionByName(batch) if before else batch
    truncated = None
    if feed_rules.has_truncates(config):
        truncated = feed.truncates(all_events, config)
    if before:
        keys = feed.keys_of(batch, config)
        if truncated is not None:
            keys = keys.unionByName(feed.truncated_keys(batch, stored, config)).distinct()
        all_events = all_events.join(keys, on=list(config.keys), how="left_semi")
        stored = stored.join(keys, on=list(config.keys), how="left_semi")
    wanted = feed.fold(all_events, truncated, config)
    of_batch = (F.lit(sequence).cast("bigint"), F.lit(time).cast("timestamp"))
    return feed_difference.compare(stored, wanted, config, scd2.row_keys(config), of_batch)


def apply_batch(
    table: TableRef, before: list[LedgerEntry], entry: LedgerEntry, target: MergeTarget, progress: Mapping[str, Any]
) -> WriteResult:
    """Write the changes of a batch to bronze.

    Args:
        table: The table, whose bronze is at the last batch before this one.
        before: The ledger rows of the batches before it.
        entry: The ledger row of the batch.
        target: Bronze.
        progress: The metadata of the commit.

    Raises:
        InfrastructureError: The batch does not have the events that the ledger reports.
    """
    feed_events.require_complete(table, [entry])
    batch = feed_events.read(table, [entry])
    compared = compare_batch(table, before, batch, entry.sequence or 0, entry.snapshot_time)
    if not delta.exists(table.spark, table.bronze):
        return merge_to_match(target, compared.select(*_columns(table)), progress)
    written = _write(table, compared, target, progress, entry.changed_rows <= table.tuning.local_rows)
    if not written.committed:  # so that the next run does not compare again
        delta.record_progress(table.spark, table.bronze, progress)
    return written


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
