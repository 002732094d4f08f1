"""History (scd 2): a row a key and span of time. Pure: DataFrames in, DataFrames out.

    __START_AT  the time of the change that opened the window; `_cdc_*` are that change's
    __END_AT    the time of the change that closed it; null while it is open

Windows are half-open, so that those of a key neither overlap nor leave a gap while it lives. A change of columns whose
history is not kept is written into the open window. Two change sets of one time (a snapshot taken again once the
configuration was mended) leave no window without length: the later one's stands.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.lake.cdc import CDC_COLUMNS, CHANGED_COLUMNS, DELETE, INSERT

START, END = "__START_AT", "__END_AT"


def row_keys(table: Table) -> list[str]:
    """What identifies a row of bronze: the table's keys, and in a history the start of the window."""
    return [*table.keys, START] if table.scd == 2 else list(table.keys)


def is_open_window() -> Column:
    return F.col(END).isNull()


def is_valid_at(time: Column) -> Column:
    """Whether a window shows what was true at `time`."""
    return (F.col(START) <= time) & (is_open_window() | (F.col(END) > time))


def apply_changes(
    open_windows: DataFrame, changes: DataFrame, table: Table, fields: T.StructType
) -> tuple[DataFrame, DataFrame]:
    """What one change set makes of the windows it touches.

    Args:
        opened: the open windows of the changed keys.
        changes: the change set, with CHANGED.

    Returns:
        The windows that must be there afterwards, and the `keys` of all that are touched.
    """
    same_key = reduce(Column.__and__, [F.col(f"o.`{k}`") == F.col(f"c.`{k}`") for k in table.keys])
    both = changes.alias("c").join(open_windows.alias("o"), on=same_key, how="left")
    now = F.col("c._cdc_timestamp")
    opens, there = _opens_window(table, fields, "c."), F.col(f"o.{START}").isNotNull()
    deletes = F.col("c._cdc_operation") == DELETE

    def row(values: str, cdc: str, start: Column, end: Column | None = None) -> list[Column]:
        return [
            *[F.col(f"{values}.`{name}`") for name in fields.names],
            *[F.col(f"{cdc}.{name}") for name in CDC_COLUMNS],
            start.alias(START),
            (F.lit(None).cast("timestamp") if end is None else end).alias(END),
        ]

    start = F.col(f"o.{START}")
    closed = both.where(there & (opens | deletes) & (start < now)).select(*row("o", "o", start, now))
    begun = both.where(opens | ~(there | deletes)).select(*row("c", "c", now))
    refreshed = both.where(there & ~opens & ~deletes).select(*row("c", "o", start))
    wanted = closed.unionByName(begun).unionByName(refreshed)
    before = both.where(there).select(*[F.col(f"c.`{k}`") for k in table.keys], start)
    return wanted, before.unionByName(wanted.select(*row_keys(table))).distinct()


def build_history(changes: DataFrame, table: Table, fields: T.StructType) -> DataFrame:
    """The whole history, from all change sets at once."""
    in_order = Window.partitionBy(*table.keys).orderBy("_cdc_sequence")
    deletes = F.col("_cdc_operation") == DELETE
    numbered = changes.withColumn("_cdc_bound", _opens_window(table, fields) | deletes).withColumn(
        "_cdc_window", F.count_if("_cdc_bound").over(in_order)
    )
    opener = [F.min_by(c, "_cdc_sequence").alias(c) for c in CDC_COLUMNS]  # the one that bounds it: the first
    values = [F.max_by(F.struct(*fields.names), "_cdc_sequence").alias("_cdc_values")]
    each = numbered.groupBy(*table.keys, "_cdc_window").agg(*values, *opener)
    ends = F.lead("_cdc_timestamp").over(Window.partitionBy(*table.keys).orderBy("_cdc_window"))
    has_length = ~F.col("_cdc_timestamp").eqNullSafe(F.col(END))
    spans = each.withColumn(END, ends).where((F.col("_cdc_operation") != DELETE) & has_length)
    return spans.select(
        *[F.col(f"_cdc_values.`{name}`") for name in fields.names],
        *CDC_COLUMNS,
        F.col("_cdc_timestamp").alias(START),
        END,
    )


def _opens_window(table: Table, fields: T.StructType, prefix: str = "") -> Column:
    """Whether a change opens a window: an insert, or an update of a column whose history is kept."""
    kept = F.array(*[F.lit(c) for c in fields.names if _is_tracked(table, c)]).cast("array<string>")
    updates = F.coalesce(F.arrays_overlap(F.col(f"{prefix}{CHANGED_COLUMNS}"), kept), F.lit(False))
    return (F.col(f"{prefix}_cdc_operation") == INSERT) | updates


def _is_tracked(table: Table, column: str) -> bool:
    if table.history_for is not None:
        return column in table.history_for
    # A column of `ignore` is in a change set only beside others. They decide, unless these are left out themselves.
    return table.history_except is None or column not in {*table.history_except, *table.ignore}


def history_rule(table: Table) -> str:
    """Which columns' history is kept, as each commit of bronze records it: by another rule it is another history."""
    if table.history_for is not None:
        return f"history for {', '.join(sorted(table.history_for))}"
    if table.history_except is not None:
        return f"history except {', '.join(sorted({*table.history_except, *table.ignore}))}"
    return "history"
