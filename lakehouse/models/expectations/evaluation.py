"""Evaluates the rules of a model on the rows of a refresh and applies their policies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.config.ddl import quote_identifier
from lakehouse.error_mapping import first_line
from lakehouse.failpoints import failpoint
from lakehouse.lake import quarantine
from lakehouse.lake.cached_rows import CachedRows
from lakehouse.models.expectations.freshness import as_of_state
from lakehouse.models.expectations.results import RESULTS_KEY, RuleResult, not_met_error, to_state
from lakehouse.models.expectations.row_rules import (
    UNMET_RULES,
    RowRuleEvaluator,
    is_any_unmet,
    is_unmet,
    not_evaluated_error,
    to_quarantine_rows,
)
from lakehouse.models.expectations.table_rules import ResultingTable
from lakehouse.models.model import RefreshContext
from lakehouse.models.sql.rules import Rule
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.text import counted

_EXAMPLES = 3


def is_evaluation_needed(context: RefreshContext) -> bool:
    """Return whether the model has rules, or has rows in quarantine of rules that it had.

    Args:
        context: The refresh.
    """
    return bool(context.model.plan.rules or context.last_refresh_state.get("quarantined"))


@contextmanager
def evaluate(
    context: RefreshContext, rows: DataFrame, affected_keys: CachedRows | None, expect_few: bool
) -> Iterator[Evaluation]:
    """Compute the rows of a refresh once and evaluate the row rules on them.

    Args:
        context: The refresh.
        rows: All rows that the model has for the affected keys.
        affected_keys: The keys that the refresh is for; None for the whole table.
        expect_few: Whether few rows are expected, so that the driver may collect them.

    Yields:
        The evaluation; its rows stay cached until the block ends.

    Raises:
        ConfigError: A rule cannot be evaluated.
    """
    model = context.model
    evaluator = RowRuleEvaluator(context.spark, model.plan, model.parameters, context.read_current)
    rules = [rule for rule in model.plan.rules if not rule.is_table_rule]
    marked = evaluator.mark(rows, rules)
    with _name_failing_rule(evaluator, rows, rules):
        # `cache` reads the first rows alone, for which Spark would compute many rows twice.
        cached = context.cache(marked) if expect_few else CachedRows(marked.persist(StorageLevel.MEMORY_AND_DISK))
    try:
        evaluation = Evaluation(context, evaluator, cached, affected_keys)
        with _name_failing_rule(evaluator, rows, rules):
            evaluation.compute()
        yield evaluation
    finally:
        cached.release()


@contextmanager
def _name_failing_rule(evaluator: RowRuleEvaluator, rows: DataFrame, rules: list[Rule]) -> Iterator[None]:
    """Raise an error that names the rule, if a Spark error comes from a rule and not from the model's SQL."""
    try:
        yield
    except SPARK_ERRORS as error:
        try:
            rows.agg(F.max(F.xxhash64(*[F.col(quote_identifier(c)) for c in rows.columns]))).collect()
        except SPARK_ERRORS:
            raise error from None
        for rule in rules:
            try:
                evaluator.mark(rows, [rule]).where(is_unmet(rule.name)).count()
            except SPARK_ERRORS as rule_error:
                raise not_evaluated_error(evaluator.plan.model, rule, first_line(rule_error)) from error
        raise


@dataclass(frozen=True)
class _Counts:
    """Counts of the computed rows.

    Attributes:
        rows: All rows.
        remaining: Rows that no rule rejects.
        quarantined: Rows that a rule puts in quarantine.
        failed: By rule, the rows that do not meet it: of all rows if it rejects rows, else of the remaining rows.
    """

    rows: int
    remaining: int
    quarantined: int
    failed: Mapping[str, int]


