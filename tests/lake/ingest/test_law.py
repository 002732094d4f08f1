"""The law of the product on JSON and Parquet with history; tests/systems/test_law.py has CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from law import assert_law
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from lakehouse.lake.hashes import hash_columns

pytestmark = pytest.mark.usefixtures("spark")


@pytest.mark.timeout(600)  # wide tables: minutes, where the machine has other things to do
def test_applying_the_change_set_to_the_rows_before_gives_the_snapshot(tmp_path: Path) -> None:
    assert_law(tmp_path, "json", "parquet")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("ARRAY<INT>", [[], [None], [1], [1, None], [None, 1]]),
        ("ARRAY<ARRAY<INT>>", [[[1, 2]], [[1], [2]], [[1, 2], []], [[1, 2], None]]),
        ("STRUCT<x: INT, y: INT>", [None, {"x": None, "y": None}, {"x": 1, "y": None}, {"x": None, "y": 1}]),
    ],
)
def test_nulls_inside_arrays_and_structs_are_values(spark: SparkSession, kind: str, values: list[Any]) -> None:
    ddl = f"id INT, v {kind}"
    fields = T.DataType.fromDDL(ddl)
    assert isinstance(fields, T.StructType)
    frame = spark.createDataFrame(list(enumerate(values)), ddl)
    hashes = {tuple(row) for row in frame.select(hash_columns(["v"], fields, ["a", "b"])).collect()}
    assert len(hashes) == len(values)
