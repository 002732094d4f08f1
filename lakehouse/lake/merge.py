"""The one way rows get into a Delta table: make the target equal to what is wanted, by MERGE of the difference.

Bronze, silver, gold, quarantine, healing and full recompute are all this. Equal rows are not written, no difference is
no commit, so that any step may run again and nobody downstream sees a change that was none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.errors import ConfigError
from lakehouse.lake import delta
from lakehouse.lake.cached_rows import MAX_LOCAL_ROWS, CachedRows, ValueRanges, filter_to_ranges

ACTION = "_cdc_action"

# Of a table that lies in order, so that files hold few days: what is read for one of them, and written for a row of it.
_ROWS_PER_FILE = 250_000
_ROWS_PER_FILE_CONF = "spark.sql.files.maxRecordsPerFile"


@dataclass(frozen=True)
class WriteResult:
    """What a write changed, in rows. `committed` is False where nothing differed."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    committed: bool = False


def merge_to_match(
    spark: SparkSession,
    target: str,
    wanted: DataFrame,
    keys: list[str],
    progress: dict[str, Any],
    affected: CachedRows | DataFrame | None = None,
    expect_few: bool = False,
    rebuild: bool = False,
    large: bool = False,
    sort_by: str | None = None,
) -> WriteResult:
    """Make the table at `target` hold `wanted`, in at most one commit that carries `progress`.

    Args:
        spark: a session of the caller's own.
        wanted: rows with unique `keys` (nulls in keys are values) and all columns that the table is to have.
        touched: the keys to be made equal, or what rows have in common with them: columns of the table. A row of the
            table that has them and is not wanted is deleted. None: the whole table.
        few: the difference is thought to be small, so the driver may ask for its rows at once.
        rebuild: replace a table whose columns no longer fit, instead of refusing.
        large: the table is one whose files should not be rewritten for a few rows.
        order: a column whose equal values are to lie together, where the table is written whole.

    Raises:
        ConfigError: a column has another type than the table's, or is gone.
    """
    if not delta.exists(spark, target):
        return _create(spark, target, wanted, progress, "error", large, sort_by)
    if misfits := _schema_mismatches(spark, target, wanted):
        if rebuild:
            return _create(spark, target, wanted, progress, "overwrite", large, sort_by)
        raise ConfigError(
            f"the columns of {target} changed: {'; '.join(misfits)}",
            expected="the same columns, or new ones added",
            where=target,
            next_step="run the same stage for it again, with --full-refresh",
        )
    add_new_columns(spark, target, wanted.schema)
    if large:
        delta.enable_deletion_vectors(spark, target)
    current = delta.read(spark, target).select(*wanted.columns)
    spans: ValueRanges = {}
    if affected is not None:
        affected = affected if isinstance(affected, CachedRows) else CachedRows(affected)
        spans = affected.value_ranges()
        same = _keys_match("c", "t", affected.rows.columns)
        current = filter_to_ranges(current, spans).alias("c").join(affected.rows.alias("t"), on=same, how="left_semi")
    actions = row_actions(current, wanted, keys)
    if expect_few and (rows := actions.limit(MAX_LOCAL_ROWS + 1).toArrow()).num_rows <= MAX_LOCAL_ROWS:
        counted = Counter(rows.column(ACTION).to_pylist())
        local = spark.createDataFrame(rows, actions.schema)
        return _merge(spark, target, local, counted, keys, progress, "none", spans)
    actions = actions.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        counted = Counter({row[ACTION]: row["count"] for row in actions.groupBy(ACTION).count().collect()})
        return _merge(spark, target, actions, counted, keys, progress, "auto", spans)
    finally:
        actions.unpersist()


def merge_changes(
    spark: SparkSession,
    target: str,
    changes: DataFrame,
    operation_counts: dict[str, int],
    keys: list[str],
    progress: dict[str, Any],
    large: bool = False,
) -> WriteResult:
    """Write what is known to be a difference from the table at `target`: nothing is compared again.

    Args:
        changes: rows that read the same each time, with their operation (I, U or D) in the column `_cdc_action`.
        operations: how many of each there are.
    """
    add_new_columns(spark, target, T.StructType([f for f in changes.schema if f.name != ACTION]))
    if large:
        delta.enable_deletion_vectors(spark, target)
    if sum(operation_counts.values()) <= MAX_LOCAL_ROWS:
        changes = spark.createDataFrame(changes.toArrow(), changes.schema)
    return _merge(spark, target, changes, Counter(operation_counts), keys, progress, "none")