class Evaluation:
    """The evaluated rows of a refresh.

    Attributes:
        remaining: The rows that no rule rejects, with the model's columns.
    """

    def __init__(
        self,
        context: RefreshContext,
        evaluator: RowRuleEvaluator,
        marked: CachedRows,
        affected_keys: CachedRows | None,
    ) -> None:
        """Wrap marked rows.

        Args:
            context: The refresh.
            evaluator: Evaluates the model's row rules.
            marked: The rows with the names of the row rules that each does not meet.
            affected_keys: The keys that the refresh is for; None for the whole table.
        """
        self._context, self._evaluator, self._marked, self._affected_keys = context, evaluator, marked, affected_keys
        self._rules = context.model.plan.rules
        self._columns = [column for column in marked.rows.columns if column != UNMET_RULES]
        self._rejecting = [rule.name for rule in self._rules if rule.can_reject_rows]
        self._remaining = marked.rows.where(~is_any_unmet(self._rejecting))
        remaining_rows = self._remaining.select(*[F.col(quote_identifier(c)) for c in self._columns])
        self.remaining = CachedRows(remaining_rows, self._remaining_local_rows())

    def apply_policies(self) -> tuple[dict[str, Any], list[RuleResult]]:
        """Evaluate all rules and write the quarantine.

        Returns:
            The evaluation's part of the state that the model's commit records, and the result of each rule.

        Raises:
            ExpectationsNotMet: A rule with `on_fail: fail` is not met. Nothing is written.
        """
        results = [self._evaluate_rule(rule) for rule in self._rules]
        if broken := [result for result in results if result.fails_refresh]:
            failures = [self._describe_failure(result) for result in broken]
            raise not_met_error(self._context, results, failures, [self._examples(result) for result in broken])
        quarantined = self._write_quarantine()
        failpoint("after_model_quarantine", self._context.model.name)
        results = [_after_quarantine(result, quarantined) for result in results]
        failing = {result.rule: result.rows_failing for result in results if result.rows_failing}
        state: dict[str, Any] = {"quarantined": True} if any(quarantined.values()) else {}
        state |= {RESULTS_KEY: to_state(results)} if results else {}
        return state | ({"failing": failing} if failing else {}) | as_of_state(self._context), results

    def compute(self) -> None:
        """Compute the rows and count them."""
        self._counts  # noqa: B018 - a cached property, which reads the rows

    @property
    def rejected(self) -> dict[str, int]:
        """The counts of rejected rows, by `quarantined` and `dropped`; a row counts once, as quarantined first."""
        counts, policies = self._counts, {rule.on_fail for rule in self._rules}
        rejected = {}
        if "quarantine" in policies:
            rejected["quarantined"] = counts.quarantined
        if "drop" in policies:
            rejected["dropped"] = counts.rows - counts.remaining - counts.quarantined
        return rejected

    @cached_property
    def _counts(self) -> _Counts:
        quarantining = [rule.name for rule in self._rules if rule.on_fail == "quarantine"]
        if self._marked.local_rows is not None:
            unmet = [frozenset(names) for names in self._marked.local_rows.column(UNMET_RULES).to_pylist()]
            remaining = [names for names in unmet if names.isdisjoint(self._rejecting)]
            failed = Counter(name for names in unmet for name in names.intersection(self._rejecting))
            failed.update(name for names in remaining for name in names)
            return _Counts(
                len(unmet), len(remaining), sum(not names.isdisjoint(quarantining) for names in unmet), failed
            )
        names = [rule.name for rule in self._rules if not rule.is_table_rule]
        is_remaining, is_quarantined = ~is_any_unmet(self._rejecting), is_any_unmet(quarantining)
        failures = [F.count_if(is_unmet(n) if n in self._rejecting else is_unmet(n) & is_remaining) for n in names]
        counts = [F.count("*"), F.count_if(is_remaining), F.count_if(is_quarantined), *failures]
        rows, remaining_count, quarantined, *failed_counts = self._marked.rows.agg(*counts).collect()[0]
        return _Counts(rows, remaining_count, quarantined, dict(zip(names, failed_counts, strict=True)))

    def _evaluate_rule(self, rule: Rule) -> RuleResult:
        counts, model = self._counts, self._context.model.name
        if rule.is_table_rule:
            outcome = self._resulting_table.evaluate(rule, self._failing_before(rule))
            failed_rows, is_met = outcome.rows_failed, outcome.is_met
            return RuleResult(
                model, rule.name, rule.on_fail, counts.remaining, failed_rows, failed_rows, is_met, outcome.observed
            )
        failed = counts.failed.get(rule.name, 0)
        if rule.can_reject_rows:  # the rows failing of a `quarantine` rule are counted after the quarantine is written
            observed = f"{failed:,} of {counted(counts.rows, 'row')}"
            return RuleResult(model, rule.name, rule.on_fail, counts.rows, failed, None, not failed, observed)
        failing, checked = failed, counts.remaining
        if self._affected_keys is not None and self._failing_before(rule):
            other_rows = self._evaluator.mark(self._resulting_table.other_rows, [rule])
            failing += other_rows.where(is_unmet(rule.name)).count()
        observed = f"{failed:,} of {counted(checked, 'row')}"
        return RuleResult(model, rule.name, rule.on_fail, checked, failed, failing, not failing, observed)

    def _failing_before(self, rule: Rule) -> int:
        return int(self._context.last_refresh_state.get("failing", {}).get(rule.name, 0))

    @cached_property
    def _resulting_table(self) -> ResultingTable:
        return ResultingTable(
            self._context.model.name,
            self._context.read_target(),
            self.remaining.rows,
            self._counts.remaining,
            self._affected_keys,
            self._marked.local_rows,
            self._context.model.parameters["as_of"],
        )

    def _remaining_local_rows(self) -> pa.Table | None:
        local = self._marked.local_rows
        if local is None:
            return None
        is_kept = [set(names).isdisjoint(self._rejecting) for names in local.column(UNMET_RULES).to_pylist()]
        return local.select(self._columns).filter(pa.array(is_kept, pa.bool_()))

    def _write_quarantine(self) -> dict[str, int]:
        """Bring the model's quarantine up to date; return how many rows each `quarantine` rule has in it."""
        context, state = self._context, self._context.quarantine_state
        model, version = context.model.name, context.target_version
        rules = [rule for rule in self._rules if rule.on_fail == "quarantine"]
        has_rows = any(self._counts.failed.get(rule.name) for rule in rules)
        open_by_rule = state.open_by_rule
        if has_rows or open_by_rule or not state.is_in_step:
            rows = to_quarantine_rows(self._marked.rows, self._columns, rules) if has_rows else None
            keys = self._affected_keys.rows if self._affected_keys is not None else None
            last, following = context.last_refresh_version, version.version + 1 if version else 0
            rejected = quarantine.RejectedRows(rows, keys, last, following)
            if quarantine.write_of_model(context.spark, context.lake, model, rejected, context.model.tuning):
                open_by_rule = quarantine.read_state(context.spark, context.lake, model, following).open_by_rule
        return {rule.name: open_by_rule.get(rule.name, 0) for rule in rules}

    def _describe_failure(self, result: RuleResult) -> str:
        """Return a line about a rule that is not met."""
        rule = next(rule for rule in self._rules if rule.name == result.rule)
        return f"{result.model} does not meet {rule.name}, {rule.description}: {result.observed}"

    def _examples(self, result: RuleResult) -> str:
        """Return examples of keys or values that do not meet a rule, for the end of its line."""
        rule = next(rule for rule in self._rules if rule.name == result.rule)
        if rule.is_table_rule:
            examples = self._resulting_table.examples(rule, _EXAMPLES)
        else:
            columns = [quote_identifier(key) for key in self._context.model.plan.keys]
            keys = F.to_json(F.struct(*columns), {"ignoreNullFields": "false"})
            rows = self._remaining.where(is_unmet(rule.name)).select(keys).limit(_EXAMPLES).collect()
            examples = [str(row[0]) for row in rows]
        return f", such as {'; '.join(examples)}" if examples else ""


def _after_quarantine(result: RuleResult, quarantined: Mapping[str, int]) -> RuleResult:
    """Return a result with the rows failing in the written quarantine; its text counts rows of other keys as well."""
    if result.rule in quarantined:
        count = quarantined[result.rule]
        result = replace(result, rows_failing=count, is_met=not count)
    if result.rows_failed is None or not result.rows_failing or result.rows_failing == result.rows_failed:
        return result
    return replace(result, observed=f"{result.observed}, {result.rows_failing:,} in all")
