"""Writes rows into Delta tables: one MERGE of the difference makes a table equal to the wanted rows.

Bronze, silver, gold, quarantine, repairs and full refreshes are all written this way. Equal rows are not written, and
no difference makes no commit. So every step can run again, and no reader sees a change where nothing changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.column_names import stored_names
from lakehouse.config.ddl import quote_identifier
from lakehouse.config.tuning import Tuning
from lakehouse.errors import ConfigError
from lakehouse.failpoints import failpoint
from lakehouse.lake import (
    delta,
    delta_transaction,
    file_stats,
    local_diff,
    local_writer,
    marked_merge,
    small_tables,
)
from lakehouse.lake.cached_rows import CachedRows, ValueRanges, collect_few, filter_to_ranges
from lakehouse.lake.duckdb_sql import WIDE, connect
from lakehouse.lake.table_rules import explain_refusal
from lakehouse.schema.mismatch import schema_mismatches
from lakehouse.spark.session import is_local, isolated_session
from lakehouse.storage import temp_dirs

ACTION = "_cdc_action"

# In a table that is sorted, files hold few values of its column: less is read to find one, and rewritten to change it.
_ROWS_PER_FILE = 250_000
_ROWS_PER_FILE_CONF = "spark.sql.files.maxRecordsPerFile"

# MERGE reads its source twice. Local rows are the same each time; those of a plan have to be materialized.
_UNCOMPRESSED = 8  # times the bytes of a file: about what its rows take in memory
_MATERIALIZE_CONF = "spark.databricks.delta.merge.materializeSource"


@dataclass(frozen=True)
class MergeTarget:
    """A Delta table to write to, and how to write it.

    Attributes:
        spark: A session that nobody else uses: writing changes its settings.
        address: The table's address. The table is created if there is none.
        keys: The columns that identify a row. Null is a value like any other in them.
        is_large: Whether to mark changed rows (deletion vectors) instead of rewriting files.
        replace: Whether to replace a table whose columns do not fit the wanted rows, instead of raising; called only
            if they do not.
        sort_by: A column by which the rows of a new or replaced table are sorted.
        tuning: The thresholds up to which the driver collects changed rows, and reads and writes the table itself.
        temp_root: Where the driver may create folders for rows of a large table; None: Spark writes it.
        rebuild: The command that replaces the table if its columns do not fit, after `lakehouse`; "" if there is none.
    """

    spark: SparkSession
    address: str
    keys: list[str]
    is_large: bool = False
    replace: Callable[[], bool] = lambda: False
    sort_by: str | None = None
    tuning: Tuning = field(default_factory=Tuning)
    temp_root: Path | None = None
    rebuild: str = ""


@dataclass(frozen=True)
class WriteResult:
    """The counts of rows that a write changed, and whether it made a commit: it does not if nothing differed."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    committed: bool = False


