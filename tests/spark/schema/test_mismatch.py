"""Tests how the schema of a table is compared with the one that it is expected to have."""

from __future__ import annotations

from pyspark.sql import types as T

from lakehouse.schema.mismatch import schema_mismatches

FOUND = T.StructType().add("id", T.IntegerType()).add("name", T.StringType()).add("price", T.DecimalType(10, 2))


def test_equal_schemas_have_no_mismatch() -> None:
    assert schema_mismatches(FOUND, FOUND) == []


def test_columns_that_are_only_declared_are_no_mismatch() -> None:
    assert schema_mismatches(FOUND, T.StructType([*FOUND, T.StructField("added", T.DateType())])) == []


def test_the_order_of_columns_and_their_nullability_are_no_mismatch() -> None:
    reordered = T.StructType([T.StructField(f.name, f.dataType, False) for f in reversed(FOUND.fields)])
    assert schema_mismatches(FOUND, reordered) == []


def test_missing_and_retyped_columns_are_reported_in_the_order_of_the_table() -> None:
    declared = T.StructType().add("price", T.DecimalType(12, 2)).add("id", T.LongType())
    assert schema_mismatches(FOUND, declared) == [
        "id: int is now bigint",
        "name is gone",
        "price: decimal(10,2) is now decimal(12,2)",
    ]
