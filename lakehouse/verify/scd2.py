"""Checks I1 of a history (scd 2): its windows against each other, and against every published change.

None of the functions with which bronze builds a history is used here: each change is looked up in the windows, at its
own time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.lake import delta
from lakehouse.lake.cdc import DELETE, GOES_MISSING
from lakehouse.verify.check import Check, Claim, is_gone, quoted_column, to_json
from lakehouse.verify.checked_table import CheckedTable

_MAX_EXAMPLES = 3


def scd2_checks(table: CheckedTable) -> Iterator[Check]:
    """Check that the windows of a key follow one another, and that they show every change at its time."""
    history = delta.read(table.spark, table.bronze)
    keys = table.config.keys
    start, end = F.col("__START_AT"), F.col("__END_AT")
    next_start = F.lead(start).over(Window.partitionBy(*map(quoted_column, keys)).orderBy(start))
    is_wrong = start.isNull() | (end <= start) | (next_start < end) | (end.isNull() & next_start.isNotNull())
    windows = history.select(
        *map(quoted_column, keys), start, end, F.coalesce(is_wrong, F.lit(False)).alias("_cdc_wrong")
    )
    total, open_count, wrong_count = windows.agg(
        F.count("*"), F.count_if(end.isNull()), F.count_if(F.col("_cdc_wrong"))
    ).collect()[0]
    claim = Claim("I1", "windows neither overlap nor are empty", table.name)
    if wrong_count:
        examples = _wrong_examples(windows, [*keys, "__START_AT", "__END_AT"])
        yield claim.fails(f"{wrong_count:,} windows: {examples}")
    else:
        yield claim.holds(f"{total:,} windows, {open_count:,} open")
    claim = Claim("I1", "history = the change sets, each at its time", table.name)
    try:
        yield _check_changes(claim, table, history)
    except Exception as error:
        if not is_gone(error):
            raise
        yield claim.not_checkable("change sets no longer exist")


def _check_changes(claim: Claim, table: CheckedTable, history: DataFrame) -> Check:
    """Check that the window at a change's time has its values, and that a window starts with a change that opens it.

    Only the columns with a history are compared. After a delete there is no window. Of several changes of a key at one
    time, the last one counts.
    """
    keys = table.config.keys
    latest_first = Window.partitionBy(*map(quoted_column, keys), "_cdc_timestamp").orderBy(F.desc("_cdc_sequence"))
    changes = without_expired_absences(table)
    changes = changes.withColumn("_cdc_rank", F.row_number().over(latest_first))
    changes = changes.where("_cdc_rank = 1")
    same_key = reduce(Column.__and__, [F.col(f"c.`{key}`") == F.col(f"w.`{key}`") for key in keys])
    start, end, time = F.col("w.__START_AT"), F.col("w.__END_AT"), F.col("c._cdc_timestamp")
    is_window_of_change = same_key & (start <= time) & F.coalesce(end > time, F.lit(True))
    shown = changes.alias("c").join(history.alias("w"), on=is_window_of_change, how="left")
    has_window, is_delete = start.isNotNull(), F.col("c._cdc_operation") == "D"
    differs = [~F.col(f"c.`{n}`").eqNullSafe(F.col(f"w.`{n}`")) for n in _history_columns(table)]
    is_wrong = F.when(is_delete, has_window).otherwise(~has_window | reduce(Column.__or__, differs, F.lit(False)))
    compared = shown.select(F.col("c.*"), is_wrong.alias("_cdc_wrong"))
    total, wrong_count = compared.agg(F.count("*"), F.count_if("_cdc_wrong")).collect()[0]
    starts = changes.where(_opens_window(table)).select(*keys, F.col("_cdc_timestamp").alias("__START_AT"))
    unfounded = history.join(starts, on=[*keys, "__START_AT"], how="left_anti").count()
    if not wrong_count and not unfounded:
        return claim.holds(f"{total:,} changes")
    examples = _wrong_examples(compared, [*keys, "_cdc_timestamp"])
    return claim.fails(
        f"{wrong_count:,} changes are not shown: {examples}; {unfounded:,} windows begin without a change"
    )


def without_expired_absences(table: CheckedTable) -> DataFrame:
    """Return the changes without those that say that a key goes missing which expired: its window ends there."""
    changes = table.read_change_sets()
    in_order = Window.partitionBy(*map(quoted_column, table.config.keys)).orderBy("_cdc_sequence")
    next_operation = F.lead("_cdc_operation").over(in_order)
    expires = (F.col("_cdc_operation") == GOES_MISSING) & (next_operation == DELETE)
    marked = changes.withColumn("_cdc_expires", F.coalesce(expires, F.lit(False)))
    return marked.where("NOT _cdc_expires").drop("_cdc_expires")


def _wrong_examples(rows: DataFrame, columns: list[str]) -> str:
    examples = rows.where("_cdc_wrong").select(to_json(columns)).limit(_MAX_EXAMPLES).collect()
    return "; ".join(row[0] for row in examples)


def expected_writes(table: CheckedTable) -> dict[int, dict[str, int]]:
    """Return the number of rows that each change set writes into a history, by sequence.

    An insert opens a window, a delete closes one, an update does both or, if no column with a history changed, neither.
    Change sets of the same time are left out: a later one replaces windows of an earlier one.
    """
    times = [entry.snapshot_time for entry in table.accepted]
    sequences = {e.sequence for e in table.accepted if e.sequence and times.count(e.snapshot_time) == 1}
    counts = (
        table.read_change_sets()
        .groupBy("_cdc_sequence")
        .agg(F.count_if(_opens_window(table)), F.count_if(F.col("_cdc_operation") != "I"))
        .where(F.col("_cdc_sequence").isin(list(sequences)))
    )
    return {row[0]: {"inserted": row[1], "updated": row[2], "deleted": 0} for row in counts.collect()}


def _opens_window(table: CheckedTable) -> Column:
    """Return whether a change opens a window: an insert does, and an update of a column with a history."""
    names = F.array(*map(F.lit, _history_columns(table))).cast("array<string>")
    changes_history = F.exists(F.col("_cdc_changed"), lambda name: F.array_contains(names, name))
    operation = F.col("_cdc_operation")
    return F.when(operation == "U", F.coalesce(changes_history, F.lit(False))).otherwise(operation == "I")


def _history_columns(table: CheckedTable) -> list[str]:
    """Return the columns that have a history."""
    config = table.config
    if config.history_for is not None:
        return list(config.history_for)
    excluded = [*config.history_except, *config.ignore] if config.history_except is not None else []
    return [name for name in table.schema.names if name not in [*config.keys, *excluded]]
