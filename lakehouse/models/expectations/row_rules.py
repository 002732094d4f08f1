"""Rows, marked with the row rules that they do not meet."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.error_mapping import first_line
from lakehouse.errors import ConfigError
from lakehouse.lake.quarantine import row_json
from lakehouse.models.sql.plan import Plan
from lakehouse.models.sql.rules import Rule, quote_identifier

UNMET_RULES = "_cdc_unmet"
_FOUND_PREFIX = "_cdc_there_"

ReadRelation = Callable[[str], DataFrame]
"""A relation as it is now."""


def mark_unmet_rules(
    spark: SparkSession,
    plan: Plan,
    arguments: Mapping[str, Any],
    rows: DataFrame,
    read_relation: ReadRelation,
    rules: Sequence[Rule],
) -> DataFrame:
    """Rows of a model with the names of the `rules` that they do not meet, in a column `_cdc_unmet`.

    Args:
        spark: a session of the caller's own.
        arguments: parameters, by name.

    Raises:
        ConfigError: a rule cannot be evaluated.
    """
    columns = ", ".join(quote_identifier(c) for c in rows.columns)
    for at, rule in enumerate(rules):
        if rule.referenced_relation:
            rows = _with_reference_found(rows, rule, read_relation(rule.referenced_relation), f"{_FOUND_PREFIX}{at}")
    conditions = [
        f"{r.condition} OR {_FOUND_PREFIX}{at}" if r.referenced_relation else r.condition for at, r in enumerate(rules)
    ]
    marks = [f"CASE WHEN {c} THEN NULL ELSE '{r.name}' END" for c, r in zip(conditions, rules, strict=True)]
    unmet = f"CAST(array_compact(array({', '.join(marks)})) AS ARRAY<STRING>) AS {UNMET_RULES}"
    view = f"_cdc_{uuid.uuid4().hex}"
    rows.createOrReplaceTempView(view)
    used = {name for rule in rules for name in rule.parameters}
    given = {name: value for name, value in arguments.items() if name in used}
    try:
        return spark.sql(f"SELECT {columns}, {unmet} FROM {view}", args=given)
    except AnalysisException as error:
        raise _first_invalid_rule(spark, plan, view, given, conditions, rules) or error from error
    finally:
        spark.catalog.dropTempView(view)


def _with_reference_found(rows: DataFrame, rule: Rule, there: DataFrame, name: str) -> DataFrame:
    """Rows, with whether what they refer to is there."""
    own = [f"{name}_{at}" for at in range(len(rule.referenced_columns))]
    keys = there.select(
        *[F.col(f"`{c}`").alias(o) for c, o in zip(rule.referenced_columns, own, strict=True)]
    ).distinct()
    same = [F.col(f"r.`{c}`") == F.col(f"k.{o}") for c, o in zip(rule.columns, own, strict=True)]
    joined = rows.alias("r").join(keys.withColumn(name, F.lit(True)).alias("k"), on=same, how="left")
    return joined.select("r.*", F.coalesce(F.col(f"k.{name}"), F.lit(False)).alias(name))


def _first_invalid_rule(
    spark: SparkSession,
    plan: Plan,
    view: str,
    given: Mapping[str, Any],
    conditions: Sequence[str],
    rules: Sequence[Rule],
) -> ConfigError | None:
    """The error for the first rule that Spark does not take."""
    for condition, rule in zip(conditions, rules, strict=True):
        try:
            spark.sql(f"SELECT CASE WHEN {condition} THEN 1 END AS met FROM {view}", args=dict(given))
        except AnalysisException as error:
            return not_evaluated_error(plan.model, rule, error)
    return None


def not_evaluated_error(model: str, rule: Rule, error: Exception) -> ConfigError:
    """The error for a rule that Spark does not take, or not with the values that rows have."""
    return ConfigError(
        f"{model}'s expectation {rule.name} cannot be evaluated: {first_line(error)}",
        expected=f"a condition on the model's columns, their types and values: {rule.description}",
        next_step="mend it in pipeline.yml, with try_cast or try_divide where values do not fit; the table stays",
    )


def is_unmet(name: str) -> Column:
    return F.array_contains(UNMET_RULES, name)


def is_any_unmet(names: Sequence[str]) -> Column:
    return F.arrays_overlap(UNMET_RULES, F.array(*map(F.lit, names))) if names else F.lit(False)


def remaining_rows(
    spark: SparkSession, plan: Plan, arguments: Mapping[str, Any], rows: DataFrame, read_relation: ReadRelation
) -> DataFrame:
    """What expectations leave of a model's rows."""
    takers = [rule for rule in plan.rules if rule.can_reject_rows]
    if not takers:
        return rows
    found = mark_unmet_rules(spark, plan, arguments, rows, read_relation, takers)
    return found.where(F.size(UNMET_RULES) == 0).select(*[F.col(quote_identifier(c)) for c in rows.columns])


def quarantined_rows(
    spark: SparkSession, plan: Plan, arguments: Mapping[str, Any], rows: DataFrame, read_relation: ReadRelation
) -> DataFrame:
    """Those of a model's rows that expectations put in quarantine, as it has them."""
    rules = [rule for rule in plan.rules if rule.on_fail == "quarantine"]
    return to_quarantine_rows(mark_unmet_rules(spark, plan, arguments, rows, read_relation, rules), rows.columns, rules)


def to_quarantine_rows(rows: DataFrame, columns: list[str], rules: Sequence[Rule]) -> DataFrame:
    """Marked rows as quarantine has them: once for each of the `rules` that they do not meet."""
    told = [F.when(is_unmet(rule.name), _quarantine_columns(rule)) for rule in rules]
    each = rows.select(row_json(columns).alias("row"), F.explode(F.array_compact(F.array(*told))).alias("told"))
    return each.select("row", "told.*", F.lit(None).cast("long").alias("line"))


def _quarantine_columns(rule: Rule) -> Column:
    one = rule.columns[0] if len(rule.columns) == 1 else None
    return F.struct(
        F.lit(one).cast("string").alias("column"),
        (F.col(quote_identifier(one)) if one else F.lit(None)).cast("string").alias("value"),
        F.lit(f"expected {rule.description}").alias("reason"),
        F.lit(rule.name).alias("rule"),
    )
