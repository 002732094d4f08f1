"""Sums of DOUBLE in models, found by `validate` if the declared types show them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lakehouse import config
from lakehouse.errors import ConfigError
from lakehouse.models.sql import pipeline_plans
from lakehouse.models.sql.plan import Plan

SALES = """SELECT s.id AS id, s.shop AS shop, s.price AS cost, s.exact AS exact, s.price * 2 AS made
    FROM bronze.sales AS s"""


def plan_cube(folder: Path, cube: str) -> Plan:
    table = {"file": "s.csv", "format": "csv", "schema": "id INT, shop STRING, price DOUBLE, exact DECIMAL(9,2)"}
    document = {
        "name": "shop",
        "lake": str(folder / "lake"),
        "source": {"type": "files", "path": str(folder)},
        "tables": {"sales": table | {"keys": ["id"]}},
        "silver": {"sales": {"keys": ["id"]}},
        "gold": {"cube": {}},
    }
    (folder / "pipeline.json").write_text(json.dumps(document))
    for layer, name, sql in (("silver", "sales", SALES), ("gold", "cube", cube)):
        (folder / layer).mkdir()
        (folder / layer / f"{name}.sql").write_text(sql)
    return pipeline_plans.plan_pipeline(config.load(folder))["gold.cube"]


CUBE = "SELECT s.shop AS shop, {} AS total FROM silver.sales AS s GROUP BY s.shop"


@pytest.mark.parametrize(
    ("cube", "named"),
    [
        (CUBE.format("SUM(s.cost)"), "sum(s.cost)"),
        (CUBE.format("AVG(-s.Cost / 3)"), "avg(-s.Cost / 3)"),
        (CUBE.format("SUM(CAST(s.exact AS DOUBLE))"), "sum(CAST(s.exact AS DOUBLE))"),
        ("SELECT shop AS shop, SUM(DISTINCT cost) AS total FROM silver.sales GROUP BY shop", "sum(cost)"),
        (
            "WITH c AS (SELECT s.shop AS shop, s.cost AS c FROM silver.sales AS s) "
            "SELECT c.shop AS shop, SUM(c.c) AS total FROM c GROUP BY c.shop",
            "sum(c.c)",
        ),
    ],
)
def test_a_sum_of_double_is_refused_by_name_with_advice(tmp_path: Path, cube: str, named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plan_cube(tmp_path, cube)

    assert named in refused.value.found
    assert refused.value.where.endswith("gold/cube.sql")
    assert "DECIMAL" in refused.value.next_step


@pytest.mark.parametrize(
    "total",
    [
        *("SUM(s.exact)", "MAX(s.cost)", "COUNT(s.cost)", "SUM(CAST(s.cost AS DECIMAL(18, 4)))"),
        *(
            "SUM(s.exact * 2)",
            "SUM(s.made)",
            "SUM(CASE WHEN s.cost > 0 THEN 1 END)",
        ),  # only Spark knows the type of `made`
    ],
)
def test_sums_that_are_exact_or_unknown_are_accepted(tmp_path: Path, total: str) -> None:
    plan = plan_cube(tmp_path, CUBE.format(total))

    assert (plan.model, plan.inputs, plan.sql) == ("gold.cube", ["silver.sales"], CUBE.format(total))