def merge_to_match(
    target: MergeTarget,
    wanted: CachedRows | DataFrame,
    progress: Mapping[str, Any],
    affected: CachedRows | DataFrame | None = None,
    expect_few: bool = False,
) -> WriteResult:
    """Make a table equal to the wanted rows, in at most one commit. In order:

    1. create the table if there is none; check that its columns fit, and add new ones
       (a column whose name differs in case only is the same one, and keeps the table's name)
    2. read its rows that are affected
    3. compare them with the wanted rows: one action (I, U or D) per row that differs
    4. MERGE these actions

    Args:
        target: The table.
        wanted: Rows with unique keys, and with all columns that the table is to have.
        progress: The metadata that the commit records (`delta.commit_metadata`).
        affected: Rows of some of the table's columns: only rows of the table that match one of them are compared, and
            deleted if they are not wanted. None: all rows.
        expect_few: Whether few rows are expected to differ, so that the driver collects them at once.

    Returns:
        How many rows changed.

    Raises:
        ConfigError: A column of the table is not in `wanted`, or has another type there; or a property that somebody
            set on the table forbids the write.
        DataRefused: A row does not meet a constraint that somebody set on the table.
    """
    wanted = wanted if isinstance(wanted, CachedRows) else CachedRows(wanted)
    affected = CachedRows(affected) if isinstance(affected, DataFrame) else affected
    if not delta.exists(target.spark, target.address):
        return _create_new(target, wanted, progress, expect_few)
    stored = delta.schema(target.spark, target.address)
    target = replace(target, keys=stored_names(target.keys, stored.names))
    wanted = _with_stored_names(wanted, stored)
    affected = _with_stored_names(affected, stored) if affected is not None else None
    # Stored rows have no value in a key that is a new column, so that they match none of the wanted ones.
    new_keys = [f"the key {key} is new" for key in target.keys if key not in stored.names]
    if mismatches := schema_mismatches(stored, wanted.rows.schema) + new_keys:
        if target.replace():
            return _create(target, wanted.rows, progress, "overwrite")
        raise ConfigError(
            f"the columns of {target.address} changed: {'; '.join(mismatches)}",
            expected="the same columns, or new ones in addition",
            where=target.address,
            next_step=f"lakehouse {target.rebuild}" if target.rebuild else "run the same command with --full-refresh",
        )
    _prepare(target, wanted.rows.schema)
    if expect_few and (actions := _compare_in_driver(target, wanted, affected)) is not None:
        return _merge_local(target, actions, progress, {})  # a small table has no files worth skipping
    return _compare_and_merge(target, wanted.rows, progress, affected, expect_few)


def delete_doubled(target: MergeTarget) -> None:
    """Delete the rows of each key that more than one row has: another writer put them there, and MERGE goes by keys.

    This is a commit without progress, so that the table counts as changed by others until it is made equal to the rows
    that it is to have, all of them.

    Args:
        target: The table; nothing is done if it does not exist, or lacks one of the keys.
    """
    if not delta.exists(target.spark, target.address):
        return
    stored = delta.schema(target.spark, target.address).names
    keys = stored_names(target.keys, stored)
    if not {*keys} <= {*stored}:
        return
    rows = delta.read(target.spark, target.address).groupBy(*map(quote_identifier, keys))
    doubled = rows.count().where("count > 1").select(*map(quote_identifier, keys))
    if not doubled.isEmpty():
        table = delta.table(target.spark, target.address).alias("t")
        with explain_refusal(target.spark, target.address):
            table.merge(doubled.alias("s"), _keys_match("t", "s", keys)).whenMatchedDelete().execute()


def _with_stored_names(cached: CachedRows, stored: T.StructType) -> CachedRows:
    """Return rows with the column names of a table, where these differ in case only."""
    names = stored_names(cached.rows.columns, stored.names)
    if names == cached.rows.columns:
        return cached
    local = cached.local_rows.rename_columns(names) if cached.local_rows is not None else None
    return replace(cached, rows=cached.rows.toDF(*names), local_rows=local)


def _compare_and_merge(
    target: MergeTarget,
    wanted: DataFrame,
    progress: Mapping[str, Any],
    affected: CachedRows | None,
    expect_few: bool,
) -> WriteResult:
    """Let Spark compare a table with the wanted rows, and merge the difference."""
    spark = target.spark
    current = delta.read(spark, target.address).select(*map(quote_identifier, wanted.columns))
    value_ranges: ValueRanges = {}
    if affected is not None:
        value_ranges = affected.value_ranges()
        current = filter_to_ranges(current, value_ranges).alias("c")
        is_affected = _keys_match("c", "a", affected.rows.columns)
        current = current.join(affected.rows.alias("a"), on=is_affected, how="left_semi")
    actions = row_actions(current, wanted, target.keys)
    if expect_few and (local := collect_few(actions, target.tuning.local_rows)) is not None:
        few = CachedRows(spark.createDataFrame(local, actions.schema), local)
        return _merge_local(target, few, progress, value_ranges)
    return _merge_computed(target, actions, progress, value_ranges)


