"""Rules held against rows: what a row meets, and what a table as a whole does."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timezone
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from lakehouse.config.expect import Expectation
from lakehouse.lake.cached_rows import CachedRows, cache_rows
from lakehouse.models.expectations import remaining_rows
from lakehouse.models.expectations.table_rules import Evaluated, ResultingTable
from lakehouse.models.sql.plan import plan_model
from lakehouse.models.sql.rules import Rule, parse_rules
from lakehouse.spark.session import isolated_session, local_frame

SQL = "SELECT m.id AS id, m.a AS a, m.s AS s, m.d AS d FROM bronze.m AS m"
DDL = "id INT, a INT, s STRING, d DATE"
AS_OF = datetime(2025, 1, 3, tzinfo=timezone.utc)


def understood(**spec: Any) -> Rule:
    (rule,) = parse_rules("silver.m", {"e": Expectation.model_validate(spec)}, SQL, "pipeline.yml")
    return rule


@pytest.fixture(scope="module")
def small(spark: SparkSession) -> SparkSession:
    return isolated_session(spark, 0)


def rows(spark: SparkSession, *values: tuple[Any, ...]) -> DataFrame:
    """Rows of (id, a, s, d), as far as their first values are given; a day is text."""
    whole = [(*row, *[None] * (4 - len(row))) for row in values]
    return local_frame(spark, DDL, [(i, a, s, date.fromisoformat(d) if d else None) for i, a, s, d in whole])


@pytest.mark.parametrize(
    ("spec", "left"),
    [
        ({"check": "a > 0"}, [1]),  # null is not known to be
        ({"check": "a > 0 OR a IS NULL -- so it passes"}, [1, 3]),
        ({"range": {"a": {"min": 1}}}, [1, 3]),
        ({"range": {"a": {"min": -1, "max": 0}, "d": {"max": "2025-01-01"}}}, [2, 3]),
        ({"values": {"s": ["it's", r"b\s"], "a": [1, 0]}}, [1, 3]),
        ({"values": {"s": []}}, [3]),
        ({"not_null": ["a", "s"]}, [1, 2]),
        ({"check": "d <= date_sub(:as_of, 2)"}, [1]),
        ({"reference": {"a": "silver.other.x"}}, [1, 3]),
    ],
)
def test_a_row_is_left_where_it_meets_the_condition(small: SparkSession, spec: dict[str, Any], left: list[int]) -> None:
    frame = rows(small, (1, 1, "it's", "2025-01-01"), (2, 0, "x", None), (3, None, None, None))
    other = local_frame(small, "x INT", [(1,), (1,), (7,)])
    expected = replace(plan_model("silver.m", SQL, ("id",), "m.sql"), rules=(understood(**spec),))

    found = remaining_rows(small, expected, {"as_of": AS_OF}, frame, lambda _: other)

    assert sorted(row.id for row in found.collect()) == left
    assert found.columns == frame.columns


def resulting(
    spark: SparkSession, table: DataFrame | None, good: DataFrame, touched: list[int] | None
) -> ResultingTable:
    keys = None if touched is None else cache_rows(spark, local_frame(spark, "id INT", [(key,) for key in touched]))
    held: CachedRows = cache_rows(spark, good)
    return ResultingTable(table, held.rows, good.count(), keys, held.local_rows, AS_OF)


TABLE = [(1, 5, "x", "2025-01-01"), (2, 6, None, "2025-01-01"), (3, 7, None, "2025-01-01")]


@pytest.mark.parametrize(
    ("good", "touched", "before", "failed"),
    [
        ([(4, 8, "y")], [4], 0, 0),
        ([(4, 8, "x")], [4], 0, 2),  # a row that is not touched has it
        ([(1, 8, "x")], [1], 0, 0),  # it is the same row
        ([(4, 8, None)], [4], 0, 0),  # null is shared by nobody
        ([(4, 8, "z"), (5, 8, "z")], [1, 4, 5], 0, 2),
        ([(4, 8, "z"), (5, 8, "z")], None, 0, 2),
        ([(4, 8, "x"), (5, 8, "z")], None, 0, 0),  # the whole table is those two
    ],
)
def test_values_are_unique_in_the_table_as_it_would_be(
    small: SparkSession, good: list[Any], touched: list[int] | None, before: int, failed: int
) -> None:
    there = resulting(small, rows(small, *TABLE), rows(small, *good), touched)

    found = there.evaluate(understood(unique=["s"]), before)

    assert (found.is_met, found.rows_failed) == (not failed, failed)
    assert bool(there.examples(understood(unique=["s"]), 3)) is bool(failed)


def test_values_that_were_shared_before_are_counted_wherever_they_are(small: SparkSession) -> None:
    table = rows(small, *TABLE, (4, 8, "y"), (5, 8, "y"))
    there = resulting(small, table, rows(small, (1, 5, "w")), [1])

    assert (
        there.evaluate(understood(unique=["s"]), 0).rows_failed == 0
    )  # as if all that is not touched were known to be unique
    assert there.evaluate(understood(unique=["s"]), 2) == Evaluated(False, 2, "2 rows share 1 values")


@pytest.mark.parametrize(
    ("band", "good", "touched", "met", "about"),
    [
        ({"min": 3, "max": 3}, [(1,)], [1], True, "3 rows, 3 before"),
        ({"min": 3}, [], [1], False, "2 rows, 3 before"),
        ({"max": 3}, [(4,)], [4], False, "4 rows, 3 before"),
        ({"max_change": 0.4}, [(4,)], [4], True, "4 rows, 3 before"),
        ({"max_change": 0.3}, [], [1], False, "2 rows, 3 before"),
        ({"min": 1}, [], None, False, "0 rows, 3 before"),
    ],
)
def test_rows_are_counted_as_the_table_would_be(
    small: SparkSession, band: dict[str, Any], good: list[Any], touched: list[int] | None, met: bool, about: str
) -> None:
    found = resulting(small, rows(small, *TABLE), rows(small, *good), touched).evaluate(understood(rows=band), 0)

    assert found == Evaluated(met, None, about)


@pytest.mark.parametrize(
    ("good", "touched", "met"),
    [
        ([(4, 1, "x", "2025-01-02")], [4], True),
        ([(4, 1, "x", "2024-01-01")], [4], False),
        ([], [1], False),
        ([], None, False),
        ([(4, 1, "x", "2025-01-01")], None, False),
    ],
)
def test_the_newest_row_is_held_against_as_of(small: SparkSession, good: list[Any], touched: Any, met: bool) -> None:
    rule = understood(freshness={"column": "d", "within": "1d"})

    assert resulting(small, rows(small, *TABLE), rows(small, *good), touched).evaluate(rule, 0).is_met is met


def test_a_row_that_is_not_touched_may_be_the_newest(small: SparkSession) -> None:
    rule = understood(freshness={"column": "d", "within": "2d"})

    assert resulting(small, rows(small, *TABLE), rows(small, (4, 1, "x", "2024-01-01")), [4]).evaluate(
        rule, 0
    ) == Evaluated(True, None, "newest d: 2025-01-01 00:00:00; :as_of 2025-01-03 00:00:00")
