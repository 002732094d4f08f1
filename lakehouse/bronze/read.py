"""Reads bronze: current rows, rows as of a time, expected rows."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.bronze import fold, scd2
from lakehouse.config import Table
from lakehouse.errors import ConfigError
from lakehouse.lake import delta
from lakehouse.lake.cdc import CDC_COLUMNS
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.schema.table_schema import stored_schema
from lakehouse.spark.session import local_frame
from lakehouse.storage.paths import Lake

_CDC_DDL = "_cdc_operation STRING, _cdc_timestamp TIMESTAMP, _cdc_sequence BIGINT"


_OWN_COLUMNS_DDL = {
    1: _CDC_DDL,
    2: f"{_CDC_DDL}, __START_AT TIMESTAMP, __END_AT TIMESTAMP",
}  # bronze's own columns, by `scd`


def current_rows(spark: SparkSession, lake: Lake, name: str, table: Table, version: int | None = None) -> DataFrame:
    """The live rows by the declared schema, now or at a version; a column that bronze has not yet got is null."""
    return live_rows(spark, lake, name, table, version).select(*stored_schema(table).names)


def rows_as_of(
    spark: SparkSession, lake: Lake, name: str, table: Table, history: LedgerHistory, time: datetime
) -> DataFrame:
    """The rows that were live at `time`, by the declared schema and the `_cdc_*` columns.

    Read from the windows of a history (scd 2), else folded from the change sets.

    Raises:
        DataRefused: they do not fit the schema that was declared since.
        ConfigError: the change sets of that time have gone.
    """
    if table.scd == 2 and delta.exists(spark, lake.bronze_table(name)):
        rows = delta.read(spark, lake.bronze_table(name)).where(scd2.is_valid_at(F.lit(time).cast("timestamp")))
        return _with_declared_columns(rows, table).select(*stored_schema(table).names, *CDC_COLUMNS)
    base = history.base_state
    if base and history.accepted[0].snapshot_time <= time < base.snapshot_time:
        raise ConfigError(
            f"{name} as of {time.isoformat()}: its change sets up to {base.sequence} were dropped",
            expected=f"a time from {base.snapshot_time.isoformat()} on, which `retention` has not reached",
            where=lake.spark_path(base.path or ""),
        )
    until = [e for e in history.entries_to_fold if e.snapshot_time <= time]
    rows = fold.fold_change_sets(spark, lake, table, until) if until else live_rows(spark, lake, name, table).limit(0)
    return rows.select(*stored_schema(table).names, *CDC_COLUMNS)


def expected_rows(spark: SparkSession, lake: Lake, table: Table, entries: list[LedgerEntry]) -> DataFrame:
    """The live rows by the declared schema, from the change sets alone."""
    rows = fold.fold_change_sets(spark, lake, table, entries)
    return (rows.where(scd2.is_open_window()) if table.scd == 2 else rows).select(*stored_schema(table).names)


def live_rows(spark: SparkSession, lake: Lake, name: str, table: Table, version: int | None = None) -> DataFrame:
    """The same, with bronze's own columns; of a history, the open windows."""
    fields, path = stored_schema(table), lake.bronze_table(name)
    own = T.DataType.fromDDL(_OWN_COLUMNS_DDL[table.scd])
    assert isinstance(own, T.StructType)
    if not delta.exists(spark, path):
        return local_frame(spark, T.StructType([*fields, *own]))
    rows = delta.read(spark, path, version)
    live = rows.where(scd2.is_open_window()) if table.scd == 2 else rows
    return _with_declared_columns(live, table).select(*fields.names, *own.names)


def _with_declared_columns(rows: DataFrame, table: Table) -> DataFrame:
    """With the columns that were declared since, as null."""
    there = rows.columns
    return rows.select(
        "*", *[F.lit(None).cast(f.dataType).alias(f.name) for f in stored_schema(table) if f.name not in there]
    )
