"""A row that the second reader cannot read in all columns is compared in the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from pyspark.sql import SparkSession

from lakehouse.config import Table
from lakehouse.verify.checked_table import nullable_schema
from lakehouse.verify.landed_rows import fill_from_bronze
from lakehouse.verify.second_reader import UNREADABLE

DDL = "id STRING, n INT, day STRING"


def test_only_the_nulls_of_an_unreadable_row_are_filled(spark: SparkSession) -> None:
    config = Table.model_validate({"file": "t.csv", "format": "csv", "schema": DDL, "keys": ["id"]})
    table: Any = SimpleNamespace(config=config, schema=nullable_schema(DDL))
    rows = [("a", None, "x", "a,odd,x"), ("b", None, "y", None), ("c", 3, None, "c,3,odd"), ("d", 1, "z", "d,1,z")]
    bronze = spark.createDataFrame([("a", 1, "other"), ("b", 2, "y"), ("c", 4, "w")], DDL)

    filled = fill_from_bronze(spark.createDataFrame(rows, f"{DDL}, {UNREADABLE} STRING"), bronze, cast(Any, table))

    found = sorted(tuple(row) for row in filled.collect())
    assert found == [("a", 1, "x"), ("b", None, "y"), ("c", 3, "w"), ("d", 1, "z")]
