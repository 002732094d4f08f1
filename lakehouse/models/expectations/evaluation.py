"""The rows of a refresh, judged; and what becomes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.lake import quarantine
from lakehouse.lake.cached_rows import CachedRows, cache_rows
from lakehouse.models.expectations.context import EvaluationContext, as_of_state, not_met_error
from lakehouse.models.expectations.results import RuleResult
from lakehouse.models.expectations.row_rules import (
    UNMET_RULES,
    is_any_unmet,
    is_unmet,
    not_evaluated_error,
    to_quarantine_rows,
)
from lakehouse.models.expectations.table_rules import ResultingTable
from lakehouse.models.sql.rules import Rule, quote_identifier
from lakehouse.spark.session import SPARK_ERRORS

_EXAMPLES = 3


@contextmanager
def evaluate(
    task: EvaluationContext, rows: DataFrame, affected_keys: CachedRows | None, expect_few: bool
) -> Iterator[Evaluation]:
    """Hold the rows of a refresh against what is expected.

    Args:
        wanted: all rows for the keys touched.
        touched: None: the whole model.
        few: the rows are thought to be few, so that the driver may ask for them.
    """
    rules = [rule for rule in task.plan.rules if not rule.is_table_rule]
    marked_rows = task.mark_rows(rows, rules)
    with _attribute_errors(task, rows, rules):
        # Asked for a part of many rows, Spark would compute them twice.
        held = (
            cache_rows(task.spark, marked_rows)
            if expect_few
            else CachedRows(marked_rows.persist(StorageLevel.MEMORY_AND_DISK))
        )
    try:
        verdict = Evaluation(task, held, affected_keys, rows.columns)
        with _attribute_errors(task, rows, rules):
            verdict.compute()
        yield verdict
    finally:
        held.release()


@contextmanager
def _attribute_errors(task: EvaluationContext, rows: DataFrame, rules: list[Rule]) -> Iterator[None]:
    """Have an error that comes of a rule, and not of the model's own SQL, say so."""
    try:
        yield
    except SPARK_ERRORS as error:
        try:
            rows.agg(F.max(F.xxhash64(*[F.col(quote_identifier(c)) for c in rows.columns]))).collect()
        except SPARK_ERRORS:
            raise error from None
        for rule in rules:
            try:
                task.mark_rows(rows, [rule]).where(is_unmet(rule.name)).count()
            except SPARK_ERRORS as told:
                raise not_evaluated_error(task.plan.model, rule, told) from error
        raise


@dataclass(frozen=True)
class _Counts:
    """How many rows there are, are left, and go to quarantine; and by rule how many do not meet it: of those left,
    unless the rule takes them out."""

    rows: int
    remaining: int
    quarantined: int
    failed: Mapping[str, int]