def merge_computed(target: MergeTarget, actions: DataFrame, progress: Mapping[str, Any]) -> WriteResult:
    """Write rows that are known to be the difference from a table, and that Spark computes once.

    Args:
        target: The table, which exists.
        actions: The rows, with their action (I, U or D) in the column `_cdc_action`.
        progress: The metadata that the commit records.

    Returns:
        How many rows changed.
    """
    _prepare(target, T.StructType([f for f in actions.schema if f.name != ACTION]))
    return _merge_computed(target, actions, progress, {})


def _merge_computed(
    target: MergeTarget, actions: DataFrame, progress: Mapping[str, Any], value_ranges: ValueRanges
) -> WriteResult:
    max_local_rows = target.tuning.local_rows
    target.spark.conf.set(_MATERIALIZE_CONF, "auto")
    actions = actions.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        counts = Counter({row[ACTION]: row["count"] for row in actions.groupBy(ACTION).count().collect()})
        if 0 < counts.total() <= max_local_rows and _merge_in_driver(target, actions.toArrow(), progress):
            return _result(counts)
        return _merge(target, actions, counts, progress, value_ranges)
    finally:
        actions.unpersist()


def _compare_in_driver(target: MergeTarget, wanted: CachedRows, affected: CachedRows | None) -> CachedRows | None:
    """Return the actions that make a small table equal to the wanted rows, or None if Spark has to compare them."""
    fields, limit = wanted.rows.schema, target.tuning.driver_rows
    if (affected is not None and affected.local_rows is None) or not local_diff.can_compare(fields, target.keys):
        return None
    current = small_tables.read_rows(target.address, target.tuning.small_table_bytes)
    if current is None or not {*fields.names} <= {*current.column_names}:  # names may differ in case
        return None
    local = wanted.local_rows if wanted.local_rows is not None else wanted.rows.limit(limit + 1).toArrow()
    if local.num_rows > limit:
        return None
    local = local.cast(small_tables.arrow_schema(fields))
    keys = affected.local_rows if affected else None
    actions = local_diff.row_actions(current, local, target.keys, ACTION, keys)
    schema = T.StructType([T.StructField(ACTION, T.StringType()), *(T.StructField(f.name, f.dataType) for f in fields)])
    return CachedRows(small_tables.to_frame(target.spark, actions, schema), actions)


def _merge_local(
    target: MergeTarget, actions: CachedRows, progress: Mapping[str, Any], value_ranges: ValueRanges
) -> WriteResult:
    local = actions.local_rows
    assert local is not None
    counts = Counter(local.column(ACTION).to_pylist())
    if not counts:
        return WriteResult()
    tuning = target.tuning
    # delta-rs is the fastest for few rows; its planning grows with the square of the columns.
    is_small = local.num_rows <= tuning.driver_rows and local.num_columns <= WIDE and not target.is_large
    max_bytes = tuning.driver_write_bytes if is_small and tuning.small_table_bytes else 0
    if max_bytes and local_writer.merge(target.address, local, target.keys, ACTION, progress, max_bytes):
        return _result(counts)
    if _merge_in_driver(target, local, progress):
        return _result(counts)
    target.spark.conf.set(_MATERIALIZE_CONF, "none")
    return _merge(target, actions.rows, counts, progress, value_ranges)


def merge_changes(
    target: MergeTarget, changes: CachedRows, action_counts: Mapping[str, int], progress: Mapping[str, Any]
) -> WriteResult:
    """Write rows that are known to be the difference from a table, without comparing them again.

    Args:
        target: The table, which exists.
        changes: Rows that read the same each time, with their action (I, U or D) in the column `_cdc_action`.
        action_counts: How many rows there are of each action.
        progress: The metadata that the commit records.

    Returns:
        How many rows changed.
    """
    rows = changes.rows
    _prepare(target, T.StructType([f for f in rows.schema if f.name != ACTION]))
    if changes.local_rows is not None:
        return _merge_local(target, changes, progress, {})
    if sum(action_counts.values()) <= target.tuning.local_rows:
        rows = target.spark.createDataFrame(rows.toArrow(), rows.schema)
    target.spark.conf.set(_MATERIALIZE_CONF, "none")
    return _merge(target, rows, Counter(action_counts), progress, {})


