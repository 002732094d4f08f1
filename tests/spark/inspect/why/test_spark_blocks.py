"""The SQL that Spark gets finds the same rows as DuckDB's. Here it is translated, so that no JVM is needed.

`tests/systems/test_why.py` has Spark itself run it.
"""

from __future__ import annotations

import re
from typing import Any, cast

import duckdb
import pyarrow as pa
import pytest
import sqlglot
from pyspark.sql import DataFrame, SparkSession

from lakehouse.inspect.why.spark_blocks import SparkBlocks
from lakehouse.models.sql.plan import plan_model
from lakehouse.models.sql.trace import NUMBER, BlockSql, DuckdbBlocks, NotInDuckdbError, Tracer

KEYS = {"silver.sales": ("id",), "silver.shops": ("shop",)}
SALES = [(1, "a", 5), (2, "a", 7), (3, "b", 1), (4, None, 2), (5, "c", 9), (6, "a", 1)]
FORMS = {
    "row": ("SELECT s.id AS id, s.n AS n FROM silver.sales AS s WHERE s.n > 1", ("id",)),
    "left join": (
        "SELECT s.id AS id, c.city AS c FROM silver.sales s LEFT JOIN silver.shops c ON c.shop = s.shop",
        ("id",),
    ),
    "semi join": (
        "SELECT shop, COUNT(*) AS k FROM silver.sales LEFT SEMI JOIN silver.shops AS c ON c.shop = sales.shop"
        " GROUP BY shop",
        ("shop",),
    ),
    "anti join": ("SELECT s.id AS id FROM silver.sales s LEFT ANTI JOIN silver.shops c ON c.shop = s.shop", ("id",)),
    "totals": (
        "SELECT s.shop AS shop, GROUPING_ID() AS g, SUM(s.n) AS n FROM silver.sales AS s"
        " GROUP BY GROUPING SETS ((s.shop), ())",
        ("shop", "g"),
    ),
    "totals in a CTE": (
        "WITH t AS (SELECT s.shop AS shop, GROUPING_ID() AS g, SUM(s.n) AS n FROM silver.sales AS s"
        " GROUP BY GROUPING SETS ((s.shop), ())) SELECT t.shop AS shop, t.g AS g, t.n AS n FROM t AS t",
        ("shop", "g"),
    ),
    "distinct": (
        "WITH d AS (SELECT DISTINCT s.shop AS shop FROM silver.sales AS s), p AS (SELECT d.shop AS shop, c.city AS city"
        " FROM d AS d JOIN silver.shops AS c ON c.shop = d.shop) SELECT p.city AS city, COUNT(*) AS n"
        " FROM p AS p GROUP BY p.city",
        ("city",),
    ),
    "the row before": (
        "WITH w AS (SELECT s.shop AS shop, s.id AS id, LAG(s.n) OVER (PARTITION BY s.shop ORDER BY s.id) AS b"
        " FROM silver.sales AS s) SELECT w.shop AS shop, w.id AS id, w.b AS b FROM w AS w",
        ("shop", "id"),
    ),
    "a window of its own": (
        "SELECT s.shop AS shop, s.id AS id, SUM(s.n) OVER (PARTITION BY s.shop ORDER BY s.id) AS t"
        " FROM silver.sales AS s",
        ("shop", "id"),
    ),
}


class _Frame:
    """Rows that DuckDB computes in the place of Spark."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, text: str) -> None:
        self._connection, self._text = connection, text

    def createOrReplaceTempView(self, name: str) -> None:
        self._connection.execute(f"CREATE TEMP VIEW {name} AS {self._text}")

    def toArrow(self) -> pa.Table:
        return self._connection.sql(self._text).to_arrow_table()


class _Session:
    """Translates Spark's SQL to DuckDB's."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def sql(self, text: str, args: dict[str, Any]) -> _Frame:
        (translated,) = sqlglot.transpile(re.sub(r"shiftright\((.*?), (\d+)\)", r"(\1 >> \2)", text), "spark", "duckdb")
        return _Frame(self._connection, translated)


@pytest.mark.parametrize("form", FORMS)
def test_both_dialects_find_the_same_rows(form: str) -> None:
    sql, keys = FORMS[form]
    plan = plan_model("gold.m", sql, keys, "m.sql", KEYS)
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA silver; CREATE TABLE silver.sales (id INT, shop VARCHAR, n INT)")
    connection.executemany("INSERT INTO silver.sales VALUES (?, ?, ?)", SALES)
    connection.execute(
        "CREATE TABLE silver.shops AS SELECT * FROM (VALUES ('a', 'x'), ('b', 'x'), ('z', 'y')) t(shop, city)"
    )
    connection.execute(f"CREATE TABLE made AS {sqlglot.transpile(sql, 'spark', 'duckdb')[0]}")
    parts = [part.output for part in plan.blocks[-1].refresh_key]
    columns = [f"{name} AS _why_k{at}" for at, name in enumerate(parts)]
    columns += [f"{name} AS _why_m{at}" for at, name in enumerate(plan.keys)]
    number = f"row_number() OVER (ORDER BY {', '.join(keys)}) AS {NUMBER}"
    connection.execute(f"CREATE TABLE wanted AS SELECT {number}, {', '.join(columns)} FROM made")
    values = [
        [v for (v,) in connection.execute(f"SELECT DISTINCT _why_k{at} FROM wanted").fetchall()]
        for at in range(len(parts))
    ]
    inputs = {name: KEYS[name] for name in plan.inputs}
    frames = {name: cast(DataFrame, _Frame(connection, f"SELECT * FROM {name}")) for name in inputs}

    def found(blocks: BlockSql) -> dict[str, list[tuple[Any, ...]]]:
        traced = Tracer(plan, blocks, inputs).trace("wanted", values, 100)
        rows = {name: blocks.fetch(text).to_pylist() for name, text in traced.items()}  # type: ignore[attr-defined]
        return {name: sorted(tuple(map(str, row.values())) for row in each) for name, each in rows.items() if each}

    by_spark = found(SparkBlocks(cast(SparkSession, _Session(connection)), frames, inputs, {}))

    assert by_spark
    if form == "totals in a CTE":
        with pytest.raises(NotInDuckdbError):
            found(DuckdbBlocks(connection, plan, inputs, {}))
        total = [row for row in by_spark["silver.sales"] if row[1] == "6"]
        assert len(total) == 6
    else:
        assert by_spark == found(DuckdbBlocks(connection, plan, inputs, {}))
