"""The identity of a row without a key: equal for equal rows, in Spark and in DuckDB, and different for all others."""

from __future__ import annotations

import math
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from lakehouse.lake.row_id import row_id, row_id_sql
from lakehouse.lake.small_tables import arrow_schema
from lakehouse.schema.table_schema import parse_schema

pytestmark = pytest.mark.usefixtures("spark")

# Of each type: values that all differ.
VALUES: dict[str, list[Any]] = {
    "STRING": ["", "a", "é", "1:a", "null", "true"],
    "BOOLEAN": [True, False],
    "INT": [0, 1, -1, 2**31 - 1],
    "BIGINT": [2**63 - 1, -(2**63), 10, 100],
    "DECIMAL(38,0)": [Decimal(10), Decimal(100), Decimal(10**37)],
    "DECIMAL(12,10)": [Decimal("0"), Decimal("0.0000000001"), Decimal("-0.5"), Decimal("10")],
    "DATE": [date(1, 1, 1), date(1969, 12, 31), date(2025, 2, 28), date(9999, 12, 31)],
    "TIMESTAMP": [
        datetime(1969, 12, 31, 23, 59, 59, 999_999, timezone.utc),
        datetime(2025, 3, 30, 1, 30, tzinfo=timezone.utc),
        datetime(2025, 3, 30, 1, 30, 0, 1, timezone.utc),
    ],
    "TIMESTAMP_NTZ": [datetime(1, 1, 1), datetime(2025, 3, 30, 2, 30, 1, 500_000), datetime(9999, 12, 31, 23, 59, 59)],
    "BINARY": [b"", b"\x00", b"\xff\x00"],
    "DOUBLE": [0.0, 1.5, math.nan, math.inf, -math.inf, 5e-324],
    "FLOAT": [0.0, 1.5, math.nan],
    "ARRAY<INT>": [[], [1], [1, None], [None, 1]],
    "STRUCT<x: INT, y: STRING>": [(None, None), (1, None), (1, "")],
}


def ids(spark: SparkSession, ddl: str, rows: list[tuple[Any, ...]]) -> list[str]:
    schema = parse_schema(ddl)
    frame = spark.createDataFrame(rows, schema).coalesce(1)
    return [row[0] for row in frame.select(row_id(schema)).collect()]


def test_spark_and_duckdb_give_each_row_one_identity(spark: SparkSession) -> None:
    columns = {f"c{n}": kind for n, kind in enumerate(VALUES)}
    ddl = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    # A row for each value, in which all other columns are null, and one without any value.
    rows: list[tuple[Any, ...]] = [(None,) * len(columns)]
    for at, kind in enumerate(VALUES):
        rows += [(*(None,) * at, value, *(None,) * (len(columns) - at - 1)) for value in VALUES[kind]]
    of_spark = ids(spark, ddl, rows)
    assert len(set(of_spark)) == len(rows)
    assert all(len(each) == 32 for each in of_spark)
    zone = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    try:  # the zone of a session makes no difference
        assert ids(spark, ddl, rows) == of_spark
    finally:
        spark.conf.set("spark.sql.session.timeZone", str(zone))

    schema = parse_schema(ddl)
    assert row_id_sql(schema, schema.names) is None  # floating-point numbers are Spark's
    known = T.StructType(
        [f for f in schema if not isinstance(f.dataType, T.FractionalType | T.ArrayType | T.StructType)]
    )
    known = T.StructType([*known, *(f for f in schema if isinstance(f.dataType, T.DecimalType))])
    table = spark.createDataFrame(rows, schema).coalesce(1).select(*known.names).toArrow()
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("r", table.cast(arrow_schema(known)))
        # An instant is a TIMESTAMP in UTC there.
        values = [
            f"({name} AT TIME ZONE 'UTC')" if isinstance(known[name].dataType, T.TimestampType) else name
            for name in known.names
        ]
        found = [row[0] for row in connection.execute(f"SELECT {row_id_sql(known, values)} FROM r").fetchall()]
    shared = [
        n
        for n, row in enumerate(rows)
        if any(v is not None for v, c in zip(row, columns, strict=True) if c in known.names)
    ]
    assert [found[n] for n in shared] == [of_spark[n] for n in shared]


def test_what_makes_no_other_row(spark: SparkSession) -> None:
    before = ids(spark, "a INT, b DECIMAL(5,2), d DOUBLE", [(1, Decimal("1.50"), 0.0), (2, None, math.nan)])
    # Another order, a column that is null, a larger type of the same number, another zero and another NaN.
    again = ids(
        spark,
        "new STRING, d DOUBLE, B DECIMAL(12,4), a BIGINT",
        [(None, -0.0, Decimal("1.5"), 1), (None, -math.nan, None, 2)],
    )
    assert again == before
    assert ids(spark, "a STRING, b STRING", [("x", None)]) != ids(spark, "a STRING, b STRING", [(None, "x")])
