"""The one way rows get into a Delta table: make the target equal to what is wanted, by MERGE of the difference.

Bronze, silver, gold, quarantine, healing and full recompute are all this. Equal rows are not written, no difference is
no commit, so that any step may run again and nobody downstream sees a change that was none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

from delta.tables import DeltaTable
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import delta
from lakehouse.errors import ConfigError

_ACTION = "_action"
_LOCAL_ROWS = 5_000  # up to here a difference is held by the driver: MERGE plans and reads it in a third of the time


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
    touched: DataFrame | None = None,
    properties: dict[str, str] | None = None,
) -> Written:
    """Make the table at `target` hold `wanted`, in at most one commit that carries `progress`.

    Args:
        spark: a session of the caller's own.
        wanted: rows with unique `keys` (nulls in keys are values) and all columns that the table is to have.
        touched: the keys to be made equal; a touched key without a wanted row is deleted. None: the whole table.
        properties: of the table, should it have to be made, over `delta.TABLE_PROPERTIES`.

    Raises:
        ConfigError: a column has another type than the table's, or is gone.
    """
    if not delta.exists(spark, target):
        return _create(spark, target, wanted, progress, delta.TABLE_PROPERTIES | (properties or {}))
    evolve(spark, target, wanted)
    current = delta.read(spark, target).select(*wanted.columns)
    if touched is not None:
        current = current.alias("c").join(touched.alias("t"), on=_same_keys("c", "t", keys), how="left_semi")
    actions = difference(current, wanted, keys).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        return _apply(spark, target, actions, keys, progress)
    finally:
        actions.unpersist()


def difference(current: DataFrame, wanted: DataFrame, keys: list[str]) -> DataFrame:
    """The rows of `wanted`, with `_action` I, U or D, that make `current` equal to it; D rows carry their keys."""
    columns = wanted.columns
    here = current.select(F.lit(True).alias("_here"), F.struct(*columns).alias("c"))
    there = wanted.select(F.lit(True).alias("_there"), F.struct(*columns).alias("w"))
    both = here.join(there, on=_same_keys("c", "w", keys), how="full")
    values = [c for c in columns if c not in keys]
    differ = reduce(Column.__or__, [~F.col(f"c.`{c}`").eqNullSafe(F.col(f"w.`{c}`")) for c in values], F.lit(False))
    action = F.when(F.col("_here").isNull(), "I").when(F.col("_there").isNull(), "D").when(differ, "U")
    picked = [F.coalesce(f"w.`{c}`", f"c.`{c}`").alias(c) if c in keys else F.col(f"w.`{c}`").alias(c) for c in columns]
    return both.select(action.alias(_ACTION), *picked).where(F.col(_ACTION).isNotNull())


def _create(
    spark: SparkSession, target: str, wanted: DataFrame, progress: dict[str, Any], properties: dict[str, str]
) -> Written:
    with delta.committing(spark, progress):
        wanted.write.format("delta").options(**properties).mode("error").save(target)
    return Written(inserted=delta.read(spark, target).count(), committed=True)


def _apply(spark: SparkSession, target: str, actions: DataFrame, keys: list[str], progress: dict[str, Any]) -> Written:
    counted = {row[_ACTION]: row["count"] for row in actions.groupBy(_ACTION).count().collect()}
    total = sum(counted.values())
    if not total:
        return Written()
    local = total <= _LOCAL_ROWS
    source = spark.createDataFrame(actions.toArrow(), actions.schema) if local else actions
    spark.conf.set("spark.databricks.delta.merge.materializeSource", "none" if local else "auto")
    columns = [c for c in actions.columns if c != _ACTION]
    assigned: dict[str, str | Column] = {f"`{c}`": f"s.`{c}`" for c in columns}
    with delta.committing(spark, progress):
        (
            DeltaTable.forPath(spark, target)
            .alias("t")
            .merge(source.alias("s"), _same_keys("t", "s", keys))
            .whenMatchedDelete(f"s.{_ACTION} = 'D'")
            .whenMatchedUpdate(f"s.{_ACTION} = 'U'", assigned)
            .whenNotMatchedInsert(f"s.{_ACTION} = 'I'", assigned)
            .execute()
        )
    return Written(counted.get("I", 0), counted.get("U", 0), counted.get("D", 0), committed=True)


def evolve(spark: SparkSession, target: str, wanted: DataFrame) -> None:
    """Add to the table the columns that only `wanted` has.

    Raises:
        ConfigError: a column has another type than the table's, or is gone.
    """
    have = {f.name: f.dataType for f in delta.read(spark, target).schema}
    want = {f.name: f.dataType for f in wanted.schema}
    changed = [
        f"{n}: {have[n].simpleString()} is now {want[n].simpleString()}"
        for n in have.keys() & want.keys()
        if have[n] != want[n]
    ]
    gone = [f"{n} is gone" for n in have.keys() - want.keys()]
    if changed or gone:
        raise ConfigError(
            f"the columns of {target} changed: {'; '.join(sorted(changed + gone))}",
            expected="the same columns, or nullable ones added",
            where=target,
            next_step="rebuild it with --full-refresh",
        )
    added = [f"`{f.name}` {f.dataType.simpleString()}" for f in wanted.schema if f.name not in have]
    if added:
        spark.sql(f"ALTER TABLE {delta.name(target)} ADD COLUMNS ({', '.join(added)})")


def _same_keys(left: str, right: str, keys: list[str]) -> Column:
    return reduce(Column.__and__, [F.col(f"{left}.`{k}`").eqNullSafe(F.col(f"{right}.`{k}`")) for k in keys])
