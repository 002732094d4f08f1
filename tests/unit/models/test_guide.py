"""docs/guide/models.md: the strategy in the comment of each example is the one that `explain` reports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lakehouse import config
from lakehouse.config.ddl import parse_columns
from lakehouse.models.sql import functions, pipeline_plans
from lakehouse.models.sql.plan import plan_model
from lakehouse.models.sql.resolve import base_relation, resolve_model

REPOSITORY = Path(__file__).parents[3]
GUIDE = REPOSITORY / "docs" / "guide" / "models.md"
SHIPPED = sorted((REPOSITORY / "conf").glob("*/pipeline.yml"))
EXAMPLES = re.findall(r"```sql\n-- (.*)\n((?:.|\n)*?)```", GUIDE.read_text(encoding="utf-8"))
KEYS = {"silver.sales": ("id",), "silver.shops": ("shop",)}


@pytest.mark.parametrize(("comment", "sql"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_of_the_guide_has_the_strategy_in_its_comment(comment: str, sql: str) -> None:
    strategy, _, reason = comment.partition(": ") if comment.startswith("full") else (comment.partition(",")[0], "", "")
    _, _, keys = comment.partition("keys: ")
    found = plan_model(
        "gold.m", sql, tuple(filter(None, keys.split(", "))) or ("id",) * ("GROUP BY" not in sql), "m.sql", KEYS
    )

    assert found.strategy == strategy, found.reason
    assert reason in found.reason


@pytest.mark.parametrize(("comment", "sql"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_of_the_guide_is_resolved_without_a_fault(comment: str, sql: str) -> None:
    sales = "id INT, shop STRING, amount DECIMAL(9,2), product STRING, client INT, day DATE, sale INT, at TIMESTAMP"
    ddl = {"bronze.sales": sales, "silver.sales": sales, "silver.shops": "shop STRING, city STRING"}
    relations = {
        name: base_relation(name, [(c.name, c.type) for c in parse_columns(text)], (frozenset(KEYS.get(name, ["id"])),))
        for name, text in (ddl | {"silver.cancelled": "sale INT"}).items()
    }

    assert resolve_model(plan_model("gold.m", sql, ("id",), "m.sql", KEYS), relations, "m.sql").faults == ()


def test_the_guide_has_an_example_of_every_strategy() -> None:
    assert {comment.split(",")[0].split(":")[0] for comment, _ in EXAMPLES} == {
        *("row-wise", "lookup", "grouped", "windowed", "full"),
    }


@pytest.mark.parametrize("pipeline", SHIPPED, ids=lambda path: path.parent.name)
def test_no_model_of_a_shipped_pipeline_needs_full_refreshes(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = pipeline_plans.plan_pipeline(config.load(pipeline))

    assert {name: plan.reason for name, plan in found.items() if plan.strategy == "full"} == {}
    assert found


def test_a_function_is_in_one_list_only() -> None:
    lists = (
        functions.SCALAR,
        functions.AGGREGATES,
        functions.COLLECTING,
        functions.NON_DETERMINISTIC,
        functions.GENERATORS,
    )
    assert [a & b for a in lists for b in lists if a is not b and a & b] == []
