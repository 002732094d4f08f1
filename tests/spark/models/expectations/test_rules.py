"""Rules evaluated on rows and on whole tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timezone
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from lakehouse.config.expect import Expectation
from lakehouse.errors import ConfigError
from lakehouse.lake.cached_rows import CachedRows, cache_rows
from lakehouse.models.expectations import RowRuleEvaluator
from lakehouse.models.expectations.table_rules import ResultingTable, TableRuleOutcome
from lakehouse.models.sql.plan import plan_model
from lakehouse.models.sql.rules import Rule, parse_rules
from lakehouse.spark.session import isolated_session, local_frame

SQL = "SELECT m.id AS id, m.a AS a, m.s AS s, m.d AS d FROM bronze.m AS m"
DDL = "id INT, a INT, s STRING, d DATE"
AS_OF = datetime(2025, 1, 3, tzinfo=timezone.utc)


def parse_rule(**spec: Any) -> Rule:
    (rule,) = parse_rules("silver.m", {"e": Expectation.model_validate(spec)}, "pipeline.yml")
    return rule


@pytest.fixture(scope="module")
def small(spark: SparkSession) -> SparkSession:
    return isolated_session(spark, 0)


def rows(spark: SparkSession, *values: tuple[Any, ...]) -> DataFrame:
    """Rows of (id, a, s, d); missing values are null, and a date is given as text."""
    padded = [(*row, *[None] * (4 - len(row))) for row in values]
    return local_frame(spark, DDL, [(i, a, s, date.fromisoformat(d) if d else None) for i, a, s, d in padded])


@pytest.mark.parametrize(
    ("spec", "remaining"),
    [
        ({"check": "a > 0"}, [1]),  # null is not greater
        ({"check": "a > 0 OR a IS NULL -- null passes"}, [1, 3]),
        ({"range": {"a": {"min": 1}}}, [1, 3]),
        ({"range": {"a": {"min": -1, "max": 0}, "d": {"max": "2025-01-01"}}}, [2, 3]),
        ({"values": {"s": ["it's", r"b\s"], "a": [1, 0]}}, [1, 3]),
        ({"values": {"s": []}}, [3]),
        ({"not_null": ["a", "s"]}, [1, 2]),
        ({"check": "d <= date_sub(:as_of, 2)"}, [1]),
        ({"reference": {"a": "silver.other.x"}}, [1, 3]),
    ],
)
def test_a_row_remains_if_it_meets_the_condition(
    small: SparkSession, spec: dict[str, Any], remaining: list[int]
) -> None:
    frame = rows(small, (1, 1, "it's", "2025-01-01"), (2, 0, "x", None), (3, None, None, None))
    other = local_frame(small, "x INT", [(1,), (1,), (7,)])
    plan = replace(plan_model("silver.m", SQL, ("id",), "m.sql"), rules=(parse_rule(**spec),))

    found = RowRuleEvaluator(small, plan, {"as_of": AS_OF}, lambda _: other).remaining_rows(frame)

    assert sorted(row.id for row in found.collect()) == remaining
    assert found.columns == frame.columns


def resulting(
    spark: SparkSession, table: DataFrame | None, new_rows: DataFrame, affected: list[int] | None
) -> ResultingTable:
    keys = None if affected is None else cache_rows(spark, local_frame(spark, "id INT", [(key,) for key in affected]))
    cached: CachedRows = cache_rows(spark, new_rows)
    return ResultingTable("silver.m", table, cached.rows, new_rows.count(), keys, cached.local_rows, AS_OF)


TABLE = [(1, 5, "x", "2025-01-01"), (2, 6, None, "2025-01-01"), (3, 7, None, "2025-01-01")]


@pytest.mark.parametrize(
    ("new_rows", "affected", "before", "failed"),
    [
        ([(4, 8, "y")], [4], 0, 0),
        ([(4, 8, "x")], [4], 0, 2),  # a row with another key has it
        ([(1, 8, "x")], [1], 0, 0),  # it is the same row
        ([(4, 8, None)], [4], 0, 0),  # null is not shared
        ([(4, 8, "z"), (5, 8, "z")], [1, 4, 5], 0, 2),
        ([(4, 8, "z"), (5, 8, "z")], None, 0, 2),
        ([(4, 8, "x"), (5, 8, "z")], None, 0, 0),  # these two are the whole table
    ],
)
def test_values_are_unique_in_the_resulting_table(
    small: SparkSession, new_rows: list[Any], affected: list[int] | None, before: int, failed: int
) -> None:
    table = resulting(small, rows(small, *TABLE), rows(small, *new_rows), affected)

    found = table.evaluate(parse_rule(unique=["s"]), before)

    assert (found.is_met, found.rows_failed) == (not failed, failed)
    assert bool(table.examples(parse_rule(unique=["s"]), 3)) is bool(failed)


def test_values_that_were_shared_before_are_counted_in_all_rows(small: SparkSession) -> None:
    current = rows(small, *TABLE, (4, 8, "y"), (5, 8, "y"))
    table = resulting(small, current, rows(small, (1, 5, "w")), [1])

    # With none failing before, only values of the new rows are looked at.
    assert table.evaluate(parse_rule(unique=["s"]), 0).rows_failed == 0
    assert table.evaluate(parse_rule(unique=["s"]), 2) == TableRuleOutcome(False, 2, "2 rows share 1 value")


@pytest.mark.parametrize(
    ("band", "new_rows", "affected", "met", "observed"),
    [
        ({"min": 3, "max": 3}, [(1,)], [1], True, "3 rows, 3 before"),
        ({"min": 3}, [], [1], False, "2 rows, 3 before"),
        ({"max": 3}, [(4,)], [4], False, "4 rows, 3 before"),
        ({"max_change": 0.4}, [(4,)], [4], True, "4 rows, 3 before"),
        ({"max_change": 0.3}, [], [1], False, "2 rows, 3 before"),
        ({"min": 1}, [], None, False, "0 rows, 3 before"),
    ],
)
def test_rows_of_the_resulting_table_are_counted(
    small: SparkSession, band: dict[str, Any], new_rows: list[Any], affected: list[int] | None, met: bool, observed: str
) -> None:
    found = resulting(small, rows(small, *TABLE), rows(small, *new_rows), affected).evaluate(parse_rule(rows=band), 0)

    assert found == TableRuleOutcome(met, None, observed)


@pytest.mark.parametrize(
    ("new_rows", "affected", "met"),
    [
        ([(4, 1, "x", "2025-01-02")], [4], True),
        ([(4, 1, "x", "2024-01-01")], [4], False),
        ([], [1], False),
        ([], None, False),
        ([(4, 1, "x", "2025-01-01")], None, False),
    ],
)
def test_the_newest_row_is_compared_with_as_of(
    small: SparkSession, new_rows: list[Any], affected: Any, met: bool
) -> None:
    rule = parse_rule(freshness={"column": "d", "within": "1d"})

    assert resulting(small, rows(small, *TABLE), rows(small, *new_rows), affected).evaluate(rule, 0).is_met is met


@pytest.mark.parametrize("value", ["X'00'", "true", "array(d)", "named_struct('d', d)"])
def test_freshness_of_what_is_no_time_is_refused(small: SparkSession, value: str) -> None:
    rule, table = parse_rule(freshness={"column": "v", "within": "1d"}), rows(small, *TABLE)
    made = table.selectExpr("*", f"{value} AS v")

    with pytest.raises(
        ConfigError, match=f"silver.m's expectation {rule.name} cannot be evaluated: v is .*, and no time"
    ):
        ResultingTable("silver.m", None, made, 1, None, None, AS_OF).evaluate(rule, 0)


def test_a_row_with_another_key_may_be_the_newest(small: SparkSession) -> None:
    rule = parse_rule(freshness={"column": "d", "within": "2d"})

    assert resulting(small, rows(small, *TABLE), rows(small, (4, 1, "x", "2024-01-01")), [4]).evaluate(
        rule, 0
    ) == TableRuleOutcome(True, None, "newest d: 2025-01-01 00:00:00; :as_of 2025-01-03 00:00:00")
