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
from lakehouse.lake.small_rows import LOCAL_ROWS, Held, Spans, narrowed

ACTION = "_cdc_action"

# Of a table that lies in order, so that files hold few days: what is read for one of them, and written for a row of it.
_FILE_ROWS = 250_000
_PER_FILE = "spark.sql.files.maxRecordsPerFile"


@dataclass(frozen=True)
class Written:
    """What a write changed, in rows. `committed` is False where nothing differed."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    committed: bool = False


def make_equal(
    spark: SparkSession,
    target: str,
    wanted: DataFrame,
    keys: list[str],
    progress: dict[str, Any],
    touched: Held | DataFrame | None = None,
    few: bool = False,
    rebuild: bool = False,
    large: bool = False,
    order: str | None = None,
) -> Written:
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
        return _create(spark, target, wanted, progress, "error", large, order)
    if misfits := _misfits(spark, target, wanted):
        if rebuild:
            return _create(spark, target, wanted, progress, "overwrite", large, order)
        raise ConfigError(
            f"the columns of {target} changed: {'; '.join(misfits)}",
            expected="the same columns, or new ones added",
            where=target,
            next_step="run the same stage for it again, with --full-refresh",
        )
    add_columns(spark, target, wanted.schema)
    if large:
        delta.prepare_for_large(spark, target)
    current = delta.read(spark, target).select(*wanted.columns)
    spans: Spans = {}
    if touched is not None:
        touched = touched if isinstance(touched, Held) else Held(touched)
        spans = touched.spans()
        same = _same_keys("c", "t", touched.rows.columns)
        current = narrowed(current, spans).alias("c").join(touched.rows.alias("t"), on=same, how="left_semi")
    actions = difference(current, wanted, keys)
    if few and (rows := actions.limit(LOCAL_ROWS + 1).toArrow()).num_rows <= LOCAL_ROWS:
        counted = Counter(rows.column(ACTION).to_pylist())
        local = spark.createDataFrame(rows, actions.schema)
        return _apply(spark, target, local, counted, keys, progress, "none", spans)
    actions = actions.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        counted = Counter({row[ACTION]: row["count"] for row in actions.groupBy(ACTION).count().collect()})
        return _apply(spark, target, actions, counted, keys, progress, "auto", spans)
    finally:
        actions.unpersist()


def apply(
    spark: SparkSession,
    target: str,
    changes: DataFrame,
    operations: dict[str, int],
    keys: list[str],
    progress: dict[str, Any],
    large: bool = False,
) -> Written:
    """Write what is known to be a difference from the table at `target`: nothing is compared again.

    Args:
        changes: rows that read the same each time, with their operation (I, U or D) in the column `_cdc_action`.
        operations: how many of each there are.
    """
    add_columns(spark, target, T.StructType([f for f in changes.schema if f.name != ACTION]))
    if large:
        delta.prepare_for_large(spark, target)
    if sum(operations.values()) <= LOCAL_ROWS:
        changes = spark.createDataFrame(changes.toArrow(), changes.schema)
    return _apply(spark, target, changes, Counter(operations), keys, progress, "none")


def difference(current: DataFrame, wanted: DataFrame, keys: list[str]) -> DataFrame:
    """The rows of `wanted`, with `_cdc_action` I, U or D, that make `current` equal to it; D rows carry their keys."""
    columns = wanted.columns
    here = current.select(F.lit(True).alias("_cdc_here"), F.struct(*columns).alias("c"))
    there = wanted.select(F.lit(True).alias("_cdc_there"), F.struct(*columns).alias("w"))
    both = here.join(there, on=_same_keys("c", "w", keys), how="full")
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
    order: str | None,
) -> Written:
    if order:
        wanted = wanted.repartitionByRange(order).sortWithinPartitions(order)
        spark.conf.set(_PER_FILE, _FILE_ROWS)
    try:
        with delta.committing(spark, progress):
            delta.create(spark, target, wanted, delta.properties(large), mode)
    finally:
        if order:
            spark.conf.unset(_PER_FILE)
    return Written(inserted=delta.read(spark, target).count(), committed=True)


def _apply(
    spark: SparkSession,
    target: str,
    actions: DataFrame,
    counted: Counter[str],
    keys: list[str],
    progress: dict[str, Any],
    materialize: str,
    spans: Spans | None = None,
) -> Written:
    if not counted:
        return Written()
    # MERGE reads its source twice: rows held by the driver are the same each time, a plan has to be written down.
    spark.conf.set("spark.databricks.delta.merge.materializeSource", materialize)
    columns = [c for c in actions.columns if c != ACTION]
    within = [span.condition(F.col(f"t.`{c}`")) for c in columns if (span := (spans or {}).get(c.lower()))]
    matches = reduce(Column.__and__, within, _same_keys("t", "s", keys))  # literals, so that files are skipped
    assigned: dict[str, str | Column] = {f"`{c}`": f"s.`{c}`" for c in columns}
    with delta.committing(spark, progress):
        (
            delta.table(spark, target)
            .alias("t")
            .merge(actions.alias("s"), matches)
            .whenMatchedDelete(f"s.{ACTION} = 'D'")
            .whenMatchedUpdate(f"s.{ACTION} <> 'D'", assigned)
            .whenNotMatchedInsert(f"s.{ACTION} <> 'D'", assigned)
            .execute()
        )
    return Written(counted["I"], counted["U"], counted["D"], committed=True)


def _misfits(spark: SparkSession, target: str, wanted: DataFrame) -> list[str]:
    """The table's columns that `wanted` lacks, or has with another type."""
    want = {f.name: f.dataType for f in wanted.schema}
    found = []
    for field in delta.read(spark, target).schema:
        if field.name not in want:
            found.append(f"{field.name} is gone")
        elif field.dataType != want[field.name]:
            found.append(f"{field.name}: {field.dataType.simpleString()} is now {want[field.name].simpleString()}")
    return found


def add_columns(spark: SparkSession, target: str, wanted: T.StructType) -> None:
    """Add to a table the columns that only `wanted` has; its rows are null there."""
    have = delta.read(spark, target).columns
    added = [f"`{f.name}` {f.dataType.simpleString()}" for f in wanted if f.name not in have]
    if added:
        spark.sql(f"ALTER TABLE {delta.name(target)} ADD COLUMNS ({', '.join(added)})")


def _same_keys(left: str, right: str, keys: list[str]) -> Column:
    return reduce(Column.__and__, [F.col(f"{left}.`{k}`").eqNullSafe(F.col(f"{right}.`{k}`")) for k in keys])
