"""Refreshes of silver and gold on Delta: incremental, in one commit, and correct after any change."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import grammar
import pyarrow as pa
import pytest
from grammar import Tables
from helpers import Project, Result
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from lakehouse.config.expect import Expectation
from lakehouse.config.tuning import Tuning
from lakehouse.errors import DataRefused
from lakehouse.lake import delta, quarantine
from lakehouse.lake.merge import MergeTarget, merge_to_match
from lakehouse.models import refresh as refresh_module
from lakehouse.models.expectations import RowRuleEvaluator
from lakehouse.models.model import Model, run_model_query
from lakehouse.models.refresh import RefreshResult
from lakehouse.models.sql.plan import plan_model
from lakehouse.models.sql.rules import parse_rules
from lakehouse.spark.session import isolated_session
from lakehouse.storage.paths import Lake

pytestmark = pytest.mark.usefixtures("spark")

SALES = {
    "file": "sales.csv",
    "format": "csv",
    "schema": "id INT, day DATE, shop STRING, amount DECIMAL(9,2)",
    "keys": ["id"],
    "guard": {"max_deleted": 1.0},
}
SHOPS = {"file": "shops.csv", "format": "csv", "schema": "shop STRING, city STRING", "keys": ["shop"]}
CUBES: dict[str, tuple[str, dict[str, Any]]] = {
    "silver.sales": ("SELECT s.id, s.day, s.shop, s.amount FROM bronze.sales AS s", {"keys": ["id"]}),
    "silver.placed": (
        "SELECT s.id AS id, s.amount AS amount, c.city AS city "
        "FROM silver.sales AS s LEFT JOIN bronze.shops AS c ON c.shop = s.shop",
        {"keys": ["id"]},
    ),
    "gold.cities": (
        "SELECT p.city AS city, GROUPING_ID() AS gid, COUNT(*) AS sales, SUM(p.amount) AS amount "
        "FROM silver.placed AS p GROUP BY GROUPING SETS ((p.city), ())",
        {},
    ),
    "gold.three_days": (
        "WITH days AS (SELECT DISTINCT s.day AS day FROM silver.sales AS s) "
        "SELECT d.day AS day, COUNT(DISTINCT s.shop) AS shops, SUM(s.amount) AS amount FROM days AS d "
        "JOIN silver.sales AS s ON s.day BETWEEN date_sub(d.day, 2) AND d.day GROUP BY d.day",
        {},
    ),
}
FIRST = "id,day,shop,amount\n1,2025-01-01,a,1.10\n2,2025-01-02,b,2.20\n3,2025-01-05,a,3.30\n4,2025-01-05,,4.40\n"
SECOND = "id,day,shop,amount\n1,2025-01-01,a,1.10\n2,2025-01-02,b,2.25\n3,2025-01-04,c,3.30\n5,2025-01-06,c,5.50\n"
CITIES = "shop,city\na,Rio\nb,Rio\nc,\n"
GOLD = ("gold/cities", "gold/three_days")
INCREMENTAL = {"full_refresh_below_bytes": 0}  # incremental refreshes, although the tables are small


@pytest.fixture(scope="module")
def first(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("first")
    project = Project(folder, {"sales": SALES, "shops": SHOPS}, CUBES, tuning=INCREMENTAL)
    project.snapshot("20250101_000000", sales=FIRST, shops=CITIES)
    assert project.run().code == 0
    return project


@pytest.fixture(scope="module")
def second(first: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Bronze has the second snapshot, silver and gold have the first."""
    project = first.copy(tmp_path_factory.mktemp("second"))
    project.snapshot("20250102_000000", sales=SECOND, shops=CITIES.replace("b,Rio", "b,Recife"))
    for stage in ("extract", "ingest", "bronze"):
        assert project(stage).code == 0
    return project


@pytest.fixture(scope="module")
def done(second: Project) -> Result:
    """The result of the run that brings silver and gold to the second snapshot."""
    waits = {m["model"]: m["waiting"] for m in second("status").document["models"]}
    assert waits["silver.placed"] == ["bronze.shops"]  # silver.sales has not changed yet
    assert waits["gold.cities"] == []
    return second.run()


def test_files_are_ordered_by_the_day_that_later_models_look_up(first: Project) -> None:
    log = (first.lake / "silver/sales/_delta_log" / f"{0:020}.json").read_text().splitlines()
    stats = [json.loads(json.loads(line)["add"]["stats"]) for line in log if '"add"' in line]
    days = sorted((stat["minValues"]["day"], stat["maxValues"]["day"]) for stat in stats)
    assert [day for file in days for day in file] == ["2025-01-01", "2025-01-02", "2025-01-05", "2025-01-05"]


