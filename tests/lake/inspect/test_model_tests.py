"""`lakehouse test` runs the cases of a pipeline, and cuts new ones out of the lake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import ITEMS, Project
from pyspark.sql import SparkSession

ITEM_SQL = "SELECT i.id, i.day, i.price, i.owner AS who FROM bronze.items AS i"
DAY_SQL = "SELECT s.day, SUM(s.price) AS total, COUNT(DISTINCT s.who) AS people FROM silver.items AS s GROUP BY s.day"
LATE_SQL = "SELECT s.id, s.day < CAST(:newest_snapshot AS DATE) AS late FROM silver.items AS s"
CASES = """
cases:
  computed from bronze, without rejected rows:
    model: gold.days
    given:
      bronze.items:
        - {id: a, day: 2025-01-01, price: 1.5, owner: x}
        - {id: b, day: 2025-01-01, price: "2.25", owner: x}
        - {id: c, day: 2025-01-01, price: -1}
    expect: [{day: 2025-01-01, total: 3.75, people: 1}]
  another result:
    model: gold.days
    given: {silver.items: [{day: 2025-01-01, price: 1}, {day: 2025-01-02, price: 2}]}
    expect: [{day: 2025-01-01, total: 2}, {day: 2025-01-03, total: 2}]
  only one day:
    model: gold.days
    given: {silver.items: [{day: 2025-01-01, price: 1}, {day: 2025-01-02, price: 2}]}
    only: {day: 2025-01-02}
    expect: [{total: 2.00}]
  a value of another type: {model: silver.items, given: {bronze.items: [{id: a, day: soon}]}, expect: []}
  an unknown column: {model: silver.items, given: {bronze.items: [{ida: a}]}, expect: []}
  the time is missing: {model: silver.late, given: {silver.items: [{id: a}]}, expect: []}
  the time is given:
    model: silver.late
    newest_snapshot: 2025-01-02T00:00:00Z
    given: {silver.items: [{id: a, day: 2025-01-01}, {id: b, day: 2025-01-02}]}
    expect: [{id: a, late: true}, {id: b, late: false}]
"""


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    table = ITEMS | {"schema": "id STRING, day DATE, price DECIMAL(9,2), owner STRING", "pii": {"owner": "mask"}}
    rules = {"positive": {"check": "price > 0", "on_fail": "quarantine"}}
    models: dict[str, tuple[str, dict[str, Any]]] = {
        "silver.items": (ITEM_SQL, {"keys": ["id"], "expect": rules}),
        "silver.late": (LATE_SQL, {"keys": ["id"]}),
        "gold.days": (DAY_SQL, {}),
    }
    project = Project(tmp_path_factory.mktemp("shop"), {"items": table}, models)
    rows = [f"i{n},2025-01-0{1 + n % 3},{n},person{n % 4}" for n in range(1, 13)]
    project.snapshot("20250101_000000", items="\n".join(["id,day,price,owner", *rows, ""]))
    assert project.run().code == 0
    (project.pipeline / "tests").mkdir()
    return project


def test_each_case_is_passed_or_failed_with_its_differences(shop: Project) -> None:
    (shop.pipeline / "tests/days.yml").write_text(CASES)
    done = shop("test")

    results = {case["case"]: case for case in done.document["cases"]}
    assert {name: case["result"] for name, case in results.items()} == {
        "computed from bronze, without rejected rows": "passed",
        "another result": "failed",
        "only one day": "passed",
        "a value of another type": "failed",
        "an unknown column": "failed",
        "the time is missing": "failed",
        "the time is given": "passed",
    }
    assert (done.code, done.document["passed"], done.document["failed"]) == (5, 3, 4)
    assert [(d["kind"], d["key"], d["found"]) for d in results["another result"]["differences"]] == [
        ("differs", {"day": "2025-01-01"}, "1.00"),
        ("missing", None, None),
        ("unexpected", None, {"day": "2025-01-02", "total": "2.00"}),
    ]
    assert "soon" in results["a value of another type"]["note"]
    assert 'no column ida; did you mean "id"' in results["an unknown column"]["note"]
    assert "newest_snapshot" in results["the time is missing"]["note"]
    assert shop("test", "only one day").code == 0
    assert shop("test", "gold.dayz").code == 2


def test_a_case_is_cut_from_the_lake_with_invented_names(shop: Project) -> None:
    done = shop("test", "--cut", "gold.days", "2025-01-02")
    assert done.code == 0, done.document
    file = Path(done.document["file"])
    (case,) = yaml.safe_load(file.read_text())["cases"].values()

    rows = case["given"]["silver.items"]
    assert {str(row["day"]) for row in rows} == {"2025-01-02"}
    assert len(rows) == 4
    assert {row["who"] for row in rows} == {"who 1"}  # `mask` has made them one text, which stays one
    assert [(row["total"], row["people"]) for row in case["expect"]] == [("22.00", 1)]
    assert shop("test", file.name).code == 0
    refused = shop("test", "--cut", "gold.days", "2031-01-01")
    assert (refused.code, "has no row" in refused.error["found"]) == (2, True)
