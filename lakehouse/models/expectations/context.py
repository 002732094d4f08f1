"""A model about to be judged: what it has, what was said of it before, and what time alone does to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from lakehouse.errors import DataRefused
from lakehouse.lake import delta, quarantine
from lakehouse.models.expectations.results import RuleResult
from lakehouse.models.expectations.row_rules import ReadRelation, mark_unmet_rules
from lakehouse.models.expectations.table_rules import ResultingTable
from lakehouse.models.sql.plan import Plan
from lakehouse.models.sql.rules import Rule
from lakehouse.storage.delta_log import TableVersion
from lakehouse.storage.paths import Lake


class ExpectationsNotMet(DataRefused):
    """A rule that says `fail` is not met. `results`: those of all rules."""

    results: tuple[RuleResult, ...] = ()


@dataclass(frozen=True)
class EvaluationContext:
    """A model about to be refreshed.

    Attributes:
        spark: a session of the refresh's own.
        arguments: all parameters, by name.
        head: its table; None: there is none yet.
        before: the state that the table's last commit carries; empty, where it says nothing of the rows that are there.
        read: a relation as it is now.
    """

    spark: SparkSession
    lake: Lake
    plan: Plan
    arguments: Mapping[str, Any]
    target_version: TableVersion | None
    previous_state: Mapping[str, Any]
    read_relation: ReadRelation

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to judge, or to bring back since there no longer is."""
        return bool(self.plan.rules or self.previous_state.get("quarantined"))

    @property
    def refreshed_version(self) -> int:
        return self.target_version.last_refresh_version if self.target_version else -1

    @cached_property
    def quarantine_state(self) -> quarantine.QuarantineState:
        """Its quarantine, before."""
        return quarantine.read_state(self.spark, self.lake, self.plan.model, self.refreshed_version)

    def read_table(self) -> DataFrame | None:
        return delta.read(self.spark, self.lake.table(self.plan.model)) if self.target_version else None

    def mark_rows(self, rows: DataFrame, rules: list[Rule]) -> DataFrame:
        return mark_unmet_rules(self.spark, self.plan, self.arguments, rows, self.read_relation, rules)


def full_refresh_reason(task: EvaluationContext) -> str:
    """Why a model's quarantine has to be made anew, and the model with it; empty, if it is as the table has it."""
    if not task.previous_state.get("quarantined") and not any(rule.on_fail == "quarantine" for rule in task.plan.rules):
        return ""
    if task.previous_state.get("quarantined") and not task.quarantine_state.rows:
        return "its quarantine is gone"
    return "" if task.quarantine_state.is_in_step else "a run was killed after it wrote the quarantine"


def evaluate_unchanged(task: EvaluationContext) -> tuple[dict[str, Any], list[RuleResult]]:
    """What a commit that changes no row is to carry; and what came of the rules that time alone can break.

    Raises:
        Unmet: the model is not fresh, and its rule says `fail`.
    """
    carried = {name: task.previous_state[name] for name in ("failing", "quarantined") if name in task.previous_state}
    results, table = list[RuleResult](), task.read_table()
    if is_freshness_due(task) and table is not None:
        there = ResultingTable(None, table, 0, None, None, task.arguments["as_of"])
        for rule in (rule for rule in task.plan.rules if rule.spec.freshness):
            found = there.evaluate(rule, 0)
            results.append(
                RuleResult(task.plan.model, rule.name, rule.on_fail, 0, None, None, found.is_met, found.observed)
            )
    if broken := [r for r in results if not r.is_met and r.on_fail == "fail"]:
        raise not_met_error(task, results, [f"{r.model} does not meet {r.rule}: {r.observed}" for r in broken])
    return carried | as_of_state(task), results


def is_freshness_due(task: EvaluationContext) -> bool:
    """Whether :as_of has moved since a rule about it was last looked at."""
    return as_of_state(task) != {name: task.previous_state[name] for name in ("as_of",) if name in task.previous_state}


def as_of_state(task: EvaluationContext) -> dict[str, Any]:
    """What a commit is to carry for `has_aged`."""
    is_asked = any(rule.spec.freshness for rule in task.plan.rules)
    return {"as_of": task.arguments["as_of"].isoformat()} if is_asked else {}


def not_met_error(task: EvaluationContext, results: list[RuleResult], failures: list[str]) -> ExpectationsNotMet:
    """The error for rules that say `fail` and are not met; `found` tells of each."""
    model = task.plan.model
    stays = (
        f"the table stays as it is, at version {task.target_version.version}"
        if task.target_version
        else "there is no table yet"
    )
    error = ExpectationsNotMet(
        "\n".join(failures),
        expected=f"that it is met, or nothing is written: {stays}, and what reads it is not fed with this",
        where=task.lake.table(model),
        next_step="mend the rows at their source, or the rule; then `lakehouse run PIPELINE` judges them again",
    )
    error.results = tuple(results)
    return error
