"""A defect of an expression of Spark is told from one of Spark's other code."""

from __future__ import annotations

from typing import Any

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from lakehouse.spark.faults import read_fault
from lakehouse.spark.session import SPARK_ERRORS

DEFECTS = {  # expressions over n (0, 1, 2), by the class of Java's exception and Spark's name of the expression
    "array_sort(array(1, nullif(n, 0)), (x, y) -> y - x)": "NullPointerException in Spark's ArraySort",
    "array_sort(array(1, 2, NULL), (x, y) -> y - x)": "NullPointerException in Spark's ArraySort",
    "array_sort(array(named_struct('a', n), NULL), (x, y) -> y.a - x.a)": "NullPointerException in Spark's ArraySort",
    "schema_of_csv('')": "AssertionError in Spark's SchemaOfCsvEvaluator: assertion failed",
}
ON_PURPOSE = {  # by the class of the exception, which is no defect
    "bround(n + 0.5D, 2147483647)": "java.lang.ArithmeticException",
    "substring_index(CAST(n AS STRING), 'x', -2147483648 + n)": "java.lang.NegativeArraySizeException",
    "format_string('%d', CAST(n AS STRING))": "java.util.IllegalFormatConversionException",
    "sequence(5, n, 1)": "",
}


def fault_of(spark: SparkSession, expression: str) -> Any:
    with pytest.raises(SPARK_ERRORS) as raised:
        rows = spark.range(3).selectExpr("CAST(id AS INT) AS n").repartition(1)
        rows.selectExpr(f"{expression} AS x").write.format("noop").mode("overwrite").save()
    return read_fault(raised.value)


@pytest.mark.parametrize("expression", DEFECTS)
def test_a_defect_of_an_expression_is_not_one_of_the_environment(spark: SparkSession, expression: str) -> None:
    fault = fault_of(spark, expression)

    assert (fault.is_defect, fault.kind) == (False, None)
    assert fault.message.startswith(DEFECTS[expression])
    assert fault.expression and fault.name == fault.message.split()[0]


@pytest.mark.parametrize("expression", ON_PURPOSE)
def test_an_exception_that_a_value_raises_on_purpose_is_none(spark: SparkSession, expression: str) -> None:
    fault = fault_of(spark, expression)

    assert (fault.is_defect, fault.expression) == (False, "")
    assert fault.java_class == ON_PURPOSE[expression] or fault.condition


def test_a_defect_outside_expressions_stays_one(spark: SparkSession) -> None:
    objects: Any = spark._jvm.java.util.Objects  # type: ignore[union-attr]
    with pytest.raises(Py4JJavaError) as raised:
        objects.requireNonNull(None)

    fault = read_fault(raised.value)

    assert (fault.is_defect, fault.java_class) == (True, "java.lang.NullPointerException")
