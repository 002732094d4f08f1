"""How far windows reach: as few rows as can change the result, or the whole partition."""

from __future__ import annotations

import pytest

from lakehouse.models.sql.plan import plan_model
from lakehouse.models.sql.trace.reach import find_reach

PARTITION = "PARTITION BY t.shop ORDER BY t.id"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("LAG(t.n) OVER ({0})", (-1, 0)),
        ("LAG(t.n, 3) OVER ({0}) + LEAD(t.n) OVER ({0})", (-3, 1)),
        ("ROW_NUMBER() OVER ({0})", (None, 0)),
        ("RANK() OVER ({0})", (None, None)),
        ("SUM(t.n) OVER ({0})", (None, None)),
        ("SUM(t.n) OVER ({0} ROWS BETWEEN 6 PRECEDING AND 1 FOLLOWING)", (-6, 1)),
        ("SUM(t.n) OVER ({0} rows BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)", (None, 0)),
        ("MIN(t.n) FILTER (WHERE t.n > 1) OVER ({0} ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING)", (-2, 0)),
        ("SUM(t.n) OVER ({0} ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)", "partition"),
        ("SUM(t.n) OVER ({0} RANGE BETWEEN 1 PRECEDING AND CURRENT ROW)", "partition"),
        ("SUM(t.n) OVER (PARTITION BY t.shop)", "partition"),
        ("LAG(t.n) OVER ({0}) + LAG(t.n) OVER ({0} DESC)", "partition"),
        ("LEAD(t.n, 2) OVER ({0}) + SUM(t.n) OVER ({0})", "partition"),
        ("NTILE(4) OVER ({0})", "partition"),
        ("LAG(t.n, t.n) OVER ({0})", "partition"),
    ],
)
def test_a_window_reaches_the_rows_that_can_change_it(expression: str, expected: object) -> None:
    sql = f"SELECT t.shop AS shop, t.id AS id, {expression.format(PARTITION)} AS x FROM bronze.t AS t"
    plan = plan_model("gold.m", sql, ("shop", "id"), "m.sql", {"bronze.t": ("id",)})
    assert plan.blocks, plan.reason

    reach = find_reach(plan.blocks[-1])

    assert (reach and (reach.low, reach.high)) == (None if expected == "partition" else expected)
    assert reach is None or reach.over == PARTITION
