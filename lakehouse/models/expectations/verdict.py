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
from lakehouse.lake.small_rows import CachedRows, cache_rows
from lakehouse.models.expectations.context import Task, as_of, refusal
from lakehouse.models.expectations.results import Result
from lakehouse.models.expectations.row_rules import UNMET, for_quarantine, misses, misses_one, not_evaluated
from lakehouse.models.expectations.table_rules import Resulting
from lakehouse.models.sql.rules import Rule, quoted
from lakehouse.spark.session import SPARK_ERRORS

_EXAMPLES = 3


@contextmanager
def judge(task: Task, wanted: DataFrame, touched: CachedRows | None, few: bool) -> Iterator[Verdict]:
    """Hold the rows of a refresh against what is expected.

    Args:
        wanted: all rows for the keys touched.
        touched: None: the whole model.
        few: the rows are thought to be few, so that the driver may ask for them.
    """
    rules = [rule for rule in task.plan.rules if not rule.is_whole]
    marked_rows = task.marked(wanted, rules)
    with _blaming(task, wanted, rules):
        # Asked for a part of many rows, Spark would compute them twice.
        held = (
            cache_rows(task.spark, marked_rows)
            if few
            else CachedRows(marked_rows.persist(StorageLevel.MEMORY_AND_DISK))
        )
    try:
        verdict = Verdict(task, held, touched, wanted.columns)
        with _blaming(task, wanted, rules):
            verdict.count()
        yield verdict
    finally:
        held.release()


@contextmanager
def _blaming(task: Task, wanted: DataFrame, rules: list[Rule]) -> Iterator[None]:
    """Have an error that comes of a rule, and not of the model's own SQL, say so."""
    try:
        yield
    except SPARK_ERRORS as error:
        try:
            wanted.agg(F.max(F.xxhash64(*[F.col(quoted(c)) for c in wanted.columns]))).collect()
        except SPARK_ERRORS:
            raise error from None
        for rule in rules:
            try:
                task.marked(wanted, [rule]).where(misses(rule.name)).count()
            except SPARK_ERRORS as told:
                raise not_evaluated(task.plan.model, rule, told) from error
        raise


@dataclass(frozen=True)
class _Counts:
    """How many rows there are, are left, and go to quarantine; and by rule how many do not meet it: of those left,
    unless the rule takes them out."""

    rows: int
    left: int
    quarantined: int
    failed: Mapping[str, int]


