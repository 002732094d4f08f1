"""Evaluates row rules: marks each row with the names of the rules that it does not meet."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.config.ddl import quote_identifier
from lakehouse.error_mapping import first_line
from lakehouse.errors import ConfigError
from lakehouse.lake.quarantine import row_json
from lakehouse.models.model import ReadRelation
from lakehouse.models.sql.plan import Plan
from lakehouse.models.sql.rules import Rule

UNMET_RULES = "_cdc_unmet"
_FOUND_PREFIX = "_cdc_found_"


@dataclass(frozen=True)
class RowRuleEvaluator:
    """Evaluates the row rules of a model.

    Attributes:
        spark: The caller's own session.
        plan: The model's plan.
        arguments: The parameters by name.
        read_relation: Reads the relations that rules reference.
    """

    spark: SparkSession
    plan: Plan
    arguments: Mapping[str, Any]
    read_relation: ReadRelation

    def mark(self, rows: DataFrame, rules: Sequence[Rule]) -> DataFrame:
        """Return rows with the names of the rules that each does not meet, in the column `_cdc_unmet`.

        Args:
            rows: Rows of the model.
            rules: The row rules to evaluate.

        Raises:
            ConfigError: A rule cannot be evaluated.
        """
        columns = ", ".join(quote_identifier(column) for column in rows.columns)
        conditions = []
        for position, rule in enumerate(rules):
            if rule.referenced_relation:
                found = f"{_FOUND_PREFIX}{position}"
                rows = _with_reference_found(rows, rule, self.read_relation(rule.referenced_relation), found)
                conditions.append(f"{rule.condition} OR {found}")
            else:
                conditions.append(rule.condition)
        marks = [f"CASE WHEN {c} THEN NULL ELSE '{r.name}' END" for c, r in zip(conditions, rules, strict=True)]
        unmet = f"CAST(array_compact(array({', '.join(marks)})) AS ARRAY<STRING>) AS {UNMET_RULES}"
        used = {name for rule in rules for name in rule.parameters}
        arguments = {name: value for name, value in self.arguments.items() if name in used}
        view = f"_cdc_{uuid.uuid4().hex}"
        rows.createOrReplaceTempView(view)
        try:
            return self.spark.sql(f"SELECT {columns}, {unmet} FROM {view}", args=arguments)
        except AnalysisException as error:
            # Spark's message does not name the rule: evaluate one at a time.
            for condition, rule in zip(conditions, rules, strict=True):
                try:
                    self.spark.sql(f"SELECT CASE WHEN {condition} THEN 1 END AS met FROM {view}", args=arguments)
                except AnalysisException as rule_error:
                    raise not_evaluated_error(self.plan.model, rule, first_line(rule_error)) from error
            raise
        finally:
            self.spark.catalog.dropTempView(view)

    def remaining_rows(self, rows: DataFrame) -> DataFrame:
        """Return the rows of the model that no rule rejects.

        Args:
            rows: Rows of the model.
        """
        rejecting = [rule for rule in self.plan.rules if rule.can_reject_rows]
        if not rejecting:
            return rows
        marked = self.mark(rows, rejecting)
        return marked.where(F.size(UNMET_RULES) == 0).select(*[F.col(quote_identifier(c)) for c in rows.columns])

    def quarantined_rows(self, rows: DataFrame) -> DataFrame:
        """Return the rows of the model that rules put in quarantine, as the quarantine stores them.

        Args:
            rows: Rows of the model.
        """
        rules = [rule for rule in self.plan.rules if rule.on_fail == "quarantine"]
        return to_quarantine_rows(self.mark(rows, rules), rows.columns, rules)


def _with_reference_found(rows: DataFrame, rule: Rule, referenced: DataFrame, found: str) -> DataFrame:
    """Return rows with a BOOLEAN column `found`: whether the referenced relation has the row's values."""
    key_names = [f"{found}_{position}" for position in range(len(rule.referenced_columns))]
    keys = referenced.select(
        *[F.col(quote_identifier(c)).alias(n) for c, n in zip(rule.referenced_columns, key_names, strict=True)]
    ).distinct()
    same = [F.col(f"r.{quote_identifier(c)}") == F.col(f"k.{n}") for c, n in zip(rule.columns, key_names, strict=True)]
    joined = rows.alias("r").join(keys.withColumn(found, F.lit(True)).alias("k"), on=same, how="left")
    return joined.select("r.*", F.coalesce(F.col(f"k.{found}"), F.lit(False)).alias(found))


def not_evaluated_error(model: str, rule: Rule, reason: str) -> ConfigError:
    """Return the error for a rule that cannot be evaluated, at all or on the values of the rows.

    Args:
        model: The model's name.
        rule: The rule.
        reason: Why, such as the first line of Spark's error.
    """
    return ConfigError(
        f"{model}'s expectation {rule.name} cannot be evaluated: {reason}",
        expected=f"a condition on the model's columns, their types and values: {rule.description}",
        next_step="correct it in pipeline.yml, with try_cast or try_divide if some values do not fit; the table is"
        " unchanged",
    )


def is_unmet(name: str) -> Column:
    """Return whether a marked row does not meet a rule.

    Args:
        name: The rule's name.
    """
    return F.array_contains(UNMET_RULES, name)


def is_any_unmet(names: Sequence[str]) -> Column:
    """Return whether a marked row does not meet at least one of several rules.

    Args:
        names: The rules' names.
    """
    return F.arrays_overlap(UNMET_RULES, F.array(*map(F.lit, names))) if names else F.lit(False)


def to_quarantine_rows(rows: DataFrame, columns: list[str], rules: Sequence[Rule]) -> DataFrame:
    """Return marked rows as the quarantine stores them: one row for each rule that is not met.

    Args:
        rows: Marked rows.
        columns: The model's columns.
        rules: The rules that put rows in quarantine.

    Returns:
        Rows of (row, column, value, reason, rule, line).
    """
    entries = []
    for rule in rules:
        column = rule.columns[0] if len(rule.columns) == 1 else None  # a value needs a rule about one column
        entry = F.struct(
            F.lit(column).cast("string").alias("column"),
            (F.col(quote_identifier(column)) if column else F.lit(None)).cast("string").alias("value"),
            F.lit(f"expected {rule.description}").alias("reason"),
            F.lit(rule.name).alias("rule"),
        )
        entries.append(F.when(is_unmet(rule.name), entry))
    exploded = rows.select(row_json(columns).alias("row"), F.explode(F.array_compact(F.array(*entries))).alias("entry"))
    return exploded.select("row", "entry.*", F.lit(None).cast("long").alias("line"))
