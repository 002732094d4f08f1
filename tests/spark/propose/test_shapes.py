"""Spark reads dates by the patterns that `init` proposes, as the same times that DuckDB proved."""

from __future__ import annotations

import re
from datetime import datetime

import duckdb
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.propose.shapes import date_form, spark_pattern, strptime_formats

DAY_FIRST = [
    ["31/12/2024", "01/02/2025"],
    ["31-12-2024", "1-2-2025"],
    ["31.12.24", "01.02.25"],
    ["31/12/2024 10:00", "01/02/2025 23:59:59", "02/02/2025", "02/02/2025 10:00:00.5", "02/02/2025 10:00:00.123456"],
    ["31/12/2024 9:05", "01/02/2025 10:05"],
    ["31/12/2024T10:00:00", "01/02/2025 10:00:00"],
    ["31/12/2024 09:05 PM", "01/02/2025 10:05 AM"],
    ["31/12/2024 9:05:07 pm", "01/02/2025 10:05:07 AM"],
    ["31/12/2024 10:00:00+03:00", "01/02/2025 10:00:00Z"],
    ["31/12/2024 10:00:00-0300", "01/02/2025 10:00:00+0000"],
    ["2024/12/31", "2025/02/01"],
    ["2024.1.2 10:00", "2025.10.20 10:00"],
]
MONTH_FIRST = [["12/31/2024", "02/01/2025"], ["12/31/2024 11:59 PM", "2/1/2025 1:00 AM"]]


def test_spark_reads_the_proposed_patterns(spark: SparkSession) -> None:
    cases = [(values, True) for values in DAY_FIRST] + [(values, False) for values in MONTH_FIRST]
    for values, day_first in cases:
        forms = [date_form(re.sub(r"\d", "9", value)) for value in values]
        assert all(forms), values
        known = [form for form in forms if form]
        pattern = spark_pattern(known, day_first)
        formats = [strptime_formats(form, day_first) for form in known]
        proved = [
            duckdb.execute(
                "SELECT try_strptime(regexp_replace(?, 'Z$', '+00:00'), ?)::TIMESTAMP", [value, formats]
            ).fetchone()
            for value in values
        ]

        text = spark.createDataFrame([(n, value) for n, value in enumerate(values)], "n INT, value STRING")
        parsed = text.orderBy("n").select(F.try_to_timestamp("value", F.lit(pattern)).cast("timestamp_ntz")).collect()

        assert [row[0] for row in parsed] == [row and row[0] for row in proved], pattern
        assert None not in [row[0] for row in parsed], pattern


@pytest.mark.parametrize(
    ("pattern", "values"),
    [
        ("[yyyyMMdd][dd/MM/yyyy][yyyy-MM-dd]", ["20250131", "31/01/2025", "2025-01-31"]),
        (
            "[dd/MM/yyyy[ HH:mm]][yyyy-MM-dd['T'HH:mm:ss[XXX]]]",
            ["31/01/2025 00:00", "2025-01-31T00:00:00Z", "2025-01-31"],
        ),
    ],
)
def test_spark_reads_patterns_of_several_forms_in_this_order(
    spark: SparkSession, pattern: str, values: list[str]
) -> None:
    text = spark.createDataFrame([(value,) for value in values], "value STRING")

    parsed = text.select(F.try_to_timestamp("value", F.lit(pattern)).cast("timestamp_ntz")).distinct().collect()

    assert [row[0] for row in parsed] == [datetime(2025, 1, 31)]
