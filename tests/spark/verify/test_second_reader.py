"""The second reader of `verify` knows the notations that `ingest` reads."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.verify import second_reader
from lakehouse.verify.checked_table import CheckedTable


def checked(schema: str) -> CheckedTable:
    config = Table.model_validate({"file": "t.csv", "format": "csv", "schema": schema, "keys": ["k"]})
    return cast(CheckedTable, SimpleNamespace(config=config, pipeline=SimpleNamespace(timezone="UTC")))


@pytest.mark.parametrize("kind", [T.DoubleType(), T.FloatType()])
def test_numbers_that_are_not_finite_are_parsed_in_every_spelling(spark: SparkSession, kind: T.DataType) -> None:
    """A key `inf` in quarantine keeps its row in bronze: verify has to find that key."""
    spellings: dict[str, Any] = {"inf": math.inf, "+Infinity": math.inf, "-INF": -math.inf, "-infinity": -math.inf}
    spellings |= {"1.5": 1.5, "-0.0": 0.0, "x": None, "infinite": None}
    rows = spark.createDataFrame([(text,) for text in [*spellings, "NaN", "nan"]], "text STRING")

    parsed = second_reader.parse_text(checked("k DOUBLE"), T.StructField("k", kind), F.col("text"))
    found = {row[0]: row[1] for row in rows.select("text", parsed).collect()}

    assert math.isnan(found.pop("NaN")) and math.isnan(found.pop("nan"))
    assert found == spellings


def test_an_empty_field_of_binary_is_no_bytes_and_a_blank_one_null(spark: SparkSession) -> None:
    field = T.StructField("k", T.BinaryType())
    rows = spark.createDataFrame([(second_reader._EMPTY_TEXT,), (None,), ("a",)], "k STRING")

    value = second_reader._value_column(checked("k BINARY"), field, True)
    found = [row[0] for row in rows.select(F.col("k").cast("binary").alias("k")).select(value).collect()]

    assert found == [b"", None, b"a"]
