"""Computes the history of a table (scd 2): one row for each key and window of time. Pure: DataFrames in and out.

    __START_AT  the time of the change that opened the window; the `_cdc_*` columns are those of that change
    __END_AT    the time of the change that closed it; null while it is open

Windows are half-open, so that those of a key neither overlap nor leave a gap while it lives. A change of columns whose
history is not kept is written into the open window. Two change sets of one time (a snapshot that is ingested again with
a corrected configuration) make no window without length: that of the later one remains.

Of a table with `missing`, a key that goes missing keeps its open window, with the time in `_cdc_missing_since`. If its
grace ends, the window ends at that time; if it is back before that, nothing has been closed.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.lake.cdc import (
    CDC_COLUMNS,
    CHANGED_COLUMNS,
    DELETE,
    END_AT,
    GOES_MISSING,
    INSERT,
    MISSING_SINCE,
    START_AT,
)

START, END = START_AT, END_AT


def row_keys(table: Table) -> list[str]:
    """Return the columns that identify a row of bronze: the table's keys and, in a history, the window's start."""
    return [*table.keys, START] if table.scd == 2 else list(table.keys)


def is_open_window() -> Column:
    """Return whether a window is open, so that it shows a live row."""
    return F.col(END).isNull()


def is_valid_at(time: Column) -> Column:
    """Return whether a window includes `time`."""
    return (F.col(START) <= time) & (is_open_window() | (F.col(END) > time))


def apply_changes(
    open_windows: DataFrame, changes: DataFrame, table: Table, fields: T.StructType
) -> tuple[DataFrame, DataFrame]:
    """Return the windows that one change set opens, closes or keeps, and the keys of those that it affects.

    Args:
        open_windows: The open windows of the changed keys.
        changes: The change set, with the names of changed columns in CHANGED_COLUMNS.
        table: The table's configuration.
        fields: The declared columns.

    Returns:
        The windows that there have to be afterwards, and the `row_keys` of all affected windows.
    """
    same_key = reduce(
        Column.__and__, [F.col(quote_identifier("o", k)) == F.col(quote_identifier("c", k)) for k in table.keys]
    )
    both = changes.alias("c").join(open_windows.alias("o"), on=same_key, how="left")
    start, now = F.col(f"o.{START}"), F.col("c._cdc_timestamp")
    opens, is_open = _opens_window(table, fields, "c."), start.isNotNull()
    operation = F.col("c._cdc_operation")
    deletes, keeps_missing = operation == DELETE, MISSING_SINCE in changes.columns
    deleted_at = F.coalesce(F.when(deletes, F.col(f"o.{MISSING_SINCE}")), now) if keeps_missing else now
    since = F.when(operation == GOES_MISSING, F.col(f"c.{MISSING_SINCE}")) if keeps_missing else None

    def window(values: str, cdc: str, start: Column, end: Column | None = None) -> list[Column]:
        is_open = end is None
        missing = (
            [(since if is_open else F.lit(None).cast("timestamp")).alias(MISSING_SINCE)] if since is not None else []
        )
        return [
            *[F.col(quote_identifier(values, name)) for name in fields.names],
            *[F.col(f"{cdc}.{name}") for name in CDC_COLUMNS],
            start.alias(START),
            (F.lit(None).cast("timestamp") if end is None else end).alias(END),
            *missing,
        ]

    closed = both.where(is_open & (opens | deletes) & (start < deleted_at)).select(*window("o", "o", start, deleted_at))
    opened = both.where(opens | ~(is_open | deletes)).select(*window("c", "c", now))
    updated = both.where(is_open & ~opens & ~deletes).select(*window("c", "o", start))
    wanted = closed.unionByName(opened).unionByName(updated)
    before = both.where(is_open).select(*[F.col(quote_identifier("c", k)) for k in table.keys], start)
    return wanted, before.unionByName(wanted.select(*map(quote_identifier, row_keys(table)))).distinct()


def build_history(changes: DataFrame, table: Table, fields: T.StructType) -> DataFrame:
    """Return all windows of a table.

    Args:
        changes: All change sets, with the names of changed columns in CHANGED_COLUMNS.
        table: The table's configuration.
        fields: The declared columns.
    """
    keys, columns = [*map(quote_identifier, table.keys)], [*map(quote_identifier, fields.names)]
    deletes = F.col("_cdc_operation") == DELETE
    kept_missing, time = [], F.col("_cdc_timestamp")
    if MISSING_SINCE in changes.columns:  # the window of an expired key ends when the key went missing
        since_before = F.lag(MISSING_SINCE).over(Window.partitionBy(*keys).orderBy("_cdc_sequence"))
        time, kept_missing = F.coalesce(F.when(deletes, since_before), time), [MISSING_SINCE]
    changes = changes.withColumn("_cdc_at", time)
    bounds = F.count_if("_cdc_bound").over(Window.partitionBy(*keys).orderBy("_cdc_sequence"))
    numbered = changes.withColumn("_cdc_bound", _opens_window(table, fields) | deletes)
    numbered = numbered.withColumn("_cdc_window", bounds)
    # The change that bounds the window.
    first_change = [F.min_by(c, "_cdc_sequence").alias(c) for c in [*CDC_COLUMNS, "_cdc_at"]]
    last_values = F.max_by(F.struct(*columns, *kept_missing), "_cdc_sequence").alias("_cdc_values")
    windows = numbered.groupBy(*keys, "_cdc_window").agg(last_values, *first_change)
    end = F.lead("_cdc_at").over(Window.partitionBy(*keys).orderBy("_cdc_window"))
    has_length = ~F.col("_cdc_timestamp").eqNullSafe(F.col(END))
    history = windows.withColumn(END, end).where((F.col("_cdc_operation") != DELETE) & has_length)
    return history.select(
        *[F.col(quote_identifier("_cdc_values", name)) for name in fields.names],
        *CDC_COLUMNS,
        F.col("_cdc_timestamp").alias(START),
        END,
        *[F.when(is_open_window(), F.col("_cdc_values")[name]).alias(name) for name in kept_missing],
    )


def _opens_window(table: Table, fields: T.StructType, prefix: str = "") -> Column:
    """Return whether a change opens a window: an insert, or an update of a column whose history is kept."""
    tracked = F.array(*[F.lit(c) for c in fields.names if _is_tracked(table, c)]).cast("array<string>")
    updates = F.coalesce(F.arrays_overlap(F.col(f"{prefix}{CHANGED_COLUMNS}"), tracked), F.lit(False))
    return (F.col(f"{prefix}_cdc_operation") == INSERT) | updates


def _is_tracked(table: Table, column: str) -> bool:
    if table.history_for is not None:
        return column in table.history_for
    # A change set has a changed column of `ignore` only beside others. These decide, unless they are left out as well.
    return table.history_except is None or column not in {*table.history_except, *table.ignore}


def history_rule(table: Table) -> str:
    """Return which columns' history is kept. Each commit of bronze records it: another rule makes another history."""
    if table.history_for is not None:
        return f"history for {', '.join(sorted(table.history_for))}"
    if table.history_except is not None:
        return f"history except {', '.join(sorted({*table.history_except, *table.ignore}))}"
    return "history"
