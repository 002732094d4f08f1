"""Whether changes of a table matter to the models whose rows refer to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.lake import delta
from lakehouse.lake.cached_rows import cache_rows, filter_to_ranges
from lakehouse.models.sql.rules import Rule, quote_identifier


@dataclass(frozen=True)
class ReferencedRelation:
    """A relation that changed: its rows now and then, and its change feed between."""

    read_current: Callable[[], DataFrame]
    read_previous: Callable[[], DataFrame]
    changes: DataFrame


def full_refresh_reason(spark: SparkSession, rule: Rule, changed: ReferencedRelation, failing: int) -> str:
    """Why all rows of a model have to be judged by a reference again; empty, if those that the model touches will do.

    A value that went can have rows anywhere that refer to it; one that came, only rows that failed before.

    Args:
        failing: how many rows of the model did so.
    """
    if _has_missing_values(spark, rule, changed.changes.where(delta.is_before_image()), changed.read_current()):
        return f"{rule.name} refers to values of {rule.referenced_relation} that went"
    if not failing and rule.on_fail != "drop":  # of rows that were dropped nobody knows what they referred to
        return ""
    if _has_missing_values(spark, rule, changed.changes.where(~delta.is_before_image()), changed.read_previous()):
        return f"{rule.name} refers to {rule.referenced_relation}, which has new values"
    return ""


def _has_missing_values(spark: SparkSession, rule: Rule, images: DataFrame, there: DataFrame) -> bool:
    """Whether the images have values that are not in a table."""
    columns = [F.col(quote_identifier(c)) for c in rule.referenced_columns]
    values = cache_rows(spark, images.select(*columns).dropna().distinct())
    try:
        kept = filter_to_ranges(there.select(*columns), values.value_ranges())
        return not values.rows.join(kept, on=list(values.rows.columns), how="left_anti").isEmpty()
    finally:
        values.release()
