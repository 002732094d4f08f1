"""Folds change sets: computes the rows that bronze has to have from all change sets of a table."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.bronze import scd2
from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.lake import change_sets
from lakehouse.lake.cdc import CDC_COLUMNS, CHANGED_COLUMNS, DELETE, GOES_MISSING, IS_BACK, MISSING_SINCE
from lakehouse.lake.change_sets import CAST_ERRORS
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.table_ref import TableRef


def fold_change_sets(table: TableRef, entries: list[LedgerEntry]) -> DataFrame:
    """Return the rows that bronze has to have: live rows (scd 1), or all windows of the history (scd 2).

    Args:
        table: The table.
        entries: The ledger rows of the change sets, in order.

    Raises:
        DataRefused: A value does not fit the schema that was declared since.
        ConfigError: A history needs change sets that were dropped.
    """
    if table.config.scd == 1:
        return fold_to_live_rows(table, entries).drop(CHANGED_COLUMNS)
    require_all_change_sets(table, entries)
    require_values_fit(table, entries)
    changes = change_sets.read_change_sets(table, [e for e in entries if e.path])
    return scd2.build_history(changes, table.config, table.schema)


def require_all_change_sets(table: TableRef, entries: list[LedgerEntry]) -> None:
    """Raise if a table keeps its history, and retention dropped change sets of which it is built.

    Args:
        table: The table.
        entries: The ledger rows of the change sets, in order.

    Raises:
        ConfigError: The history cannot be built.
    """
    dropped = (e for e in entries if e.is_base_state and not e.is_rebuild_start)
    if table.config.scd == 2 and (base := next(dropped, None)):
        raise ConfigError(
            f"the history of {base.table} cannot be built: its change sets up to {base.sequence} were dropped",
            expected="`scd: 1`, since `retention: {change_sets: ...}` dropped change sets",
            where=table.lake.spark_path(base.path or ""),
            next_step=f"if all landed snapshots are there: lakehouse ingest PIPELINE {base.table} --full-refresh",
        )


def fold_to_live_rows(table: TableRef, entries: list[LedgerEntry]) -> DataFrame:
    """Return the live rows after these change sets, each with the `_cdc_*` columns of its last change.

    Of a table with `missing`, they have `_cdc_missing_since`; rows that are marked as deleted are among them.
    They can take the place of the change sets: folded with later ones, they give the same rows.

    Args:
        table: The table.
        entries: The ledger rows of the change sets, in order.

    Raises:
        DataRefused: A value does not fit the schema that was declared since.
    """
    require_values_fit(table, entries)
    changes = change_sets.read_change_sets(table, [e for e in entries if e.path])
    missing = [MISSING_SINCE] if MISSING_SINCE in changes.columns else []
    columns = [*map(quote_identifier, table.schema.names), *CDC_COLUMNS, CHANGED_COLUMNS, *missing]
    return _last_changes(changes, table.config).select(*columns)


def require_values_fit(table: TableRef, entries: list[LedgerEntry], every_change: bool = False) -> None:
    """Raise if values that bronze has to have do not fit the declared types, which change sets were written without.

    Args:
        table: The table.
        entries: The ledger rows of the change sets, in order.
        every_change: Whether the values of earlier changes have to fit, too, as in a history (scd 2).

    Raises:
        DataRefused: Values that are not of the type, and that a cast would silently make null.
        ConfigError: `pii` was changed since they were written.
    """
    types = {f.name: f.dataType for f in table.schema}
    published = [e for e in entries if e.path]
    schemas = [change_sets.written_schema(table, e) for e in published]
    for entry, schema in zip(published, schemas, strict=True):
        change_sets.require_same_pii(table, entry, schema)
    if all(f.dataType == types[f.name] for schema in schemas for f in schema if f.name in types):
        return
    changes = change_sets.read_with_cast_errors(table, published)
    is_kept = F.col("_cdc_operation") != DELETE
    is_live = table.config.scd == 1 and not every_change
    rows = _last_changes(changes, table.config) if is_live else changes.where(is_kept)
    failed = rows.where(F.size(CAST_ERRORS) > 0)
    messages = failed.select(F.explode(CAST_ERRORS).alias("text")).distinct().orderBy("text").limit(3).collect()
    if messages:
        found = f"{failed.count()} rows do not fit the schema"
        raise DataRefused(
            f"{found}: {'; '.join(row.text for row in messages)}",
            kept=f"{found}, in the columns {', '.join(dict.fromkeys(row.text.partition(' ')[0] for row in messages))}",
            expected="values of the declared types in all rows of bronze",
            where=f"{table.lake.spark_path('raw')}, change sets of {table.name}",
            next_step="keep the column's type and cast it in silver, or first ingest a corrected snapshot with the old"
            " type",
        )


def _last_changes(changes: DataFrame, table: Table) -> DataFrame:
    """Return the last change of each key, unless it is a delete that leaves no row.

    A key that goes missing, or is back, keeps its row: the `_cdc_*` columns stay those of the change before that.
    """
    of_key = Window.partitionBy(*map(quote_identifier, table.keys))
    is_kept = F.col("_cdc_operation") != DELETE
    if MISSING_SINCE in changes.columns:
        is_kept = is_kept | F.col(MISSING_SINCE).isNotNull()
        own = [*CDC_COLUMNS, CHANGED_COLUMNS]
        is_own = ~F.col("_cdc_operation").isin(GOES_MISSING, IS_BACK)
        last_own = F.max(F.when(is_own, F.struct("_cdc_sequence", F.struct(*own).alias("own")))).over(of_key)
        changes = changes.withColumn("_cdc_last_own", last_own["own"])
    by_key = of_key.orderBy(F.desc("_cdc_sequence"))
    last = changes.withColumn("_cdc_rank", F.row_number().over(by_key)).where("_cdc_rank = 1").where(is_kept)
    if MISSING_SINCE in changes.columns:
        last = last.withColumns({name: F.col("_cdc_last_own")[name] for name in own})
    return last