def row_actions(current: DataFrame, wanted: DataFrame, keys: list[str]) -> DataFrame:
    """The rows of `wanted`, with `_cdc_action` I, U or D, that make `current` equal to it; D rows carry their keys."""
    columns = wanted.columns
    here = current.select(F.lit(True).alias("_cdc_here"), F.struct(*columns).alias("c"))
    there = wanted.select(F.lit(True).alias("_cdc_there"), F.struct(*columns).alias("w"))
    both = here.join(there, on=_keys_match("c", "w", keys), how="full")
    values = [c for c in columns if c not in keys]
    differ = reduce(Column.__or__, [~F.col(f"c.`{c}`").eqNullSafe(F.col(f"w.`{c}`")) for c in values], F.lit(False))
    action = F.when(F.col("_cdc_here").isNull(), "I").when(F.col("_cdc_there").isNull(), "D").when(differ, "U")
    picked = [F.coalesce(f"w.`{c}`", f"c.`{c}`").alias(c) if c in keys else F.col(f"w.`{c}`").alias(c) for c in columns]
    return both.select(action.alias(ACTION), *picked).where(F.col(ACTION).isNotNull())


def _create(
    spark: SparkSession,
    target: str,
    wanted: DataFrame,
    progress: dict[str, Any],
    mode: str,
    large: bool,
    sort_by: str | None,
) -> WriteResult:
    if sort_by:
        wanted = wanted.repartitionByRange(sort_by).sortWithinPartitions(sort_by)
        spark.conf.set(_ROWS_PER_FILE_CONF, _ROWS_PER_FILE)
    try:
        with delta.commit_metadata(spark, progress):
            delta.create(spark, target, wanted, delta.table_properties(large), mode)
    finally:
        if sort_by:
            spark.conf.unset(_ROWS_PER_FILE_CONF)
    return WriteResult(inserted=delta.read(spark, target).count(), committed=True)


def _merge(
    spark: SparkSession,
    target: str,
    actions: DataFrame,
    counts: Counter[str],
    keys: list[str],
    progress: dict[str, Any],
    materialize: str,
    value_ranges: ValueRanges | None = None,
) -> WriteResult:
    if not counts:
        return WriteResult()
    # MERGE reads its source twice: rows held by the driver are the same each time, a plan has to be written down.
    spark.conf.set("spark.databricks.delta.merge.materializeSource", materialize)
    columns = [c for c in actions.columns if c != ACTION]
    within = [span.condition(F.col(f"t.`{c}`")) for c in columns if (span := (value_ranges or {}).get(c.lower()))]
    matches = reduce(Column.__and__, within, _keys_match("t", "s", keys))  # literals, so that files are skipped
    assigned: dict[str, str | Column] = {f"`{c}`": f"s.`{c}`" for c in columns}
    with delta.commit_metadata(spark, progress):
        (
            delta.table(spark, target)
            .alias("t")
            .merge(actions.alias("s"), matches)
            .whenMatchedDelete(f"s.{ACTION} = 'D'")
            .whenMatchedUpdate(f"s.{ACTION} <> 'D'", assigned)
            .whenNotMatchedInsert(f"s.{ACTION} <> 'D'", assigned)
            .execute()
        )
    return WriteResult(counts["I"], counts["U"], counts["D"], committed=True)


def _schema_mismatches(spark: SparkSession, target: str, wanted: DataFrame) -> list[str]:
    """The table's columns that `wanted` lacks, or has with another type."""
    want = {f.name: f.dataType for f in wanted.schema}
    found = []
    for field in delta.read(spark, target).schema:
        if field.name not in want:
            found.append(f"{field.name} is gone")
        elif field.dataType != want[field.name]:
            found.append(f"{field.name}: {field.dataType.simpleString()} is now {want[field.name].simpleString()}")
    return found


def add_new_columns(spark: SparkSession, target: str, wanted: T.StructType) -> None:
    """Add to a table the columns that only `wanted` has; its rows are null there."""
    have = delta.read(spark, target).columns
    added = [f"`{f.name}` {f.dataType.simpleString()}" for f in wanted if f.name not in have]
    if added:
        spark.sql(f"ALTER TABLE {delta.sql_name(target)} ADD COLUMNS ({', '.join(added)})")


def _keys_match(left: str, right: str, keys: list[str]) -> Column:
    return reduce(Column.__and__, [F.col(f"{left}.`{k}`").eqNullSafe(F.col(f"{right}.`{k}`")) for k in keys])