class Evaluation:
    """The rows of a refresh, judged.

    Attributes:
        good: those that reach the table.
    """

    def __init__(
        self, task: EvaluationContext, held: CachedRows, touched: CachedRows | None, columns: list[str]
    ) -> None:
        self._task, self._cached, self._affected_keys, self._columns = task, held, touched, columns
        self._rules = task.plan.rules
        self._rejecting = [rule.name for rule in self._rules if rule.can_reject_rows]
        self._remaining = held.rows.where(~is_any_unmet(self._rejecting))
        self.remaining_rows = self._remaining.select(*[F.col(quote_identifier(c)) for c in columns])

    def apply_policies(self) -> tuple[dict[str, Any], list[RuleResult]]:
        """Refuse, or write the quarantine; returns what the model's commit is to carry, and what came of each rule.

        Raises:
            Unmet: a rule that says `fail` is not met.
        """
        found = [
            self._evaluate_table_rule(rule) if rule.is_table_rule else self._evaluate_row_rule(rule)
            for rule in self._rules
        ]
        if broken := [r for r in found if not r.is_met and r.on_fail == "fail"]:
            raise not_met_error(self._task, found, [self._describe_failure(r) for r in broken])
        out = self._write_quarantine()
        results = [replace(r, rows_failing=out[r.rule], is_met=not out[r.rule]) if r.rule in out else r for r in found]
        results = [_with_total(r) for r in results]
        failing = {r.rule: r.rows_failing for r in results if r.rows_failing}
        told: dict[str, Any] = {"quarantined": True} if any(out.values()) else {}
        return told | ({"failing": failing} if failing else {}) | as_of_state(self._task), results

    # --- counting -----------------------------------------------------------------------------------------------------

    def compute(self) -> None:
        """Compute the rows, if they are not."""
        self._counts  # noqa: B018 - kept for whoever asks

    @property
    def rejected(self) -> dict[str, int]:
        """How many rows were taken out; those that a rule puts in quarantine are not dropped."""
        counts, policies = self._counts, {rule.on_fail for rule in self._rules}
        taken = {"quarantine": counts.quarantined, "drop": counts.rows - counts.remaining - counts.quarantined}
        names = {"quarantine": "quarantined", "drop": "dropped"}
        return {names[policy]: count for policy, count in taken.items() if policy in policies}

    @cached_property
    def _counts(self) -> _Counts:
        keepers = [rule.name for rule in self._rules if rule.on_fail == "quarantine"]
        if self._cached.local_rows is not None:
            unmet = [frozenset(names) for names in self._cached.local_rows.column(UNMET_RULES).to_pylist()]
            left = [names for names in unmet if names.isdisjoint(self._rejecting)]
            counted = Counter(name for names in unmet for name in names.intersection(self._rejecting))
            counted.update(name for names in left for name in names)
            return _Counts(len(unmet), len(left), sum(not names.isdisjoint(keepers) for names in unmet), counted)
        names = [rule.name for rule in self._rules if not rule.is_table_rule]
        is_left, is_kept = ~is_any_unmet(self._rejecting), is_any_unmet(keepers)
        each = [F.count_if(is_unmet(n) if n in self._rejecting else is_unmet(n) & is_left) for n in names]
        sums = self._cached.rows.agg(F.count("*"), F.count_if(is_left), F.count_if(is_kept), *each).collect()[0]
        return _Counts(sums[0], sums[1], sums[2], dict(zip(names, sums[3:], strict=True)))

    def _evaluate_row_rule(self, rule: Rule) -> RuleResult:
        counts = self._counts
        failed, checked = counts.failed.get(rule.name, 0), counts.rows if rule.can_reject_rows else counts.remaining
        failing = None if rule.can_reject_rows else failed  # of quarantine it is told once that is written
        if not rule.can_reject_rows and self._affected_keys is not None and self._failing_before(rule):
            others = self._task.mark_rows(self._resulting_table.other_rows, [rule])
            failing = failed + others.where(is_unmet(rule.name)).count()
        met, about = not (failing or failed), f"{failed:,} of {checked:,} rows"
        return RuleResult(self._task.plan.model, rule.name, rule.on_fail, checked, failed, failing, met, about)

    def _evaluate_table_rule(self, rule: Rule) -> RuleResult:
        found, checked = self._resulting_table.evaluate(rule, self._failing_before(rule)), self._counts.remaining
        model = self._task.plan.model
        return RuleResult(
            model, rule.name, rule.on_fail, checked, found.rows_failed, found.rows_failed, found.is_met, found.observed
        )

    def _failing_before(self, rule: Rule) -> int:
        return int(self._task.previous_state.get("failing", {}).get(rule.name, 0))

    @cached_property
    def _resulting_table(self) -> ResultingTable:
        task = self._task
        return ResultingTable(
            task.read_table(),
            self.remaining_rows,
            self._counts.remaining,
            self._affected_keys,
            self._cached.local_rows,
            task.arguments["as_of"],
        )

    # --- what becomes of them -----------------------------------------------------------------------------------------

    def _write_quarantine(self) -> dict[str, int]:
        """Bring the model's quarantine up to date; returns, by rule, how many rows are in it then."""
        task, standing = self._task, self._task.quarantine_state
        rules = [rule for rule in self._rules if rule.on_fail == "quarantine"]
        is_any = any(self._counts.failed.get(rule.name) for rule in rules)
        out = standing.open_by_rule
        if is_any or out or not standing.is_in_step:
            rows = to_quarantine_rows(self._cached.rows, self._columns, rules) if is_any else None
            keys = self._affected_keys.rows if self._affected_keys is not None else None
            to, model = task.target_version.version + 1 if task.target_version else 0, task.plan.model
            if quarantine.write_of_model(task.spark, task.lake, model, rows, keys, task.refreshed_version, to):
                out = quarantine.read_state(task.spark, task.lake, model, to).open_by_rule
        return {rule.name: out.get(rule.name, 0) for rule in rules}

    def _describe_failure(self, result: RuleResult) -> str:
        """What is told of a rule that was not met."""
        rule = next(rule for rule in self._rules if rule.name == result.rule)
        if rule.is_table_rule:
            examples = self._resulting_table.examples(rule, _EXAMPLES)
        else:
            keys = F.to_json(F.struct(*map(quote_identifier, self._task.plan.keys)), {"ignoreNullFields": "false"})
            rows = self._remaining.where(is_unmet(rule.name)).select(keys).limit(_EXAMPLES).collect()
            examples = [str(row[0]) for row in rows]
        such = f", such as {'; '.join(examples)}" if examples else ""
        return f"{result.model} does not meet {rule.name}, {rule.description}: {result.observed}{such}"


def _with_total(result: RuleResult) -> RuleResult:
    if result.rows_failed is None or not result.rows_failing or result.rows_failing == result.rows_failed:
        return result
    return replace(result, observed=f"{result.observed}, {result.rows_failing:,} in all")