def merge_batches(
    target: MergeTarget, actions: pa.RecordBatchReader, schema: T.StructType, progress: Mapping[str, Any]
) -> bool:
    """Write rows that are known to be the difference from a table, in the driver, however many they are.

    Args:
        target: The table, which exists.
        actions: The rows, with their action (I, U or D) in the column `_cdc_action`.
        schema: The other columns.
        progress: The metadata that the commit records.

    Returns:
        Whether they were written; if not, `merge_changes` has to do it.
    """
    _prepare(target, schema)
    return _merge_in_driver(target, actions, progress)


def _merge_in_driver(
    target: MergeTarget, actions: pa.Table | pa.RecordBatchReader, progress: Mapping[str, Any]
) -> bool:
    if target.temp_root is None or not target.tuning.small_table_bytes:
        return False
    spark = isolated_session(target.spark, 0)  # the rows are the driver's; Spark has only a commit to make
    address, keys, temp_root = target.address, target.keys, target.temp_root
    return marked_merge.merge(spark, address, actions, keys, ACTION, progress, temp_root, target.is_large)


def create_from_batches(
    target: MergeTarget, rows: pa.RecordBatchReader, schema: T.StructType, row_count: int, progress: Mapping[str, Any]
) -> bool:
    """Create a table of any size in the driver.

    Args:
        target: The table, which does not exist.
        rows: Its rows.
        schema: Their columns.
        row_count: The number of the rows.
        progress: The metadata that the commit records.

    Returns:
        Whether it was created; if not, Spark has to do it.
    """
    properties = delta.table_properties(large=False)  # enabled when the first change needs deletion vectors
    if not target.tuning.small_table_bytes or not is_local(target.spark):
        return False
    is_known = local_writer.has_plain_columns(schema) and local_diff.can_compare(schema, target.keys)
    can_commit = is_known and delta_transaction.can_commit(target.spark, target.address)
    if row_count <= target.tuning.driver_rows or target.temp_root is None or not can_commit:
        return local_writer.create(target.address, rows, schema, properties, progress)
    nullable = T.StructType([T.StructField(field.name, field.dataType) for field in schema])
    with temp_dirs.temp_dir(target.temp_root) as folder:
        try:
            with connect(folder / "spilled", 0) as connection:
                connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
                connection.register("incoming", rows)
                files = file_stats.write_files(connection, "SELECT * FROM incoming", nullable, folder / "rows")
        except duckdb.Error:  # Spark reads the rows itself, and reports what is wrong with them
            return False
        spark = isolated_session(target.spark, 0)
        return delta_transaction.create(spark, target.address, nullable, properties, progress, files)


def row_actions(current: DataFrame, wanted: DataFrame, keys: list[str]) -> DataFrame:
    """Return the actions that make `current` equal to `wanted`.

    Args:
        current: Rows with unique keys.
        wanted: Rows with unique keys and the same columns.
        keys: The key columns.

    Returns:
        The rows of `wanted` that differ, with I or U in the column `_cdc_action`, and the keys of the rows that only
        `current` has, with D.
    """
    columns = wanted.columns
    names = [quote_identifier(column) for column in columns]
    before = current.select(F.lit(True).alias("_cdc_in_current"), F.struct(*names).alias("c"))
    after = wanted.select(F.lit(True).alias("_cdc_in_wanted"), F.struct(*names).alias("w"))
    both = before.join(after, on=_keys_match("c", "w", keys), how="full")
    values = [column for column in columns if column not in keys]
    differs = reduce(Column.__or__, [~_equal("c", "w", column) for column in values], F.lit(False))
    action = F.when(F.col("_cdc_in_current").isNull(), "I").when(F.col("_cdc_in_wanted").isNull(), "D")
    selected = [
        F.coalesce(quote_identifier("w", c), quote_identifier("c", c)) if c in keys else F.col(quote_identifier("w", c))
        for c in columns
    ]
    return both.select(
        action.when(differs, "U").alias(ACTION), *[value.alias(c) for value, c in zip(selected, columns, strict=True)]
    ).where(F.col(ACTION).isNotNull())


