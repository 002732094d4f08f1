"""I1 and I5 of a history (scd 2): its windows against each other, and against every published change.

Nothing that bronze folds or applies with is used here: each change is looked up in the windows, at its own time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.lake import delta
from lakehouse.verify.check import Check, Claim, is_gone, quoted_column, to_json
from lakehouse.verify.landed_rows import read_change_sets
from lakehouse.verify.second_reader import CheckedTable


def scd2_checks(subject: CheckedTable) -> Iterator[Check]:
    """That the windows of a key follow one another, and that they show what every change set said at its time."""
    history = delta.read(subject.spark, subject.lake.bronze_table(subject.name))
    yield _check_windows(Claim("I1", "windows neither overlap nor are empty", subject.name), subject, history)
    claim = Claim("I1", "history = the change sets, each at its time", subject.name)
    try:
        yield _check_changes(claim, subject, history)
    except Exception as error:
        if not is_gone(error):
            raise
        yield claim.not_checkable("change sets are no longer there")


def _check_windows(claim: Claim, subject: CheckedTable, history: DataFrame) -> Check:
    keys = [quoted_column(k) for k in subject.config.keys]
    start, end = F.col("__START_AT"), F.col("__END_AT")
    following = F.lead(start).over(Window.partitionBy(*keys).orderBy(start))
    wrong = start.isNull() | (end <= start) | (following < end) | (end.isNull() & following.isNotNull())
    judged = history.select(*keys, start, end, F.coalesce(wrong, F.lit(False)).alias("_cdc_wrong"))
    total, still_open, faults = judged.agg(
        F.count("*"), F.count_if(end.isNull()), F.count_if(F.col("_cdc_wrong"))
    ).collect()[0]
    if not faults:
        return claim.holds(f"{total:,} windows, {still_open:,} open")
    shown = (
        judged.where("_cdc_wrong").select(to_json([*subject.config.keys, "__START_AT", "__END_AT"])).limit(3).collect()
    )
    return claim.fails(f"{faults:,} windows: {'; '.join(row[0] for row in shown)}")


def _check_changes(claim: Claim, subject: CheckedTable, history: DataFrame) -> Check:
    """After each change the one window at its time has the values of the columns whose history is kept, or, after a
    delete, there is none. And every window begins with a change that opens one."""
    last = Window.partitionBy(*map(quoted_column, subject.config.keys), "_cdc_timestamp").orderBy(
        F.desc("_cdc_sequence")
    )
    changes = read_change_sets(subject).withColumn("_cdc_rank", F.row_number().over(last)).where("_cdc_rank = 1")
    covers = (F.col("w.__START_AT") <= F.col("c._cdc_timestamp")) & F.coalesce(
        F.col("w.__END_AT") > F.col("c._cdc_timestamp"), F.lit(True)
    )
    both = changes.alias("c").join(history.alias("w"), on=_same_key(subject) & covers, how="left")
    there, deleted = F.col("w.__START_AT").isNotNull(), F.col("c._cdc_operation") == "D"
    differ = [~F.col(f"c.`{n}`").eqNullSafe(F.col(f"w.`{n}`")) for n in _history_columns(subject)]
    wrong = F.when(deleted, there).otherwise(~there | reduce(Column.__or__, differ, F.lit(False)))
    stated = both.select(F.col("c.*"), wrong.alias("_cdc_wrong"))
    opened = history.join(
        changes.where(_opens_window(subject)).select(*subject.config.keys, F.col("_cdc_timestamp").alias("__START_AT")),
        on=[*subject.config.keys, "__START_AT"],
        how="left_anti",
    )
    total, faults, unfounded = *stated.agg(F.count("*"), F.count_if("_cdc_wrong")).collect()[0], opened.count()
    if not faults and not unfounded:
        return claim.holds(f"{total:,} changes")
    shown = stated.where("_cdc_wrong").select(to_json([*subject.config.keys, "_cdc_timestamp"])).limit(3).collect()
    told = "; ".join(row[0] for row in shown)
    return claim.fails(f"{faults:,} changes are not shown: {told}; {unfounded:,} windows begin without a change")


def expected_writes(subject: CheckedTable) -> dict[int, dict[str, int]]:
    """What each change set writes into a history, by sequence: an insert opens a window, a delete closes one, an
    update does both or, where no history is kept, neither. Sets of one time are left out: they replace windows."""
    times = [entry.snapshot_time for entry in subject.accepted]
    clear = {e.sequence for e in subject.accepted if e.sequence and times.count(e.snapshot_time) == 1}
    opens, operation = _opens_window(subject), F.col("_cdc_operation")
    counted = (
        read_change_sets(subject)
        .groupBy("_cdc_sequence")
        .agg(F.count_if(opens), F.count_if(operation != "I"))
        .where(F.col("_cdc_sequence").isin(list(clear)))
    )
    return {row[0]: {"inserted": row[1], "updated": row[2], "deleted": 0} for row in counted.collect()}


def _same_key(subject: CheckedTable) -> Column:
    return reduce(Column.__and__, [F.col(f"c.`{k}`") == F.col(f"w.`{k}`") for k in subject.config.keys])


def _opens_window(subject: CheckedTable) -> Column:
    """Whether a change opens a window."""
    names = F.array(*map(F.lit, _history_columns(subject))).cast("array<string>")
    kept = F.exists(F.col("_cdc_changed"), lambda name: F.array_contains(names, name))
    return F.when(F.col("_cdc_operation") == "U", F.coalesce(kept, F.lit(False))).otherwise(
        F.col("_cdc_operation") == "I"
    )


def _history_columns(subject: CheckedTable) -> list[str]:
    """The columns whose history is kept."""
    table = subject.config
    if table.history_for is not None:
        return list(table.history_for)
    without = [*table.history_except, *table.ignore] if table.history_except is not None else []
    return [n for n in subject.schema.names if n not in [*table.keys, *without]]
