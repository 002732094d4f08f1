"""Brings a table with a change feed to a batch: one commit for each batch that changes rows.

Only the keys of the batch are computed again, each from all of its events or, if that is enough, from the row that it
has and the accepted batches that overlap the new one (`feed_order`). `ingest` counts the changes of a batch by the same
comparison (`compare_batch`), before the ledger publishes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.bronze import feed, feed_difference, feed_order, scd2
from lakehouse.bronze.read import schema_mismatches, stored_rows
from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.lake import delta, feed_events
from lakehouse.lake.cached_rows import CachedRows, collect_few
from lakehouse.lake.cdc import DELETE
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.merge import ACTION, MergeTarget, WriteResult, merge_changes, merge_computed, merge_to_match
from lakehouse.lake.table_ref import TableRef, bronze_schema


class Batch(NamedTuple):
    """A batch: its sequence in the ledger, and its time."""

    sequence: int
    time: datetime


@dataclass(frozen=True)
class ComputedBatch:
    """The few changes of a batch in bronze, as `ingest` computed them: bronze need not compute them again.

    Attributes:
        batch: The batch.
        bronze: The version of bronze that the changes are a difference from (`version_of`); None: there is no bronze.
        rows: The rows that change: the columns of bronze, and `ACTION`.
        schema: Their types.
    """

    batch: Batch
    bronze: BronzeVersion | None
    rows: pa.Table
    schema: T.StructType

    def is_of(self, table: TableRef, entry: LedgerEntry) -> bool:
        """Return whether these are the changes of a batch in bronze as it is now.

        Args:
            table: The table.
            entry: The ledger row of the batch.
        """
        return self.batch == (entry.sequence, entry.snapshot_time) and self.bronze == version_of(table)


class BronzeVersion(NamedTuple):
    """A version of a table: Delta's id of the table, and the version's number."""

    id: str
    number: int


def version_of(table: TableRef) -> BronzeVersion | None:
    """Return the current version of bronze; None: there is none.

    Args:
        table: The table.
    """
    version = delta.current_version(table.spark, table.bronze)
    return BronzeVersion(version.id, version.version) if version else None


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
    if stand_ins := feed_order.find_stand_ins(table, before, overlapping, events, batch.sequence, stored):
        earlier, stored = stand_ins
    elif before:
        earlier = feed_events.read(table, before)
    all_events = events if earlier is None else earlier.unionByName(events)
    has_marks = is_corrected or feed_events.has_marks(before)
    truncated, marked = feed.of_all_keys(all_events, config, has_marks)
    if earlier is not None and not all_keys:
        keys = feed_order.affected_keys(events, stored, config)
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
    computed: ComputedBatch | None,
) -> WriteResult:
    """Write the changes of a batch to bronze.

    Args:
        table: The table, whose bronze is at the last batch before this one.
        before: The ledger rows of the batches before it.
        entry: The ledger row of the batch.
        is_replacement: Whether it replaces a batch of the same time.
        target: Bronze.
        progress: The metadata of the commit.
        computed: The changes of the newest batch, if `ingest` has just computed them.

    Raises:
        InfrastructureError: The batch does not have the events that the ledger reports.
    """
    feed_events.require_complete(table, [entry])
    if computed is not None and computed.is_of(table, entry):
        written = _write_few(table, computed.rows, computed.schema, target, progress)
    else:
        compared = _compare(table, before, entry, is_replacement)
        written = _write(table, compared, target, progress, entry.changed_rows <= table.tuning.local_rows)
    if not written.committed:  # so that the next run does not compare again
        delta.record_progress(table.spark, table.bronze, progress)
    return written


def _compare(table: TableRef, before: list[LedgerEntry], entry: LedgerEntry, is_replacement: bool) -> DataFrame:
    """Return the changes of a batch in bronze, computed from the events in raw."""
    feed_events.prepare_for(table, [*before, entry])
    events, batch = feed_events.read(table, [entry]), Batch(entry.sequence or 0, entry.snapshot_time)
    overlapping = None if is_replacement else _overlapping(table, before, entry)
    is_corrected = feed_events.has_marks([entry])
    return compare_batch(
        table, before, events, batch, None, is_corrected, all_keys=is_replacement, overlapping=overlapping
    )


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
    if not delta.exists(table.spark, table.bronze):  # all of them are inserts
        return merge_to_match(target, compared.select(*_columns(table)), progress)
    changes = changed_rows(compared, table)
    if expect_few and (local := collect_few(changes, table.tuning.local_rows)) is not None:
        return _write_few(table, local, changes.schema, target, progress)
    return merge_computed(target, changes, progress)


def changed_rows(compared: DataFrame, table: TableRef) -> DataFrame:
    """Return the rows of bronze that a comparison changes, with `ACTION`.

    Args:
        compared: The result of `compare_batch`.
        table: The table.
    """
    return compared.where(F.col(ACTION).isNotNull()).select(ACTION, *_columns(table))


def _write_few(
    table: TableRef, changes: pa.Table, schema: T.StructType, target: MergeTarget, progress: Mapping[str, Any]
) -> WriteResult:
    """Write changes that the driver has."""
    if not delta.exists(table.spark, table.bronze):  # all of them are inserts
        return merge_to_match(target, _in_driver(table, changes, schema).drop([ACTION]), progress)
    # The driver matches rows by plain values only: not by the start of a window of several columns.
    is_plain = not any(isinstance(schema[key].dataType, T.StructType) for key in target.keys)
    few, counts = _in_driver(table, changes, schema), Counter(changes.column(ACTION).to_pylist())
    few = few if is_plain else CachedRows(few.rows)
    return merge_changes(target, few, counts, progress) if counts else WriteResult()


def _in_driver(table: TableRef, rows: pa.Table, schema: T.StructType) -> CachedRows:
    return CachedRows(table.spark.createDataFrame(rows, schema), rows)


def _columns(table: TableRef) -> list[str]:
    return [*map(quote_identifier, bronze_schema(table.config).names)]
