"""What is known of a column, and what follows from it for another: no more than is true."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import types as T

from lakehouse.lake.cached_rows import ValueRange

DATE, INT, STRING = T.DateType(), T.IntegerType(), T.StringType()
DAYS = st.dates(date(2024, 2, 25), date(2024, 3, 5))


def contains(span: ValueRange | None, value: date) -> bool:
    if span is None:
        return True
    if span.values is not None:
        return value in span.values
    return (span.low is None or value >= span.low) and (span.high is None or value <= span.high)


@st.composite
def spans(draw: st.DrawFn) -> ValueRange:
    values = draw(st.frozensets(DAYS, max_size=4))
    listed = draw(st.booleans())
    return ValueRange(
        DATE, values if listed else None, min(values, default=None), max(values, default=None), draw(st.booleans())
    )


@given(span=spans(), sign=st.sampled_from(["=", "<=", ">="]), days=st.integers(-30, 30), data=st.data())
def test_a_value_that_meets_the_condition_lies_in_what_follows(
    span: ValueRange, sign: str, days: int, data: st.DataObject
) -> None:
    known, other = data.draw(DAYS), data.draw(DAYS)
    ends = (known.toordinal() + days, other.toordinal())
    meets = {"=": ends[1] == ends[0], "<=": ends[1] <= ends[0], ">=": ends[1] >= ends[0]}[sign]
    if contains(span, known) and meets:
        assert contains(span.implied_range(sign, days), other)


@given(one=spans(), other=spans(), value=DAYS)
def test_what_lies_in_both_lies_in_their_common_part(one: ValueRange, other: ValueRange, value: date) -> None:
    if contains(one, value) and contains(other, value):
        assert contains(one.intersect(other), value)


def test_equality_hands_on_values_and_no_null_and_order_an_end() -> None:
    span = ValueRange(
        DATE, frozenset([date(2025, 2, 28), date(2025, 3, 1)]), date(2025, 2, 28), date(2025, 3, 1), includes_null=True
    )

    assert span.implied_range("=", 1) == ValueRange(
        DATE, frozenset([date(2025, 3, 1), date(2025, 3, 2)]), date(2025, 3, 1), date(2025, 3, 2)
    )
    assert span.implied_range(">=", -27) == ValueRange(DATE, low=date(2025, 2, 1))
    assert span.implied_range("<=", 0) == ValueRange(DATE, high=date(2025, 3, 1))


@pytest.mark.parametrize(
    ("span", "sign", "days"),
    [
        (ValueRange(INT, frozenset([1]), 1, 1), "=", 1),  # days are added to days only
        (ValueRange(STRING, frozenset(["a"])), ">=", 0),  # how text is ordered is the column's to say
        (ValueRange(INT), "=", 0),
    ],
)
def test_nothing_follows_where_nothing_is_known(span: ValueRange, sign: str, days: int) -> None:
    assert span.implied_range(sign, days) is None
