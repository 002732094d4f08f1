"""The columns by which later models look up rows in a table, which order its files."""

from __future__ import annotations

from lakehouse.models.file_order import lookup_columns
from lakehouse.models.sql.plan import Plan, plan_model

KEYS = {"bronze.sales": ("id",), "silver.sales": ("id",), "silver.shops": ("shop",)}


def plan_models(**models: str) -> dict[str, Plan]:
    named = {f"gold.{name}": sql for name, sql in models.items()}
    return {name: plan_model(name, sql, (), f"{name}.sql", KEYS) for name, sql in named.items()}


def test_a_cube_looks_up_the_columns_that_it_groups_by() -> None:
    models = plan_models(
        cube="SELECT s.day AS d, s.shop AS shop, COUNT(*) AS n FROM silver.sales AS s GROUP BY s.day, s.shop"
    )
    assert lookup_columns(models) == {"silver.sales": ("day", "shop")}


def test_the_column_that_most_models_look_up_comes_first() -> None:
    one = "SELECT s.shop AS shop, COUNT(*) AS n FROM silver.sales AS s GROUP BY s.shop"
    other = "SELECT s.day AS day, s.shop AS shop, COUNT(*) AS n FROM silver.sales AS s GROUP BY s.day, s.shop"
    assert lookup_columns(plan_models(one=one, other=other)) == {"silver.sales": ("shop", "day")}


def test_the_column_is_followed_through_a_range_join_and_a_cte() -> None:
    rolling = """WITH days AS (SELECT DISTINCT t.placed AS day FROM silver.sales AS t)
        SELECT d.day AS day, COUNT(*) AS n FROM days AS d
        JOIN silver.sales AS s ON s.day BETWEEN date_sub(d.day, 27) AND d.day GROUP BY d.day"""
    assert lookup_columns(plan_models(rolling=rolling)) == {"silver.sales": ("day", "placed")}


def test_an_expression_looks_up_no_column() -> None:
    monthly = "SELECT trunc(s.day, 'MM') AS month, COUNT(*) AS n FROM silver.sales AS s GROUP BY trunc(s.day, 'MM')"
    assert lookup_columns(plan_models(monthly=monthly)) == {}
