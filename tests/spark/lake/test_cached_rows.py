"""Tests value ranges: what is known about a column, and what it implies for another one."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.lake.cached_rows import ValueRange
from lakehouse.spark.session import local_frame

DATE, INT, STRING = T.DateType(), T.IntegerType(), T.StringType()
DAYS = st.dates(date(2024, 2, 25), date(2024, 3, 5))


def contains(value_range: ValueRange | None, value: date) -> bool:
    if value_range is None:
        return True
    if value_range.values is not None:
        return value in value_range.values
    return (value_range.low is None or value >= value_range.low) and (
        value_range.high is None or value <= value_range.high
    )


@st.composite
def value_ranges(draw: st.DrawFn) -> ValueRange:
    values = draw(st.frozensets(DAYS, max_size=4))
    listed = draw(st.booleans())
    return ValueRange(
        DATE, values if listed else None, min(values, default=None), max(values, default=None), draw(st.booleans())
    )


@given(
    value_range=value_ranges(), comparison=st.sampled_from(["=", "<=", ">="]), days=st.integers(-30, 30), data=st.data()
)
def test_a_value_that_meets_a_comparison_is_in_the_implied_range(
    value_range: ValueRange, comparison: str, days: int, data: st.DataObject
) -> None:
    known, other = data.draw(DAYS), data.draw(DAYS)
    bounds = (known.toordinal() + days, other.toordinal())
    meets = {"=": bounds[1] == bounds[0], "<=": bounds[1] <= bounds[0], ">=": bounds[1] >= bounds[0]}[comparison]
    if contains(value_range, known) and meets:
        assert contains(value_range.implied_range(comparison, days), other)


@given(one=value_ranges(), other=value_ranges(), value=DAYS)
def test_a_value_in_both_ranges_is_in_their_intersection(one: ValueRange, other: ValueRange, value: date) -> None:
    if contains(one, value) and contains(other, value):
        assert contains(one.intersect(other), value)


def test_nothing_is_known_of_days_beyond_the_years_of_python() -> None:
    last = date(9999, 12, 31)

    assert ValueRange(DATE, frozenset([last]), last, last).implied_range("=", 1) is None
    assert ValueRange(DATE, low=date(1, 1, 1)).implied_range(">=", -1) is None


@pytest.mark.parametrize("is_listed", [True, False])
def test_rows_are_found_by_any_day(spark: SparkSession, is_listed: bool) -> None:
    days = [date(1, 1, 1), date(999, 12, 31), date(1582, 10, 4), date(1582, 10, 10), date(9999, 12, 31)]
    rows = local_frame(spark, "day DATE", [(day,) for day in days])
    for day in days:
        value_range = ValueRange(DATE, frozenset([day]) if is_listed else None, day, day)
        found = rows.where(value_range.condition(F.col("day"))).select(F.col("day").cast("string")).collect()
        assert [row.day for row in found] == [day.isoformat()]


def test_equality_implies_values_without_null_and_order_implies_a_bound() -> None:
    value_range = ValueRange(
        DATE, frozenset([date(2025, 2, 28), date(2025, 3, 1)]), date(2025, 2, 28), date(2025, 3, 1), includes_null=True
    )

    assert value_range.implied_range("=", 1) == ValueRange(
        DATE, frozenset([date(2025, 3, 1), date(2025, 3, 2)]), date(2025, 3, 1), date(2025, 3, 2)
    )
    assert value_range.implied_range(">=", -27) == ValueRange(DATE, low=date(2025, 2, 1))
    assert value_range.implied_range("<=", 0) == ValueRange(DATE, high=date(2025, 3, 1))


@pytest.mark.parametrize(
    ("value_range", "comparison", "days"),
    [
        (ValueRange(INT, frozenset([1]), 1, 1), "=", 1),  # days can be added to dates only
        (ValueRange(STRING, frozenset(["a"])), ">=", 0),  # the order of text depends on the column's collation
        (ValueRange(INT), "=", 0),
    ],
)
def test_nothing_is_implied_by_unknown_values(value_range: ValueRange, comparison: str, days: int) -> None:
    assert value_range.implied_range(comparison, days) is None
