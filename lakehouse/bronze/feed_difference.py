"""Compares the rows of bronze with those that it has to have by its change feed: DataFrames in and out."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.config import FEED_SEQUENCE, Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.lake.cdc import CDC_COLUMNS, DELETE, END_AT, INSERT, UPDATE
from lakehouse.lake.merge import ACTION
from lakehouse.lake.table_ref import bronze_schema

LIVE_BEFORE, LIVE_AFTER = "_feed_live_before", "_feed_live_after"


def compare(
    current: DataFrame, wanted: DataFrame, table: Table, row_keys: list[str], batch: tuple[Column, Column] | None
) -> DataFrame:
    """Return the changes that make the rows of some keys in bronze equal to the wanted ones.

    Args:
        current: The rows of these keys in bronze.
        wanted: The rows that bronze has to have for them.
        table: The table's configuration.
        row_keys: The columns that identify a row of bronze.
        batch: The sequence and the time of the batch that changes them; None: those of the events.

    Returns:
        The columns of bronze, `ACTION` (I, U, D or null), and whether the row shows its key as live before and after.
        A row that does not change otherwise keeps its `_cdc_*`, as a window does whose end alone changes.
    """
    columns = bronze_schema(table).names
    before = current.select(F.struct(*_quoted(columns)).alias("c"))
    after = wanted.select(F.struct(*_quoted(columns)).alias("w"))
    both = before.join(after, on=_all([_equal(key) for key in row_keys]), how="full")
    is_new, is_gone = F.col("c").isNull(), F.col("w").isNull()
    differs = _any([~_equal(name) for name in columns if name not in row_keys and name not in CDC_COLUMNS])
    action = F.when(is_new, INSERT).when(is_gone, DELETE).when(differs, UPDATE)
    values = {name: F.when(is_gone, _side("c", name)).otherwise(_side("w", name)) for name in columns}
    if table.scd == 1 and batch is not None:
        values |= {"_cdc_operation": action, "_cdc_sequence": batch[0], "_cdc_timestamp": batch[1]}
    if table.scd == 2:
        values |= {name: F.coalesce(_side("c", name), _side("w", name)) for name in CDC_COLUMNS}
    return both.select(
        action.alias(ACTION),
        *[value.alias(name) for name, value in values.items()],
        (~is_new & _is_live("c", table)).alias(LIVE_BEFORE),
        (~is_gone & _is_live("w", table)).alias(LIVE_AFTER),
    )


def key_changes(compared: DataFrame, table: Table) -> DataFrame:
    """Return the keys that a comparison changes, with I, U or D in `ACTION` as a reader of live rows sees them.

    `FEED_SEQUENCE` is that of the row that was live before.

    Args:
        compared: The result of `compare`.
        table: The table's configuration.
    """
    of_key = compared.groupBy(*_quoted(table.keys)).agg(
        F.count_if(F.col(ACTION).isNotNull()).alias("_feed_changes"),
        F.max(LIVE_BEFORE).alias(LIVE_BEFORE),
        F.max(LIVE_AFTER).alias(LIVE_AFTER),
        F.max(F.when(F.col(LIVE_BEFORE), F.col(FEED_SEQUENCE))).alias(FEED_SEQUENCE),
    )
    is_inserted, is_deleted = F.col(LIVE_AFTER) & ~F.col(LIVE_BEFORE), F.col(LIVE_BEFORE) & ~F.col(LIVE_AFTER)
    action = F.when(is_inserted, INSERT).when(is_deleted, DELETE).otherwise(UPDATE)
    return of_key.where("_feed_changes > 0").select(*_quoted(table.keys), action.alias(ACTION), FEED_SEQUENCE)


def _side(side: str, name: str) -> Column:
    return F.col(quote_identifier(side, name))


def _equal(name: str) -> Column:
    return _side("c", name).eqNullSafe(_side("w", name))


def _is_live(side: str, table: Table) -> Column:
    return _side(side, END_AT).isNull() if table.scd == 2 else F.lit(True)


def _all(conditions: list[Column]) -> Column:
    return reduce(Column.__and__, conditions, F.lit(True))


def _any(conditions: list[Column]) -> Column:
    return reduce(Column.__or__, conditions, F.lit(False))


def _quoted(names: list[str]) -> list[str]:
    return [*map(quote_identifier, names)]
