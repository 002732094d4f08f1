"""By which columns the models after a table look for rows in it: what its files are laid out by."""

from __future__ import annotations

from lakehouse.models.file_order import lookup_columns
from lakehouse.models.sql.plan import Plan, plan_model

KEYS = {"bronze.sales": ("id",), "silver.sales": ("id",), "silver.shops": ("shop",)}


def planned(**models: str) -> dict[str, Plan]:
    named = {f"gold.{name}": sql for name, sql in models.items()}
    return {name: plan_model(name, sql, (), f"{name}.sql", KEYS) for name, sql in named.items()}


def test_a_cube_looks_for_the_columns_that_it_groups_by() -> None:
    models = planned(
        cube="SELECT s.day AS d, s.shop AS shop, COUNT(*) AS n FROM silver.sales AS s GROUP BY s.day, s.shop"
    )
    assert lookup_columns(models) == {"silver.sales": ("day", "shop")}


def test_what_most_models_look_for_comes_first() -> None:
    one = "SELECT s.shop AS shop, COUNT(*) AS n FROM silver.sales AS s GROUP BY s.shop"
    other = "SELECT s.day AS day, s.shop AS shop, COUNT(*) AS n FROM silver.sales AS s GROUP BY s.day, s.shop"
    assert lookup_columns(planned(one=one, other=other)) == {"silver.sales": ("shop", "day")}


def test_a_join_by_a_range_of_days_and_a_cte_hand_the_column_on() -> None:
    rolling = """WITH days AS (SELECT DISTINCT t.placed AS day FROM silver.sales AS t)
        SELECT d.day AS day, COUNT(*) AS n FROM days AS d
        JOIN silver.sales AS s ON s.day BETWEEN date_sub(d.day, 27) AND d.day GROUP BY d.day"""
    assert lookup_columns(planned(rolling=rolling)) == {"silver.sales": ("day", "placed")}


def test_an_expression_looks_for_no_column() -> None:
    monthly = "SELECT trunc(s.day, 'MM') AS month, COUNT(*) AS n FROM silver.sales AS s GROUP BY trunc(s.day, 'MM')"
    assert lookup_columns(planned(monthly=monthly)) == {}
