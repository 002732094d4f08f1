"""A model about to be judged: what it has, what was said of it before, and what time alone does to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from lakehouse.errors import DataRefused
from lakehouse.lake import delta, quarantine
from lakehouse.models.expectations.results import Result
from lakehouse.models.expectations.row_rules import Read, marked
from lakehouse.models.expectations.table_rules import Resulting
from lakehouse.models.sql.plan import Plan
from lakehouse.models.sql.rules import Rule
from lakehouse.storage.delta_log import TableVersion
from lakehouse.storage.paths import Lake


class Unmet(DataRefused):
    """A rule that says `fail` is not met. `results`: those of all rules."""

    results: tuple[Result, ...] = ()


@dataclass(frozen=True)
class Task:
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
    head: TableVersion | None
    before: Mapping[str, Any]
    read: Read

    @property
    def is_asked(self) -> bool:
        """Whether there is anything to judge, or to bring back since there no longer is."""
        return bool(self.plan.rules or self.before.get("quarantined"))

    @property
    def refreshed(self) -> int:
        return self.head.last_refresh_version if self.head else -1

    @cached_property
    def standing(self) -> quarantine.QuarantineState:
        """Its quarantine, before."""
        return quarantine.read_state(self.spark, self.lake, self.plan.model, self.refreshed)

    def table(self) -> DataFrame | None:
        return delta.read(self.spark, self.lake.table(self.plan.model)) if self.head else None

    def marked(self, rows: DataFrame, rules: list[Rule]) -> DataFrame:
        return marked(self.spark, self.plan, self.arguments, rows, self.read, rules)


def why_whole(task: Task) -> str:
    """Why a model's quarantine has to be made anew, and the model with it; empty, if it is as the table has it."""
    if not task.before.get("quarantined") and not any(rule.on_fail == "quarantine" for rule in task.plan.rules):
        return ""
    if task.before.get("quarantined") and not task.standing.rows:
        return "its quarantine is gone"
    return "" if task.standing.is_in_step else "a run was killed after it wrote the quarantine"


def at_rest(task: Task) -> tuple[dict[str, Any], list[Result]]:
    """What a commit that changes no row is to carry; and what came of the rules that time alone can break.

    Raises:
        Unmet: the model is not fresh, and its rule says `fail`.
    """
    carried = {name: task.before[name] for name in ("failing", "quarantined") if name in task.before}
    results, table = list[Result](), task.table()
    if has_aged(task) and table is not None:
        there = Resulting(None, table, 0, None, None, task.arguments["as_of"])
        for rule in (rule for rule in task.plan.rules if rule.spec.freshness):
            found = there.found(rule, 0)
            results.append(Result(task.plan.model, rule.name, rule.on_fail, 0, None, None, found.met, found.about))
    if broken := [r for r in results if not r.met and r.on_fail == "fail"]:
        raise refusal(task, results, [f"{r.model} does not meet {r.rule}: {r.found}" for r in broken])
    return carried | as_of(task), results


def has_aged(task: Task) -> bool:
    """Whether :as_of has moved since a rule about it was last looked at."""
    return as_of(task) != {name: task.before[name] for name in ("as_of",) if name in task.before}


def as_of(task: Task) -> dict[str, Any]:
    """What a commit is to carry for `has_aged`."""
    is_asked = any(rule.spec.freshness for rule in task.plan.rules)
    return {"as_of": task.arguments["as_of"].isoformat()} if is_asked else {}


def refusal(task: Task, results: list[Result], found: list[str]) -> Unmet:
    """The error for rules that say `fail` and are not met; `found` tells of each."""
    model = task.plan.model
    stays = f"the table stays as it is, at version {task.head.version}" if task.head else "there is no table yet"
    error = Unmet(
        "\n".join(found),
        expected=f"that it is met, or nothing is written: {stays}, and what reads it is not fed with this",
        where=task.lake.table(model),
        next_step="mend the rows at their source, or the rule; then `lakehouse run PIPELINE` judges them again",
    )
    error.results = tuple(results)
    return error
