"""Whether changes of a table matter to the models whose rows refer to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.lake import delta
from lakehouse.lake.small_rows import cache_rows, filter_to_ranges
from lakehouse.models.sql.rules import Rule, quoted


@dataclass(frozen=True)
class Referred:
    """A relation that changed: its rows now and then, and its change feed between."""

    now: Callable[[], DataFrame]
    then: Callable[[], DataFrame]
    changes: DataFrame


def why_whole(spark: SparkSession, rule: Rule, referred: Referred, failing: int) -> str:
    """Why all rows of a model have to be judged by a reference again; empty, if those that the model touches will do.

    A value that went can have rows anywhere that refer to it; one that came, only rows that failed before.

    Args:
        failing: how many rows of the model did so.
    """
    if _differ(spark, rule, referred.changes.where(delta.is_before_image()), referred.now()):
        return f"{rule.name} refers to values of {rule.relation} that went"
    if not failing and rule.on_fail != "drop":  # of rows that were dropped nobody knows what they referred to
        return ""
    if _differ(spark, rule, referred.changes.where(~delta.is_before_image()), referred.then()):
        return f"{rule.name} refers to {rule.relation}, which has new values"
    return ""


def _differ(spark: SparkSession, rule: Rule, images: DataFrame, there: DataFrame) -> bool:
    """Whether the images have values that are not in a table."""
    columns = [F.col(quoted(c)) for c in rule.others]
    values = cache_rows(spark, images.select(*columns).dropna().distinct())
    try:
        kept = filter_to_ranges(there.select(*columns), values.value_ranges())
        return not values.rows.join(kept, on=list(values.rows.columns), how="left_anti").isEmpty()
    finally:
        values.release()
