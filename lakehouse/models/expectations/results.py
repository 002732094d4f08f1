"""What came of each rule, refresh by refresh: `<lake>/quality/results`, append-only. No row's values are in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse.lake import delta
from lakehouse.spark.session import local_frame
from lakehouse.storage.paths import Lake

OK, FAILED = "ok", "failed"
SCHEMA = """
    run_id STRING, model STRING, rule STRING, on_fail STRING, status STRING, rows_checked BIGINT, rows_failed BIGINT,
    rows_failing BIGINT, found STRING, as_of TIMESTAMP, recorded_at TIMESTAMP
"""


@dataclass(frozen=True)
class RuleResult:
    """What came of one rule in one refresh.

    Attributes:
        checked: rows that it was held against.
        failed: rows of these that did not meet it; None of a rule that counts no rows.
        failing: rows that do not meet it now, in the table or, of `quarantine`, beside it; None where nobody can tell.
        met: whether all is as expected now.
        found: what was, for people.
    """

    model: str
    rule: str
    on_fail: str
    rows_checked: int
    rows_failed: int | None
    rows_failing: int | None
    is_met: bool
    observed: str


def record_results(
    spark: SparkSession, lake: Lake, results: Iterable[RuleResult], run_id: str, as_of: datetime | None
) -> None:
    """Append results; none, and nothing is written."""
    now = datetime.now(timezone.utc)
    rows = [(run_id, *_to_row(result), as_of, now) for result in results]
    if rows:
        told = local_frame(spark, SCHEMA, rows).coalesce(1)
        if delta.exists(spark, lake.expectation_results_table):
            delta.append(lake.expectation_results_table, told)
        else:
            delta.create(spark, lake.expectation_results_table, told, {})


def latest_results(spark: SparkSession, lake: Lake) -> DataFrame:
    """The newest result of each rule."""
    if not delta.exists(spark, lake.expectation_results_table):
        return local_frame(spark, SCHEMA)
    order = Window.partitionBy("model", "rule").orderBy(F.desc("recorded_at"), F.desc("run_id"))
    rows = delta.read(spark, lake.expectation_results_table).withColumn("_cdc_nth", F.row_number().over(order))
    return rows.where("_cdc_nth = 1").drop("_cdc_nth")


def _to_row(r: RuleResult) -> tuple[Any, ...]:
    return (
        r.model,
        r.rule,
        r.on_fail,
        OK if r.is_met else FAILED,
        r.rows_checked,
        r.rows_failed,
        r.rows_failing,
        r.observed,
    )
