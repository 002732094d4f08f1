"""Tests that a declared schema is what Spark parses, though no JVM is started for it."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from lakehouse.schema.table_schema import parse_schema

DDL = [
    "id STRING NOT NULL, qty INTEGER, price DEC(12,2) COMMENT 'BRL', `v 1` NUMERIC, seen TIMESTAMP_LTZ, raw BINARY",
    "tags ARRAY<STRING>, deep array<array<decimal(4, 1)>>",
    "maker STRUCT<id: STRING, `a, b`: INT, city STRING NOT NULL>, from STRUCT<select: DATE>",
    "lines ARRAY<STRUCT<`x>y`: ARRAY<STRUCT<z: TIMESTAMP_NTZ NOT NULL>>, `b``c`: REAL>>",
]


@pytest.mark.parametrize("ddl", DDL)
def test_the_schema_is_what_spark_parses_with_everything_nullable(spark: SparkSession, ddl: str) -> None:
    parsed = T.DataType.fromDDL(ddl.replace(" NOT NULL", ""))
    assert isinstance(parsed, T.StructType)
    assert parse_schema(ddl) == T.StructType([T.StructField(field.name, field.dataType) for field in parsed])


def test_nested_types_need_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(ddl: str) -> T.DataType:
        raise AssertionError("a session would be needed")

    monkeypatch.setattr(T.DataType, "fromDDL", refuse)
    fields = T.StructType([T.StructField("a, b", T.IntegerType()), T.StructField("c", T.DateType())])
    assert parse_schema("tags ARRAY<STRUCT<`a, b`: INT NOT NULL, c DATE>>") == T.StructType(
        [T.StructField("tags", T.ArrayType(fields))]
    )
