"""Defines the result of a rule and records results in `<lake>/quality/results`, append-only and without row values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from operator import itemgetter
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse.errors import DataRefused
from lakehouse.failpoints import failpoint
from lakehouse.lake import delta, local_writer, small_tables
from lakehouse.models.model import RefreshContext
from lakehouse.spark.session import local_rows
from lakehouse.storage.paths import Lake

OK, FAILED = "ok", "failed"
RESULTS_KEY = "results"  # in the state that a model's commit records
_IN_STATE = ("on_fail", "rows_checked", "rows_failed", "rows_failing", "is_met", "observed")
_MAX_BYTES = 32 << 20  # up to this size the driver reads the results
_RULE, _ORDER = ("model", "rule"), ("recorded_at", "run_id")  # the greatest of the second is the latest of the first
SCHEMA = """
    run_id STRING, model STRING, rule STRING, on_fail STRING, status STRING, rows_checked BIGINT, rows_failed BIGINT,
    rows_failing BIGINT, found STRING, as_of TIMESTAMP, recorded_at TIMESTAMP
"""


@dataclass(frozen=True)
class RuleResult:
    """The result of one rule in one refresh.

    Attributes:
        model: The model's name.
        rule: The rule's name.
        on_fail: The rule's policy.
        rows_checked: The rows that the rule was evaluated on.
        rows_failed: How many of these did not meet it; None for a rule that counts no rows.
        rows_failing: How many rows do not meet it now, in the table or, for `quarantine`, in the quarantine; None if
            that is unknown.
        is_met: Whether the rule is met now.
        observed: The observation, for people.
    """

    model: str
    rule: str
    on_fail: str
    rows_checked: int
    rows_failed: int | None
    rows_failing: int | None
    is_met: bool
    observed: str

    @property
    def status(self) -> str:
        """Whether the rule is met, as the results table has it."""
        return OK if self.is_met else FAILED

    @property
    def fails_refresh(self) -> bool:
        """Whether the rule stops the refresh: it is not met, and its policy is `fail`."""
        return not self.is_met and self.on_fail == "fail"


def to_state(results: Iterable[RuleResult]) -> dict[str, Any]:
    """Return results as the state that a model's commit records: a killed run may not have appended them.

    Args:
        results: The results of one model.
    """
    return {r.rule: {name: getattr(r, name) for name in _IN_STATE} for r in results}


def from_state(model: str, state: Mapping[str, Any]) -> list[RuleResult]:
    """Return the results that a model's last commit recorded; none if an earlier version of this package made it.

    Args:
        model: The model's name.
        state: The state that the commit recorded.
    """
    return [RuleResult(model, rule, **values) for rule, values in state.get(RESULTS_KEY, {}).items()]


class ExpectationsNotMet(DataRefused):
    """A rule with `on_fail: fail` is not met. `results` has the results of all rules."""

    results: tuple[RuleResult, ...] = ()


def not_met_error(
    context: RefreshContext, results: list[RuleResult], failures: list[str], examples: list[str] | None = None
) -> ExpectationsNotMet:
    """Return the error for rules with `on_fail: fail` that are not met.

    Args:
        context: The refresh.
        results: The results of all rules.
        failures: A line for people about each rule that is not met, without values of rows.
        examples: The rest of each line, which may have values of rows.
    """
    version = context.target_version
    table = f"the table stays at version {version.version}" if version else "the table is not created"
    error = ExpectationsNotMet(
        "\n".join(map("".join, zip(failures, examples or [""] * len(failures), strict=True))),
        kept="\n".join(failures),
        expected=f"rows that meet it; nothing was written: {table}, and models that read it get no new rows",
        where=context.target,
        next_step="correct the rows at their source, or the rule; then `lakehouse run PIPELINE` evaluates them again",
    )
    error.results = tuple(results)
    return error


def record_results(
    spark: SparkSession, lake: Lake, results: Iterable[RuleResult], run_id: str, as_of: datetime | None
) -> None:
    """Append results to the lake's results table; write nothing if there are none.

    Args:
        spark: The session.
        lake: The lake's paths.
        results: The results of a run.
        run_id: The run.
        as_of: The time of the newest accepted snapshot.
    """
    now = datetime.now(timezone.utc)
    rows = [
        (
            *(run_id, r.model, r.rule, r.on_fail, r.status),
            *(r.rows_checked, r.rows_failed, r.rows_failing, r.observed, as_of, now),
        )
        for r in results
    ]
    if not rows:
        return
    failpoint("before_rule_results")
    (fields, table), address = local_rows(SCHEMA, rows), lake.expectation_results_table
    exists = delta.exists(spark, address)
    is_written = local_writer.append(address, table) if exists else local_writer.create(address, table, fields, {})
    if not is_written:
        delta.create_or_append(spark, address, small_tables.to_frame(spark, table, fields))


def without_recorded(spark: SparkSession, lake: Lake, results: Iterable[RuleResult]) -> list[RuleResult]:
    """Return the results that differ from the latest ones of their rules in what holds now.

    Args:
        spark: The session for tables that the driver cannot read.
        lake: The lake's paths.
        results: The results that models' last commits recorded.
    """
    found = list(results)
    rows = read_latest_results(spark, lake) if found else []
    latest = {(row["model"], row["rule"]): (row["on_fail"], row["status"], row["rows_failing"]) for row in rows}
    return [r for r in found if latest.get((r.model, r.rule)) != (r.on_fail, r.status, r.rows_failing)]


def read_latest_results(spark: SparkSession, lake: Lake) -> list[dict[str, Any]]:
    """Return the latest result of each rule, as `latest_results` has it, read by the driver if it can.

    Args:
        spark: The session for tables that the driver cannot read.
        lake: The lake's paths.
    """
    address = lake.expectation_results_table
    if delta.is_missing(address):
        return []
    rows = small_tables.read_rows(address, _MAX_BYTES)
    if rows is None:
        return [row.asDict() for row in latest_results(spark, lake).collect()]
    by_rule: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in sorted(small_tables.to_dicts(rows), key=itemgetter(*_ORDER)):
        by_rule[itemgetter(*_RULE)(row)] = row
    return list(by_rule.values())


def latest_results(spark: SparkSession, lake: Lake) -> DataFrame:
    """Return the latest result of each rule, with the columns of `SCHEMA`.

    Args:
        spark: The session.
        lake: The lake's paths.
    """
    newest_first = Window.partitionBy(*_RULE).orderBy(*map(F.desc, _ORDER))
    ranked = delta.read_or_empty(spark, lake.expectation_results_table, SCHEMA).withColumn(
        "_cdc_nth", F.row_number().over(newest_first)
    )
    return ranked.where("_cdc_nth = 1").drop("_cdc_nth")