def _prepare(target: MergeTarget, schema: T.StructType) -> None:
    """Add new columns to the table."""
    with explain_refusal(target.spark, target.address):
        delta.add_new_columns(target.spark, target.address, schema)


def _create_new(target: MergeTarget, wanted: CachedRows, progress: Mapping[str, Any], expect_few: bool) -> WriteResult:
    """Create the table: few rows are written by the driver."""
    local = wanted.local_rows
    if local is None and expect_few and target.tuning.small_table_bytes and not target.sort_by:
        local = collect_few(wanted.rows, target.tuning.driver_rows)
    if local is None or target.is_large:
        return _create(target, wanted.rows, progress, "error")
    fields = wanted.rows.schema
    local, properties = local.cast(small_tables.arrow_schema(fields)), delta.table_properties(large=False)
    is_small = local.nbytes < _UNCOMPRESSED * target.tuning.small_table_bytes
    if is_small and local_writer.create(target.address, local, fields, properties, progress):
        return WriteResult(inserted=local.num_rows, committed=True)
    return _create(target, small_tables.to_frame(target.spark, local, fields), progress, "error")


def _create(target: MergeTarget, wanted: DataFrame, progress: Mapping[str, Any], mode: str) -> WriteResult:
    spark, sort_by = target.spark, target.sort_by
    if sort_by:
        wanted = wanted.repartitionByRange(sort_by).sortWithinPartitions(sort_by)
        spark.conf.set(_ROWS_PER_FILE_CONF, _ROWS_PER_FILE)
    try:
        with delta.commit_metadata(spark, progress), explain_refusal(spark, target.address, target.keys, wanted):
            failpoint("before_create", target.address)
            delta.create(spark, target.address, wanted, delta.table_properties(target.is_large), mode)
            failpoint("after_create", target.address)
    finally:
        if sort_by:
            spark.conf.unset(_ROWS_PER_FILE_CONF)
    return WriteResult(inserted=delta.count_rows(spark, target.address), committed=True)


def _merge(
    target: MergeTarget,
    actions: DataFrame,
    counts: Counter[str],
    progress: Mapping[str, Any],
    value_ranges: ValueRanges,
) -> WriteResult:
    if not counts:
        return WriteResult()
    columns = [column for column in actions.columns if column != ACTION]
    in_ranges = [  # conditions with literals, so that files are skipped
        value_range.condition(F.col(quote_identifier("t", column)))
        for column in columns
        if (value_range := value_ranges.get(column.lower()))
    ]
    same_row = reduce(Column.__and__, in_ranges, _keys_match("t", "s", target.keys))
    values: dict[str, str | Column] = {quote_identifier(c): quote_identifier("s", c) for c in columns}
    written = actions.where(F.col(ACTION) != "D")
    if target.is_large:  # not in the context below: this commit changes no row, and records no progress
        with explain_refusal(target.spark, target.address):
            delta.enable_deletion_vectors(target.spark, target.address)
    failpoint("before_merge", target.address)
    with (
        delta.commit_metadata(target.spark, progress),
        explain_refusal(target.spark, target.address, target.keys, written),
    ):
        (
            delta.table(target.spark, target.address)
            .alias("t")
            .merge(actions.alias("s"), same_row)
            .whenMatchedDelete(f"s.{ACTION} = 'D'")
            .whenMatchedUpdate(f"s.{ACTION} <> 'D'", values)
            .whenNotMatchedInsert(f"s.{ACTION} <> 'D'", values)
            .execute()
        )
    failpoint("after_merge", target.address)
    return _result(counts)


def _result(counts: Counter[str]) -> WriteResult:
    return WriteResult(counts["I"], counts["U"], counts["D"], committed=True)


def _keys_match(left: str, right: str, keys: list[str]) -> Column:
    return reduce(Column.__and__, [_equal(left, right, key) for key in keys])


def _equal(left: str, right: str, column: str) -> Column:
    """Return whether a column has the same value on both sides; null equals null."""
    return F.col(quote_identifier(left, column)).eqNullSafe(F.col(quote_identifier(right, column)))
