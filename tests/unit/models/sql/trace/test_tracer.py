"""The rows that a trace finds make the row: random models, computed in DuckDB from these rows alone, have it again."""

from __future__ import annotations

import re
from typing import Any

import duckdb
import grammar
import pyarrow as pa
import sqlglot
from grammar import KEYS, Tables
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from sqlglot.errors import SqlglotError

from lakehouse.lake.duckdb_sql import quote
from lakehouse.models.sql.plan import Plan, plan_model
from lakehouse.models.sql.trace import NUMBER, TOTAL, DuckdbBlocks, NotInDuckdbError, Tracer

_TYPES = {"INT": pa.int32(), "DATE": pa.date32(), "STRING": pa.string()}


def arrow_rows(relation: str, rows: list[dict[str, Any]]) -> pa.Table:
    fields = []
    for name, kind in re.findall(r"(\w+) ([A-Z]+(?:\(\d+,\d+\))?)", grammar.DDL[relation]):
        numbers = [int(n) for n in re.findall(r"\d+", kind)]
        fields.append(pa.field(name, pa.decimal128(*numbers) if numbers else _TYPES[kind]))
    return pa.Table.from_pylist(rows, pa.schema(fields))


def open_tables(tables: Tables) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for relation, rows in tables.items():
        layer, _, name = relation.partition(".")
        connection.register(f"_{name}", arrow_rows(relation, rows))
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {layer}")
        connection.execute(f"CREATE TABLE {layer}.{name} AS SELECT * FROM _{name}")
    return connection


def computed(plan: Plan, tables: Tables) -> list[dict[str, Any]]:
    """Return the rows of a model, by DuckDB."""
    (text,) = sqlglot.transpile(plan.sql, read="spark", write="duckdb")
    found = open_tables(tables).sql(text).to_arrow_table()
    return found.to_pylist()


def traced(plan: Plan, tables: Tables, row: dict[str, Any], rows: list[dict[str, Any]]) -> Tables:
    """Return the rows of the inputs that made a row."""
    connection = open_tables(tables)
    names = [part.output for part in plan.blocks[-1].refresh_key]
    at = rows.index(row)
    (text,) = sqlglot.transpile(plan.sql, read="spark", write="duckdb")
    connection.execute(f"CREATE TABLE made AS {text}")
    same = " AND ".join(f"{quote(key)} IS NOT DISTINCT FROM $k{n}" for n, key in enumerate(plan.keys))
    columns = [f"{quote(name)} AS _why_k{n}" for n, name in enumerate(names)]
    columns += [f"{quote(key)} AS _why_m{n}" for n, key in enumerate(plan.keys)]
    connection.execute(
        f"CREATE TABLE wanted AS SELECT {at} AS {NUMBER}, {', '.join(columns)} FROM made WHERE {same}",
        {f"k{n}": row[key] for n, key in enumerate(plan.keys)},
    )
    keys = {relation: KEYS[relation] for relation in plan.inputs}
    sql = DuckdbBlocks(connection, plan, keys, {})
    found = Tracer(plan, sql, keys).trace("wanted", [[row[name]] for name in names], 1000)
    ids: dict[str, set[int]] = {}
    for relation, query in found.items():
        result = sql.fetch(query).to_pylist()
        assert {each[NUMBER] for each in result} <= {at}
        assert all(each[TOTAL] == len(result) for each in result)
        ids[relation] = {each["k0"] for each in result}
    return {relation: [r for r in rows if r["id"] in ids.get(relation, set())] for relation, rows in tables.items()}


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_a_random_model_over_only_these_rows_has_the_row_again(data: st.DataObject) -> None:
    model, tables = data.draw(grammar.models()), data.draw(grammar.tables())
    plan = plan_model("gold.m", model.sql, model.keys, "m.sql", KEYS)
    assume(plan.blocks)
    try:
        rows = computed(plan, tables)
    except (duckdb.Error, SqlglotError):
        assume(False)
    keys = [tuple(row[key] for key in plan.keys) for row in rows]
    candidates = [row for row, key in zip(rows, keys, strict=True) if keys.count(key) == 1]
    assume(candidates)
    row = data.draw(st.sampled_from(candidates))
    try:
        found = traced(plan, tables, row, rows)
    except NotInDuckdbError:
        event("left to Spark")
        assume(False)
    event(plan.strategy)
    again = computed(plan, found)
    key = [row[name] for name in plan.keys]
    assert [each for each in again if [each[name] for name in plan.keys] == key] == [row], (found, plan.sql)