def test_the_day_that_later_models_look_up_may_be_a_key(tmp_path: Path) -> None:
    days = {"file": "days.csv", "format": "csv", "schema": "day DATE, n INT", "keys": ["day"]}
    models = {
        "silver.days": ("SELECT d.day AS day, d.n AS n FROM bronze.days AS d", {"keys": ["day"]}),
        "gold.days": ("SELECT s.day AS day, SUM(s.n) AS n FROM silver.days AS s GROUP BY s.day", {}),
    }
    project = Project(tmp_path, {"days": days}, models, tuning=INCREMENTAL)
    project.snapshot("20250101_000000", days="day,n\n2025-01-01,1\n2025-01-02,2\n2025-01-03,3\n")
    assert project.run().code == 0
    project.snapshot("20250102_000000", days="day,n\n2025-01-01,1\n2025-01-02,5\n2025-01-03,3\n")

    done = project.run()

    assert done.code == 0, done.document
    assert done.statuses("silver") == {"silver.days": "row-wise"}
    assert [row["n"] for row in project.rows("gold/days")] == [1, 5, 3]


def test_each_incremental_refresh_equals_a_full_one(second: Project, done: Result) -> None:
    assert done.code == 0, done.stderr
    assert done.statuses("silver") | done.statuses("gold") == {
        "silver.sales": "row-wise",
        "silver.placed": "lookup",
        "gold.cities": "grouped",
        "gold.three_days": "windowed",
    }
    assert done.outcome("silver", "silver.placed")["note"] == "rows changed: 2 of bronze.shops, 6 of silver.sales"
    assert done.outcome("gold", "gold.cities")["counts"] == {"inserted": 1, "updated": 3, "deleted": 0}
    assert second.rows("gold/cities") == [
        {"city": None, "gid": 0, "sales": 2, "amount": Decimal("8.80")},
        {"city": None, "gid": 1, "sales": 4, "amount": Decimal("12.15")},
        {"city": "Recife", "gid": 0, "sales": 1, "amount": Decimal("2.25")},
        {"city": "Rio", "gid": 0, "sales": 1, "amount": Decimal("1.10")},
    ]
    checks = second("verify").document
    assert checks["failed"] == 0
    assert [c["result"] for c in checks["checks"] if "gold = its SQL" in c["what"]] == ["holds"] * 2


def test_a_refresh_is_one_commit_that_records_the_inputs_for_status(
    first: Project, second: Project, done: Result
) -> None:
    before, versions = first.versions(), second.versions()
    for table in GOLD:
        assert (versions[table], second.operations(table)[-1]) == (before[table] + 1, "MERGE")
    found = {m["model"]: m for m in second("status").document["models"]}
    assert found["gold.cities"]["inputs"] == {"silver.placed": versions["silver/placed"]}
    assert [m["waiting"] for m in found.values()] == [[]] * 4


def test_changes_that_affect_no_row_of_a_cube_are_recorded_without_writing_it(
    second: Project, done: Result, tmp_path: Path
) -> None:
    shop = second.copy(tmp_path / "shop")
    writes = shop.write_counts()
    shop.snapshot("20250103_000000", sales=SECOND, shops=CITIES.replace("b,Rio", "b,Recife") + "d,Natal\n")
    again = shop.run()
    assert again.outcome("silver", "silver.placed")["status"] == "lookup"
    assert {t: n for t, n in shop.write_counts().items() if n != writes[t]}.keys() == {"bronze/shops", "raw/ledger"}
    assert shop.run().document["nothing_new"]


def test_a_cube_is_refreshed_in_full_if_its_inputs_are_small_or_much_of_them_changed(
    second: Project, done: Result, tmp_path: Path
) -> None:
    shop = second.copy(tmp_path / "shop")
    shop.snapshot("20250103_000000", sales=FIRST, shops=CITIES)
    assert shop("extract").code == shop("ingest").code == shop("bronze").code == 0
    shop.tuning = INCREMENTAL | {"local_rows": 0}  # changes are counted only if they are not local
    shop.configure()
    much = shop("silver").outcome("silver", "silver.placed")
    assert (much["status"], much["note"]) == ("full", "much of bronze.shops changed: 2 changes, 3 rows")
    shop.tuning = {"full_refresh_below_bytes": 1 << 20}
    shop.configure()
    small = shop("gold").outcome("gold", "gold.cities")
    assert small["status"] == "full"
    assert "its inputs are small" in small["note"]
    assert shop.rows("gold/cities") == first_cities()


