"""The rows of an incremental refresh equal those of the model's SQL over all rows, after any change."""

from __future__ import annotations

import os
from collections import Counter
from datetime import date
from decimal import Decimal
from functools import partial, reduce
from itertools import pairwise
from typing import Any

import grammar
import pyarrow as pa
import pytest
from grammar import Model, Row, Tables
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from lakehouse.lake import cached_rows
from lakehouse.lake.cached_rows import MAX_LOCAL_ROWS, cache_rows
from lakehouse.models.block_reader import BlockReader, ModelInput
from lakehouse.models.incremental import IncrementalQuery
from lakehouse.models.sql.plan import Plan, plan_model
from lakehouse.models.sql.states import STATE, with_states
from lakehouse.spark.session import isolated_session

RANDOM = os.environ.get("LAKEHOUSE_MODELS")  # set by make test-random; else always the same models
EXAMPLES = int(RANDOM or 8)


@pytest.fixture(scope="module")
def small(spark: SparkSession) -> SparkSession:
    return isolated_session(spark, 0)


def frame(spark: SparkSession, relation: str, rows: list[Row]) -> DataFrame:
    schema = T.DataType.fromDDL(grammar.DDL[relation])
    assert isinstance(schema, T.StructType)
    return spark.createDataFrame(pa.Table.from_pylist(rows, to_arrow_schema(schema)), schema)


def full_rows(spark: SparkSession, plan: Plan, tables: Tables) -> list[Row]:
    """The rows of the author's SQL over all rows."""
    names = {relation: f"_{relation.replace('.', '_')}" for relation in plan.inputs}
    for relation, name in names.items():
        frame(spark, relation, tables[relation]).createOrReplaceTempView(name)
    return [row.asDict() for row in spark.sql(plan.sql_with_names(names)).collect()]


def incremental_rows(
    spark: SparkSession, plan: Plan, target: list[Row], previous: Tables, current: Tables, local_rows: int
) -> list[Row]:
    """The target's rows, with those of the affected keys replaced."""
    inputs = {}
    for relation in plan.inputs:
        images = grammar.row_images(previous[relation], current[relation])
        cached = cache_rows(spark, frame(spark, relation, images), local_rows) if images else None
        read_previous = partial(frame, spark, relation, previous[relation])
        inputs[relation] = ModelInput(frame(spark, relation, current[relation]), cached, read_previous)
    reader = BlockReader(spark, plan, {}, inputs)
    query = IncrementalQuery(spark, reader, local_rows)
    try:
        affected = query.affected_rows()
        if affected is None:
            return target
        keys = {tuple(row) for row in affected.keys.rows.collect()}
        rows = [row.asDict() for row in affected.rows.collect()]
        names = affected.keys.rows.columns
    finally:
        query.release()
        reader.release()
    assert {tuple(row[n] for n in names) for row in rows} <= keys
    return [row for row in target if tuple(row[n] for n in names) not in keys] + rows


def count_rows(rows: list[Row]) -> Counter[Any]:
    return Counter(tuple(map(str, row.items())) for row in rows)


def assert_incremental_equals_full(
    spark: SparkSession, model: Model, states: list[Tables], local_rows: int = MAX_LOCAL_ROWS
) -> None:
    plan = plan_model("gold.m", model.sql, model.keys, "gold/m.sql", grammar.KEYS)
    assert plan.strategy != "full", plan.reason
    target = full_rows(spark, plan, states[0])
    for previous, current in pairwise(states):
        target = incremental_rows(spark, plan, target, previous, current, local_rows)
        assert count_rows(target) == count_rows(full_rows(spark, plan, current))


# --- one kind of change at a time --------------------------------------------------------------------------------


def day(number: int) -> date:
    return date(2025, 2, number)


def sale(key: int, at: int | None, shop: str | None, item: int | None, amount: str | None, qty: int | None) -> Row:
    exact = None if amount is None else Decimal(amount)
    return {"id": key, "day": at and day(at), "shop": shop, "item": item, "amount": exact, "qty": qty}


def item(key: int, name: str | None, kind: str | None = None, since: int | None = None) -> Row:
    return {"id": key, "name": name, "kind": kind, "since": since and day(since)}


def line(key: int, of: int | None, label: str | None, price: str, at: int | None) -> Row:
    return {"id": key, "sale": of, "label": label, "price": Decimal(price), "at": at and day(at)}


SALES = [sale(1, 1, "a", 1, "1.10", 1), sale(2, 2, "b", 2, "2.20", 2), sale(3, None, None, None, None, None)]
SALES += [sale(4, 27, "a", 9, "4.40", 1), sale(5, 2, "b", 1, "-5.50", None)]
ITEMS = [item(1, "x", "k", 1), item(2, "y", None, 20), item(3, None, "k", 2)]
LINES = [
    line(1, 1, "x", "0.5", 1),
    line(2, 1, "y", "1.5", 3),
    line(3, 9, "x", "2.5", 26),
    line(4, 2, None, "9.0", None),
]


