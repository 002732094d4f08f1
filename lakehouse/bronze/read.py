"""Reads bronze: its current rows, its rows as of a time, the rows that it has to have, and whether its schema fits."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.bronze import feed, fold, scd2
from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.errors import DataRefused
from lakehouse.lake import change_sets, delta, small_tables
from lakehouse.lake.cdc import CDC_COLUMNS, MISSING_SINCE
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.lake.marked_rows import is_marked
from lakehouse.lake.table_ref import TableRef, bronze_schema
from lakehouse.lake.table_rows import TableRows, find_rows
from lakehouse.schema import mismatch
from lakehouse.schema.table_schema import stored_schema
from lakehouse.spark.session import local_frame

STATE_FIELDS = (change_sets.MISSING_FIELD, change_sets.FIELDS[0])
"""Of a table with `missing`: the columns that a comparison reads beside the declared ones."""


def state_rows(table: TableRef, version: int | None = None) -> DataFrame:
    """Return the rows that a snapshot of a table with `missing` is compared with: live ones and marked ones.

    Args:
        table: The table.
        version: The version of bronze to read; None: the current one.

    Returns:
        The declared columns, and those of `STATE_FIELDS`.
    """
    return _as_state(_open(stored_rows(table, version), table), table)


def expected_state_rows(table: TableRef, entries: list[LedgerEntry]) -> DataFrame:
    """Return the rows of `state_rows`, computed from the change sets alone.

    Args:
        table: The table.
        entries: The ledger rows of the change sets, in order.
    """
    return _as_state(_open(fold.fold_change_sets(table, entries), table), table)


def _as_state(rows: DataFrame, table: TableRef) -> DataFrame:
    if MISSING_SINCE not in rows.columns:  # `missing` was switched on, and no change set was made by it yet
        rows = rows.withColumn(MISSING_SINCE, F.lit(None).cast("timestamp"))
    return rows.select(*map(quote_identifier, table.schema.names), *[field.name for field in STATE_FIELDS])


def current_rows(table: TableRef, version: int | None = None) -> DataFrame:
    """Return the live rows by the declared schema; a column that bronze does not have yet is null.

    Args:
        table: The table.
        version: The version of bronze to read; None: the current one.
    """
    return live_rows(table, version).select(*map(quote_identifier, table.schema.names))


def find_current_rows(table: TableRef, version: int | None = None, is_state: bool = False) -> TableRows | None:
    """Return where the rows of bronze are, or None if only Spark can read them; of a history, with the closed windows.

    Args:
        table: The table.
        version: The version of bronze to read; None: the current one.
        is_state: Whether the columns of `STATE_FIELDS` are read, too.
    """
    if not delta.exists(table.spark, table.bronze):
        return TableRows()
    end = [T.StructField(scd2.END, T.TimestampType())] if table.config.scd == 2 else []
    return find_rows(table.bronze, T.StructType([*table.schema, *(STATE_FIELDS if is_state else ()), *end]), version)


def rows_as_of(table: TableRef, history: LedgerHistory, time: datetime) -> DataFrame:
    """Return the rows that were live at a time, by the declared schema and with the `_cdc_*` columns.

    Rows with a history (scd 2) are read from its windows, others are folded from the change sets. A column that no
    snapshot had delivered at that time is null: a window may have got its value later.

    Args:
        table: The table.
        history: The ledger's rows of the table.
        time: The time, with its zone.

    Raises:
        DataRefused: A value does not fit the schema that was declared since, or the change sets up to that time were
            dropped.
    """
    columns = [*map(quote_identifier, table.schema.names), *CDC_COLUMNS]
    if table.config.feed:
        entries = [entry for entry in history.accepted if entry.snapshot_time <= time]
        rows = _folded_live(table, entries) if entries else local_frame(table.spark, bronze_schema(table.config))
        return rows.select(*columns)
    # The window of an expired key ends when it went missing, which was not known before its grace had ended.
    has_windows = table.config.scd == 2 and not any(entry.keeps_missing for entry in history.accepted)
    if has_windows and delta.exists(table.spark, table.bronze):
        rows = delta.read(table.spark, table.bronze).where(scd2.is_valid_at(F.lit(time).cast("timestamp")))
        shown = rows.drop(*undelivered_at(table, history, time))
        return _with_declared_columns(shown, table.config).select(*columns)
    entries = entries_until(table, history, time)
    rows = _live(fold.fold_change_sets(table, entries), table) if entries else live_rows(table).limit(0)
    return rows.select(*columns)


def stored_rows_at(table: TableRef, history: LedgerHistory, time: datetime) -> DataFrame:
    """Return the rows that bronze had at a time with all of its columns, closed windows included.

    They are folded from the change sets: a window that was open at that time is open.

    Args:
        table: The table.
        history: The ledger's rows of the table.
        time: The time, with its zone.

    Raises:
        DataRefused: A value does not fit the schema that was declared since, or change sets were dropped.
    """
    columns = [*map(quote_identifier, bronze_schema(table.config).names)]
    if table.config.feed:
        entries = [entry for entry in history.accepted if entry.snapshot_time <= time]
    else:
        entries = entries_until(table, history, time)
    if not entries:
        return local_frame(table.spark, bronze_schema(table.config))
    folded = feed.fold_batches if table.config.feed else fold.fold_change_sets
    return folded(table, entries).select(*columns)


def undelivered_at(table: TableRef, history: LedgerHistory, time: datetime) -> frozenset[str]:
    """Return the declared columns that no snapshot had delivered at a time.

    Args:
        table: The table.
        history: The ledger's rows of the table.
        time: The time, with its zone.
    """
    until = [entry for entry in history.entries_to_fold if entry.path and entry.snapshot_time <= time]
    # A change set has the columns of its snapshot, and a later snapshot may not lack a column of an earlier one.
    if not until:
        return frozenset(table.schema.names)
    delivered = change_sets.source_columns(table, change_sets.written_schema(table, until[-1]))
    return frozenset(table.schema.names).difference(delivered)


def entries_until(table: TableRef, history: LedgerHistory, time: datetime) -> list[LedgerEntry]:
    """Return the ledger rows whose change sets make up a table at a time.

    Args:
        table: The table.
        history: The ledger's rows of the table.
        time: The time, with its zone.

    Raises:
        DataRefused: The change sets up to that time were dropped.
    """
    base = history.base_state
    if base and history.accepted[0].snapshot_time <= time < base.snapshot_time:
        raise DataRefused(
            f"{table.name} as of {time.isoformat()}: its change sets up to {base.sequence} were dropped",
            expected=f"a time from {base.snapshot_time.isoformat()} on, of which `retention` has kept the change sets",
            where=table.lake.spark_path(base.path or ""),
        )
    return [entry for entry in history.entries_to_fold if entry.snapshot_time <= time]


def expected_rows(table: TableRef, entries: list[LedgerEntry]) -> DataFrame:
    """Return the live rows by the declared schema, computed from the change sets alone.

    Args:
        table: The table.
        entries: The ledger rows of the change sets, in order.
    """
    if table.config.feed:
        return _folded_live(table, entries).select(*map(quote_identifier, table.schema.names))
    rows = fold.fold_change_sets(table, entries)
    return _live(rows, table).select(*map(quote_identifier, table.schema.names))


def _folded_live(table: TableRef, entries: list[LedgerEntry]) -> DataFrame:
    """Return the live rows of a table with a feed, computed from the events of these batches."""
    return _live(feed.fold_batches(table, entries), table)


def live_rows(table: TableRef, version: int | None = None) -> DataFrame:
    """Return the live rows with all columns of bronze; of a history, the open windows. Marked rows are none of them."""
    return _live(stored_rows(table, version), table)


def stored_rows(table: TableRef, version: int | None = None) -> DataFrame:
    """Return all rows of bronze with all of its columns, closed windows and marked rows included; none without bronze.

    Args:
        table: The table.
        version: The version of bronze to read; None: the current one.
    """
    fields = bronze_schema(table.config)
    if not delta.exists(table.spark, table.bronze):
        return local_frame(table.spark, fields)
    rows = small_tables.read(table.spark, table.bronze, table.tuning.small_table_bytes, version)
    had_missing = MISSING_SINCE in rows.columns and MISSING_SINCE not in fields.names  # it was switched off
    names = [*fields.names, *([MISSING_SINCE] if had_missing else [])]
    return _with_declared_columns(rows, table.config).select(*map(quote_identifier, names))


def _open(rows: DataFrame, table: TableRef) -> DataFrame:
    return rows.where(scd2.is_open_window()) if table.config.scd == 2 else rows


def _live(rows: DataFrame, table: TableRef) -> DataFrame:
    is_kept = MISSING_SINCE in rows.columns and table.config.scd == 1
    return rows.where(~is_marked()) if is_kept else _open(rows, table)


def _with_declared_columns(rows: DataFrame, table: Table) -> DataFrame:
    """Return rows with the declared columns that they lack, as null."""
    known = {name.lower() for name in rows.columns}
    fields = [*stored_schema(table), *([change_sets.MISSING_FIELD] if table.grace else [])]
    added = [F.lit(None).cast(f.dataType).alias(f.name) for f in fields if f.name.lower() not in known]
    return rows.select("*", *added)


def schema_mismatches(table: TableRef) -> list[str]:
    """Return the columns of bronze that the declared schema renames, removes or retypes, one line each.

    Columns of `pii` are left out: about these, the metadata of the change sets is more exact than the type.
    """
    if not delta.exists(table.spark, table.bronze):
        return []
    found = delta.schema(table.spark, table.bronze)
    own = {*CDC_COLUMNS, MISSING_SINCE, scd2.START, scd2.END}
    scd = 2 if scd2.START in found.names else 1
    scd_changed = [f"scd: {scd} is now {table.config.scd}"] if scd != table.config.scd else []
    compared = T.StructType([field for field in found if field.name not in own | {*table.config.pii}])
    declared = T.StructType([field for field in bronze_schema(table.config) if field.name not in own])
    return scd_changed + mismatch.table_mismatches(compared, declared, table.config)