def test_the_last_and_the_first_day_are_refreshed_by_changes(second: Project, done: Result, tmp_path: Path) -> None:
    shop = second.copy(tmp_path / "shop")
    rows = SECOND
    for stamp, row in (("20250103_000000", "7,9999-12-31,a,7.00"), ("20250104_000000", "8,0001-01-01,b,8.00")):
        rows += f"{row}\n"
        shop.snapshot(stamp, sales=rows, shops=CITIES.replace("b,Rio", "b,Recife"))
        again = shop.run()
        assert (again.code, again.outcome("gold", "gold.three_days")["status"]) == (0, "windowed")
    found = {row["day"].isoformat(): (row["shops"], str(row["amount"])) for row in shop.rows("gold/three_days")}
    assert (found["9999-12-31"], found["0001-01-01"], len(found)) == ((1, "7.00"), (1, "8.00"), 6)
    assert [c for c in shop("verify").document["checks"] if c["result"] == "failed"] == []


def test_a_gap_in_the_log_of_an_input_leads_to_a_full_refresh(
    spark: SparkSession, second: Project, done: Result, tmp_path: Path
) -> None:
    shop = second.copy(tmp_path / "shop")
    sales, read_version = shop.lake / "bronze/sales", shop.versions()["bronze/sales"]
    # A checkpoint keeps the current rows readable without the older commits.
    spark.sql(f"ALTER TABLE delta.`{sales}` SET TBLPROPERTIES ('delta.checkpointInterval' = '1')")
    for stamp, rows in (("20250103_000000", FIRST), ("20250104_000000", SECOND), ("20250105_000000", FIRST)):
        shop.snapshot(stamp, sales=rows, shops=CITIES)
        assert shop("extract").code == shop("ingest").code == shop("bronze").code == 0
    newest = shop.versions()["bronze/sales"]
    assert newest >= read_version + 3
    (sales / "_delta_log" / f"{newest - 1:020}.json").unlink()

    silver = shop("silver").outcome("silver", "silver.sales")

    assert (silver["status"], silver["note"]) == ("full", "the changes of bronze.sales can no longer be read")
    assert [row["id"] for row in shop.rows("silver/sales")] == [1, 2, 3, 4]


def first_cities() -> list[dict[str, Any]]:
    """The rows of gold.cities for the first snapshot."""
    return [
        {"city": None, "gid": 0, "sales": 1, "amount": Decimal("4.40")},
        {"city": None, "gid": 1, "sales": 4, "amount": Decimal("11.00")},
        {"city": "Rio", "gid": 0, "sales": 3, "amount": Decimal("6.60")},
    ]


def test_sums_of_double_are_refused_with_advice(first: Project, tmp_path: Path) -> None:
    shop = first.copy(tmp_path / "shop")
    sql = "SELECT s.shop AS shop, SUM(CAST(s.amount AS DOUBLE) / 3) AS amount FROM silver.sales AS s GROUP BY s.shop"
    shop.models["gold.shares"] = (sql, {})
    shop.configure()
    refused = shop.run()
    assert refused.code == 2
    note = refused.outcome("gold", "gold.shares")["note"]
    assert "sum(CAST(s.amount AS DOUBLE) / 3)" in note
    assert "DECIMAL" in note
    assert not (shop.lake / "gold/shares").exists()
    assert refused.outcome("gold", "gold.cities")["status"] == "current"


# --- random models ----------------------------------------------------------------------------------------------

