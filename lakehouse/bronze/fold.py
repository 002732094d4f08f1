"""Change sets folded to the rows that bronze has to hold."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse.bronze import scd2
from lakehouse.config import Table
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.lake.cdc import CDC_COLUMNS, CHANGED_COLUMNS, DELETE
from lakehouse.lake.change_sets import (
    CAST_ERRORS,
    read_as_written,
    read_change_sets,
    read_with_cast_errors,
    require_same_pii,
)
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.schema.table_schema import stored_schema
from lakehouse.storage.paths import Lake


def fold_change_sets(spark: SparkSession, lake: Lake, table: Table, entries: list[LedgerEntry]) -> DataFrame:
    """What bronze has to hold, from the change sets alone: the last one of each key, unless it is a delete.

    Raises:
        DataRefused: a value of it does not fit the schema that was declared since.
        ConfigError: a history is asked for, and change sets that it needs have gone.
    """
    if table.scd == 2:
        _require_complete_history(lake, entries)
        require_values_fit(spark, lake, table, entries)
        changes = read_change_sets(spark, lake, table, [e for e in entries if e.path])
        return scd2.build_history(changes, table, stored_schema(table))
    return fold_to_live_rows(spark, lake, table, entries).drop(CHANGED_COLUMNS)


def fold_to_live_rows(spark: SparkSession, lake: Lake, table: Table, entries: list[LedgerEntry]) -> DataFrame:
    """The live rows that change sets come to, each as the last of them has it, with its own `_cdc_*` columns.

    To be folded again with those that follow it is as good as they were themselves.

    Raises:
        DataRefused: a value of it does not fit the schema that was declared since.
    """
    require_values_fit(spark, lake, table, entries)
    changes = read_change_sets(spark, lake, table, [e for e in entries if e.path])
    return _last_changes(changes, table).select(*stored_schema(table).names, *CDC_COLUMNS, CHANGED_COLUMNS)


def _require_complete_history(lake: Lake, entries: list[LedgerEntry]) -> None:
    if base := next((e for e in entries if e.is_base_state), None):
        raise ConfigError(
            f"no history of {base.table} can be built: its change sets up to {base.sequence} were dropped",
            expected="`scd: 1`, where `retention: {change_sets: ...}` was at work",
            where=lake.spark_path(base.path or ""),
            next_step=f"if all that landed is still there: lakehouse ingest PIPELINE {base.table} --full-refresh",
        )


def require_values_fit(spark: SparkSession, lake: Lake, table: Table, entries: list[LedgerEntry]) -> None:
    """See that what bronze has to hold fits the declared types, where change sets were written with others.

    Raises:
        DataRefused: values that are not of the type; to cast them would make them null in silence.
        ConfigError: `pii` asks for something else than they hold.
    """
    kinds = {f.name: f.dataType for f in stored_schema(table)}
    entries = [e for e in entries if e.path]
    published = [read_as_written(spark, lake, e).schema for e in entries]
    for entry, there in zip(entries, published, strict=True):
        require_same_pii(table, lake, entry, there)
    if all(f.dataType == kinds[f.name] for there in published for f in there if f.name in kinds):
        return
    changes = read_with_cast_errors(spark, lake, table, entries)
    rows = _last_changes(changes, table) if table.scd == 1 else changes.where(F.col("_cdc_operation") != DELETE)
    unfit = rows.where(F.size(CAST_ERRORS) > 0)
    if (
        wrong := unfit.select(F.explode(CAST_ERRORS).alias("text"))
        .groupBy("text")
        .count()
        .orderBy("text")
        .limit(3)
        .collect()
    ):
        raise DataRefused(
            f"{unfit.count()} rows do not fit the schema: {'; '.join(row.text for row in wrong)}",
            expected="values of the declared types in every row that bronze is to hold",
            where=f"{lake.spark_path('raw')}, change sets of {entries[0].table}",
            next_step="keep the column's type and cast it in silver, or take a mended snapshot with the old type first",
        )


def _last_changes(changes: DataFrame, table: Table) -> DataFrame:
    """The last change of each key, where that is no delete."""
    last = Window.partitionBy(*table.keys).orderBy(F.desc("_cdc_sequence"))
    newest = changes.withColumn("_cdc_rank", F.row_number().over(last)).where("_cdc_rank = 1")
    return newest.where(F.col("_cdc_operation") != DELETE)