class Verdict:
    """The rows of a refresh, judged.

    Attributes:
        good: those that reach the table.
    """

    def __init__(self, task: Task, held: CachedRows, touched: CachedRows | None, columns: list[str]) -> None:
        self._task, self._held, self._touched, self._columns = task, held, touched, columns
        self._rules = task.plan.rules
        self._takers = [rule.name for rule in self._rules if rule.takes_out]
        self._left = held.rows.where(~misses_one(self._takers))
        self.good = self._left.select(*[F.col(quoted(c)) for c in columns])

    def settle(self) -> tuple[dict[str, Any], list[Result]]:
        """Refuse, or write the quarantine; returns what the model's commit is to carry, and what came of each rule.

        Raises:
            Unmet: a rule that says `fail` is not met.
        """
        found = [self._of_all(rule) if rule.is_whole else self._of_rows(rule) for rule in self._rules]
        if broken := [r for r in found if not r.met and r.on_fail == "fail"]:
            raise refusal(self._task, found, [self._about(r) for r in broken])
        out = self._take_out()
        results = [replace(r, failing=out[r.rule], met=not out[r.rule]) if r.rule in out else r for r in found]
        results = [_in_all(r) for r in results]
        failing = {r.rule: r.failing for r in results if r.failing}
        told: dict[str, Any] = {"quarantined": True} if any(out.values()) else {}
        return told | ({"failing": failing} if failing else {}) | as_of(self._task), results

    # --- counting -----------------------------------------------------------------------------------------------------

    def count(self) -> None:
        """Compute the rows, if they are not."""
        self._counts  # noqa: B018 - kept for whoever asks

    @property
    def taken(self) -> dict[str, int]:
        """How many rows were taken out; those that a rule puts in quarantine are not dropped."""
        counts, policies = self._counts, {rule.on_fail for rule in self._rules}
        taken = {"quarantine": counts.quarantined, "drop": counts.rows - counts.left - counts.quarantined}
        names = {"quarantine": "quarantined", "drop": "dropped"}
        return {names[policy]: count for policy, count in taken.items() if policy in policies}

    @cached_property
    def _counts(self) -> _Counts:
        keepers = [rule.name for rule in self._rules if rule.on_fail == "quarantine"]
        if self._held.local_rows is not None:
            unmet = [frozenset(names) for names in self._held.local_rows.column(UNMET).to_pylist()]
            left = [names for names in unmet if names.isdisjoint(self._takers)]
            counted = Counter(name for names in unmet for name in names.intersection(self._takers))
            counted.update(name for names in left for name in names)
            return _Counts(len(unmet), len(left), sum(not names.isdisjoint(keepers) for names in unmet), counted)
        names = [rule.name for rule in self._rules if not rule.is_whole]
        is_left, is_kept = ~misses_one(self._takers), misses_one(keepers)
        each = [F.count_if(misses(n) if n in self._takers else misses(n) & is_left) for n in names]
        sums = self._held.rows.agg(F.count("*"), F.count_if(is_left), F.count_if(is_kept), *each).collect()[0]
        return _Counts(sums[0], sums[1], sums[2], dict(zip(names, sums[3:], strict=True)))

    def _of_rows(self, rule: Rule) -> Result:
        counts = self._counts
        failed, checked = counts.failed.get(rule.name, 0), counts.rows if rule.takes_out else counts.left
        failing = None if rule.takes_out else failed  # of quarantine it is told once that is written
        if not rule.takes_out and self._touched is not None and self._before(rule):
            others = self._task.marked(self._resulting.others, [rule])
            failing = failed + others.where(misses(rule.name)).count()
        met, about = not (failing or failed), f"{failed:,} of {checked:,} rows"
        return Result(self._task.plan.model, rule.name, rule.on_fail, checked, failed, failing, met, about)

    def _of_all(self, rule: Rule) -> Result:
        found, checked = self._resulting.found(rule, self._before(rule)), self._counts.left
        model = self._task.plan.model
        return Result(model, rule.name, rule.on_fail, checked, found.failed, found.failed, found.met, found.about)

    def _before(self, rule: Rule) -> int:
        return int(self._task.before.get("failing", {}).get(rule.name, 0))

    @cached_property
    def _resulting(self) -> Resulting:
        task = self._task
        return Resulting(
            task.table(), self.good, self._counts.left, self._touched, self._held.local_rows, task.arguments["as_of"]
        )

    # --- what becomes of them -----------------------------------------------------------------------------------------

    def _take_out(self) -> dict[str, int]:
        """Bring the model's quarantine up to date; returns, by rule, how many rows are in it then."""
        task, standing = self._task, self._task.standing
        rules = [rule for rule in self._rules if rule.on_fail == "quarantine"]
        is_any = any(self._counts.failed.get(rule.name) for rule in rules)
        out = standing.open_by_rule
        if is_any or out or not standing.is_in_step:
            rows = for_quarantine(self._held.rows, self._columns, rules) if is_any else None
            keys = self._touched.rows if self._touched is not None else None
            to, model = task.head.version + 1 if task.head else 0, task.plan.model
            if quarantine.write_of_model(task.spark, task.lake, model, rows, keys, task.refreshed, to):
                out = quarantine.read_state(task.spark, task.lake, model, to).open_by_rule
        return {rule.name: out.get(rule.name, 0) for rule in rules}

    def _about(self, result: Result) -> str:
        """What is told of a rule that was not met."""
        rule = next(rule for rule in self._rules if rule.name == result.rule)
        if rule.is_whole:
            examples = self._resulting.examples(rule, _EXAMPLES)
        else:
            keys = F.to_json(F.struct(*map(quoted, self._task.plan.keys)), {"ignoreNullFields": "false"})
            rows = self._left.where(misses(rule.name)).select(keys).limit(_EXAMPLES).collect()
            examples = [str(row[0]) for row in rows]
        such = f", such as {'; '.join(examples)}" if examples else ""
        return f"{result.model} does not meet {rule.name}, {rule.about}: {result.found}{such}"


def _in_all(result: Result) -> Result:
    if result.failed is None or not result.failing or result.failing == result.failed:
        return result
    return replace(result, found=f"{result.found}, {result.failing:,} in all")