RANDOM = os.environ.get("LAKEHOUSE_DELTA_MODELS")  # set by make test-random; else always the same models
SIDE_BY_SIDE = 6 if RANDOM else 2
# The expectations of the first two models. Every model has a column x0.
EXPECTED = [
    {"some": Expectation(check="hash(x0) % 2 = 0")},
    {"most": Expectation(check="hash(x0) % 3 <> 0", on_fail="drop")},
]
TUNING = Tuning(full_refresh_below_bytes=0)
BY_SPARK = Tuning(full_refresh_below_bytes=0, small_table_bytes=0)  # no table is small enough for the driver
EXAMPLES = -(-int(RANDOM or 2) // SIDE_BY_SIDE)


@st.composite
def histories(draw: grammar.Draw) -> list[Tables]:
    states = [draw(grammar.tables())]
    for _ in range(2):
        states.append(draw(grammar.changed_tables(states[-1])))
    return states


def frame(spark: SparkSession, relation: str, tables: Tables) -> DataFrame:
    schema = T.DataType.fromDDL(grammar.DDL[relation])
    assert isinstance(schema, T.StructType)
    return spark.createDataFrame(pa.Table.from_pylist(tables[relation], to_arrow_schema(schema)), schema)


def count_rows(rows: DataFrame) -> Counter[Any]:
    return Counter(tuple(map(str, row)) for row in rows.collect())


def read_no_relation(relation: str) -> DataFrame:
    raise AssertionError(f"no rule refers to {relation}")


def refresh(spark: SparkSession, lake: Lake, model: Model) -> RefreshResult | None:
    """Return None if the refresh is refused because two rows share a key."""
    try:
        return refresh_module.refresh(spark, lake, model, is_small_lake=True)
    except DataRefused:
        return None


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=RANDOM is None,
    suppress_health_check=list(HealthCheck),
)
@given(drawn=st.lists(grammar.models(), min_size=SIDE_BY_SIDE, max_size=SIDE_BY_SIDE), states=histories())
def test_any_model_on_delta_equals_a_full_refresh_after_any_changes(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, drawn: list[grammar.Model], states: list[Tables]
) -> None:
    session, lake = isolated_session(spark, 0), Lake(str(tmp_path_factory.mktemp("random")))
    models = []
    for at, each in enumerate(drawn):
        plan = plan_model(f"gold.m{at}", each.sql, each.keys, "gold/m.sql", grammar.KEYS)
        rules = parse_rules(f"gold.m{at}", EXPECTED[at], "m.yml") if at < len(EXPECTED) else ()
        input_keys = {relation: grammar.KEYS[relation] for relation in plan.inputs}
        tuning = TUNING if at % 2 else BY_SPARK
        models.append(Model(replace(plan, rules=rules), input_keys, {"as_of": None}, tuning=tuning))
    for before, now in pairwise([None, *states]):
        assert now is not None
        for relation in grammar.DDL:
            if before is None or before[relation] != now[relation]:
                target = MergeTarget(session, lake.table(relation), ["id"])
                merge_to_match(target, frame(session, relation, now), {"stage": "silver"}, expect_few=True)
        for model in models:
            note(model.plan.sql)
            done = refresh(session, lake, model)
            all_rows = run_model_query(session, model, {r: frame(session, r, now) for r in model.plan.inputs})
            evaluator = RowRuleEvaluator(session, model.plan, {}, read_no_relation)
            rows = evaluator.remaining_rows(all_rows)
            has_duplicates = rows.groupBy(*model.plan.keys).count().where("count > 1").count() > 0
            assert (done is None) is has_duplicates
            if done is None:
                continue
            table = delta.read(session, lake.table(model.name)).select(rows.columns)
            assert count_rows(table) == count_rows(rows), done
            if model.plan.rules and model.plan.rules[0].on_fail == "quarantine":
                version = delta.current_version(session, lake.table(model.name))
                assert version is not None
                quarantined = quarantine.read_of_model(session, lake, model.name, version.last_refresh_version)
                expected = evaluator.quarantined_rows(all_rows).select("row").distinct()
                assert count_rows(quarantined.where("NOT resolved").select("row")) == count_rows(expected), done


def test_a_cte_that_no_select_reads_is_an_input_that_affects_no_row(spark: SparkSession, tmp_path: Path) -> None:
    """Found by a random test: the row-wise refresh read the changes of that CTE's input instead of the model's."""
    session, lake = isolated_session(spark, 0), Lake(str(tmp_path))
    unread = "WITH unread AS (SELECT i.id AS id FROM silver.items AS i)"
    sql = f"{unread} SELECT s.id AS x0, s.qty AS x1 FROM silver.sales AS s"
    plan = plan_model("gold.m", sql, ("x0",), "gold/m.sql", grammar.KEYS)
    model = Model(plan, grammar.KEYS, {"as_of": None}, tuning=TUNING)
    sale = {"day": None, "shop": "a", "item": 1, "amount": None}
    item = {"name": "a", "kind": "a", "since": None}
    states: list[Tables] = [
        {"silver.sales": [{"id": 1, "qty": 1, **sale}], "silver.items": [{"id": 1, **item}]},
        {"silver.sales": [{"id": 1, "qty": 2, **sale}], "silver.items": [{"id": 1, **item}]},
        {"silver.sales": [{"id": 1, "qty": 2, **sale}], "silver.items": [{"id": 2, **item}]},
    ]
    for state in states:
        for relation in state:
            target = MergeTarget(session, lake.table(relation), ["id"])
            merge_to_match(target, frame(session, relation, state), {"stage": "silver"}, expect_few=True)
        assert refresh(session, lake, model) is not None
        rows = [tuple(row) for row in delta.read(session, lake.table("gold.m")).collect()]
        assert rows == [(1, state["silver.sales"][0]["qty"])]