def but(rows: list[Row], *changed: Row, gone: tuple[int, ...] = ()) -> list[Row]:
    new = {row["id"]: row for row in changed}
    return [new.pop(row["id"], row) for row in rows if row["id"] not in gone] + list(new.values())


FROM = "FROM silver.sales AS s"
BY_NAME = f"SELECT i.name AS name, COUNT(*) AS n, SUM(s.amount) AS amount {FROM} {{}} GROUP BY i.name"
LEFT, INNER = "LEFT JOIN silver.items AS i ON i.id = s.item", "JOIN silver.items AS i ON s.item = i.id"
DAYS = "WITH d AS (SELECT DISTINCT s.day AS day FROM silver.sales AS s)"
ROLLING = f"""{DAYS} SELECT d.day AS day, COUNT(DISTINCT s.shop) AS shops, SUM(s.amount) AS amount FROM d
    JOIN silver.sales AS s ON s.day BETWEEN date_sub(d.day, 2) AND d.day GROUP BY d.day"""
BY_SHOP = f"SELECT s.shop AS shop, COUNT(*) AS n {FROM} {{}} GROUP BY s.shop"
TOTALS = f"SELECT s.shop AS shop, s.day AS day, GROUPING_ID() AS g, COUNT(*) AS n, MAX(s.qty) AS most {FROM} GROUP BY "
CHANGES: dict[str, tuple[str, dict[str, list[Row]]]] = {
    "a dimension on the outer side is renamed": (BY_NAME.format(LEFT), {"items": but(ITEMS, item(1, "z"))}),
    "a dimension comes where there was none": (BY_NAME.format(LEFT), {"items": but(ITEMS, item(9, "x"))}),
    "a dimension goes": (BY_NAME.format(LEFT), {"items": but(ITEMS, gone=(1,))}),
    "both sides of a join change at once": (
        BY_NAME.format(INNER),
        {"sales": but(SALES, sale(1, 1, "a", 2, "9.99", 1), gone=(5,)), "items": but(ITEMS, item(2, "w"), gone=(1,))},
    ),
    "both sides of an outer join change at once": (
        BY_NAME.format(LEFT),
        {"sales": but(SALES, sale(1, 1, "a", 9, "9.99", 1)), "items": but(ITEMS, item(9, "w"), gone=(1,))},
    ),
    "what a later ON reads is renamed": (
        f"SELECT l.id AS line, COUNT(*) AS n {FROM} {LEFT} JOIN silver.lines AS l ON l.label = i.name GROUP BY l.id",
        {"items": but(ITEMS, item(1, "y"), item(2, "x"))},
    ),
    # Next to the changed line there is another one, by which a later join finds its rows.
    "a row of an outer range changes beside another": (
        f"SELECT i.id AS item, COUNT(*) AS n {FROM} LEFT JOIN silver.lines AS l ON l.at >= s.day "
        "LEFT JOIN silver.items AS i ON i.name = l.label GROUP BY i.id",
        {"lines": but(LINES, line(2, 1, "y", "1.5", 2), line(5, 1, "z", "1.5", 27))},
    ),
    "a row gets its first partner, another loses its last": (
        BY_SHOP.format("LEFT SEMI JOIN silver.lines AS l ON l.sale = s.id"),
        {"lines": but(LINES, line(6, 3, "x", "1.0", 1), gone=(1, 2))},
    ),
    "a row is no longer without a partner, another is": (
        BY_SHOP.format("LEFT ANTI JOIN silver.lines AS l ON l.sale = s.id"),
        {"lines": but(LINES, line(6, 3, "x", "1.0", 1), gone=(1, 2))},
    ),
    "a row within reach of later days comes, another goes": (
        ROLLING,
        {"sales": but(SALES, sale(6, 26, "c", 1, "0.01", 1), gone=(1,))},
    ),
    "a new day looks back": (ROLLING, {"sales": but(SALES, sale(6, 3, "c", 1, "0.01", 1))}),
    "the last day comes, and the first": (
        ROLLING.replace(" 2)", " 27)"),
        {
            "sales": but(
                SALES,
                sale(6, 26, "c", 1, "0.01", 1) | {"day": date(9999, 12, 31)},
                sale(7, 26, "c", 1, "0.02", 1) | {"day": date(1, 1, 1)},
            )
        },
    ),
    "the last row of a NULL dimension goes, its total stays": (
        TOTALS + "GROUPING SETS ((s.shop, s.day), (s.shop), ())",
        {"sales": but(SALES, gone=(3,))},
    ),
    "a row moves between the groups of a CUBE": (
        TOTALS + "CUBE (s.shop, s.day)",
        {"sales": but(SALES, sale(1, None, "b", 1, "1.10", 7))},
    ),
    "every row goes, and the total with them": (TOTALS + "ROLLUP (s.shop, s.day)", {"sales": []}),
    "a group falls below its HAVING": (
        BY_SHOP.format("") + " HAVING COUNT(*) > 1",
        {"sales": but(SALES, sale(1, 1, "b", 1, "1.10", 1))},
    ),
    "a row moves between partitions": (
        "SELECT s.shop AS shop, s.id AS id, ROW_NUMBER() OVER (PARTITION BY s.shop ORDER BY s.amount, s.id) AS nth, "
        f"SUM(s.amount) OVER (PARTITION BY s.shop) AS whole {FROM}",
        {"sales": but(SALES, sale(1, 1, "b", 1, "2.20", 1))},
    ),
    "a table joined to itself": (
        f"SELECT s.id AS id, COUNT(*) AS n, MIN(o.amount) AS least {FROM} JOIN silver.sales AS o ON o.day <= s.day "
        "GROUP BY s.id",
        {"sales": but(SALES, sale(1, 28, "a", 1, "1.10", 1), gone=(5,))},
    ),
    "a CTE that is read twice": (
        f"WITH c AS (SELECT s.shop AS shop, SUM(s.amount) AS amount {FROM} GROUP BY s.shop) "
        "SELECT a.shop AS shop, COUNT(*) AS above FROM c AS a LEFT JOIN c AS b ON b.amount > a.amount GROUP BY a.shop",
        {"sales": but(SALES, sale(2, 2, "c", 2, "2.20", 2))},
    ),
    "names in another case, and a comparison that casts": (
        f"SELECT S.Shop AS Shop, COUNT(*) AS n {FROM} JOIN silver.items AS i ON I.Id = s.AMOUNT + 0 OR S.QTY = I.Id "
        "GROUP BY S.Shop",
        {"items": but(ITEMS, gone=(1,))},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_rows_that_a_change_affects_are_found(small: SparkSession, change: str) -> None:
    sql, changed = CHANGES[change]
    previous = {"silver.sales": SALES, "silver.items": ITEMS, "silver.lines": LINES}
    current = previous | {f"silver.{name}": rows for name, rows in changed.items()}
    keys = ("shop", "id") if "ROW_NUMBER" in sql else ()
    plan = plan_model("gold.m", sql, keys, "gold/m.sql", grammar.KEYS)
    assert count_rows(full_rows(small, plan, previous)) != count_rows(full_rows(small, plan, current))
    assert_incremental_equals_full(small, Model(sql, keys), [previous, current, previous])


# --- random models-------------------------------------------------------------------------------------------------


@st.composite
def histories(draw: grammar.Draw) -> list[Tables]:
    states = [draw(grammar.tables())]
    for _ in range(draw(st.integers(1, 2))):
        states.append(draw(grammar.changed_tables(states[-1])))
    return states


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=RANDOM is None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(model=grammar.models(), states=histories(), few=st.booleans(), listed=st.sampled_from([200, 1]))
def test_any_model_equals_a_full_refresh_after_any_changes(
    small: SparkSession, model: Model, states: list[Tables], few: bool, listed: int
) -> None:
    note(model.sql)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cached_rows, "_MAX_LISTED_VALUES", listed)
        assert_incremental_equals_full(small, model, states, MAX_LOCAL_ROWS if few else 0)


@settings(
    max_examples=int(RANDOM or 4),
    deadline=None,
    derandomize=RANDOM is None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(model=grammar.models(), states=histories())
def test_any_model_gives_in_one_query_the_rows_of_each_state(
    small: SparkSession, model: Model, states: list[Tables]
) -> None:
    note(model.sql)
    plan = plan_model("gold.m", model.sql, model.keys, "gold/m.sql", grammar.KEYS)
    names = {relation: f"_states_of_{relation.replace('.', '_')}" for relation in plan.inputs}
    for relation, name in names.items():
        of_states = [frame(small, relation, tables[relation]) for tables in states]
        numbered = [rows.withColumn(STATE, F.lit(number)) for number, rows in enumerate(of_states)]
        reduce(DataFrame.unionAll, numbered).createOrReplaceTempView(name)
    found = [row.asDict() for row in small.sql(with_states(plan.sql_with_names(names))).collect()]
    for number, tables in enumerate(states):
        rows = [{k: v for k, v in row.items() if k != STATE} for row in found if row[STATE] == number]
        expected = full_rows(small, plan, tables)
        has_groups = any(tables[relation] for relation in plan.inputs)  # without rows, a total has no state
        assert count_rows(rows) == count_rows(expected if has_groups or rows else [])
