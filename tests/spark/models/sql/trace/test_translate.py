"""Expressions that DuckDB computes in the place of Spark have the same values in both."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal

import duckdb
import sqlglot
from pyspark.sql import SparkSession

from lakehouse.models.sql.trace.translate import Scope, Typed, translate
from lakehouse.spark.session import isolated_session, local_frame

DDL = "n INT, i INT, j BIGINT, s STRING, r STRING, d DATE, e DATE, m DECIMAL(9,2), b BOOLEAN, t TIMESTAMP"
TEXTS = ["", " ", "a", "B", "b ", " tesouro  ipca+", "IPCA", "10", "2025-02-28", "a'b", "a%b", None]
DAYS = [date(2024, 1, 31), date(2024, 2, 29), date(2025, 2, 28), date(1, 1, 1), date(1969, 12, 31), None]
NUMBERS = [0, 1, -1, 7, -7, 2_147_483_647, None]
MONEY = [Decimal("0.00"), Decimal("1.10"), Decimal("-3.33"), None]
TIMES = [datetime(2025, 1, 31, 23, 59, 59, 999999, timezone.utc), datetime(1969, 12, 31, 12, tzinfo=timezone.utc), None]
ROWS = [
    (
        n,
        NUMBERS[n % 7],
        NUMBERS[n // 7 % 7],
        TEXTS[n % 12],
        TEXTS[n // 5 % 12],
        DAYS[n % 6],
        DAYS[n // 6 % 6],
        MONEY[n % 4],
        [True, False, None][n % 3],
        TIMES[n // 2 % 3],
    )
    for n in range(420)
]
EXPRESSIONS = [
    "i = j",
    "i <> m",
    "i <=> j",
    "s < r",
    "s >= 'b '",
    "d <= e",
    "d BETWEEN date_sub(e, 30) AND e",
    "d = '2024-02-29'",
    "NOT (b AND i > 1 OR s IS NULL)",
    "s IN ('a', 'IPCA')",
    "i NOT IN (1, 7)",
    "m > 1.05",
    "CAST(t AS DATE)",
    "CAST(t AS DATE) = d",
    "date_add(d, 28)",
    "add_months(d, 1)",
    "datediff(d, e)",
    "year(d)",
    "month(d) = 2",
    "day(e)",
    "i % 3",
    "j IS NULL OR i IS NOT NULL",
    "coalesce(s, r, '-')",
    "nullif(i, 7)",
    "if(b, s, r)",
    "CASE i WHEN 1 THEN 'x' WHEN 7 THEN s END",
    "CASE WHEN d < e THEN i ELSE 0 END",
    "upper(trim(s))",
    "lower(r)",
    "length(s)",
    "s || '/' || r",
    "concat(s, r)",
    "upper(s) RLIKE '^\\\\s*(TESOURO\\\\s+)?IPCA\\\\+?\\\\s*$'",
    "s RLIKE '(?i)IPCA|b'",
    "regexp_replace(trim(s), '\\\\s+', '_')",
    "regexp_replace(s, '[ a-b]', '')",
    "lag(i) OVER (PARTITION BY b ORDER BY s, n DESC)",
    "lead(s, 2) OVER (PARTITION BY b ORDER BY d DESC, n)",
    "rank() OVER (PARTITION BY b ORDER BY i)",
    "dense_rank() OVER (PARTITION BY b ORDER BY d DESC)",
    "row_number() OVER (PARTITION BY b ORDER BY m, n)",
    "count(i) OVER (PARTITION BY b ORDER BY d)",
    "sum(i) OVER (PARTITION BY s ORDER BY n)",
    "max(d) OVER (PARTITION BY i)",
]


def test_both_compute_the_same(spark: SparkSession) -> None:
    own = isolated_session(spark, 0)
    local_frame(own, DDL, ROWS).createOrReplaceTempView("odd_values")
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    rows = own.table("odd_values").toArrow()
    connection.register("odd_values", rows)
    found = connection.sql("SELECT * FROM odd_values")
    columns = {name: Typed(f'"{name}"', str(kind)) for name, kind in zip(found.columns, found.types, strict=True)}
    scope = Scope({"t": ("t", columns)}, {})
    by_duckdb = [translate(sqlglot.parse_one(text, read="spark"), scope).sql for text in EXPRESSIONS]

    texts = ", ".join(f"{text} AS x{at}" for at, text in enumerate(EXPRESSIONS))
    wanted = own.sql(f"SELECT n, {texts} FROM odd_values").toArrow().to_pylist()
    texts = ", ".join(f"{text} AS x{at}" for at, text in enumerate(by_duckdb))
    computed = connection.sql(f"SELECT n, {texts} FROM odd_values AS t").to_arrow_table().to_pylist()

    by_number = {row["n"]: row for row in computed}
    for at, text in enumerate(EXPRESSIONS):
        different = [
            (row["n"], row[f"x{at}"], by_number[row["n"]][f"x{at}"])
            for row in wanted
            if row[f"x{at}"] != by_number[row["n"]][f"x{at}"]
        ]
        assert different == [], text
