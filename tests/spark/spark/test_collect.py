"""Values that Python may not hold are collected as texts."""

from __future__ import annotations

from datetime import datetime, timezone

from pyspark.sql import SparkSession

from lakehouse.models.expectations.table_rules import _newest_time
from lakehouse.spark.collect import select_collectable

FIRST, LAST = "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"


def test_the_first_and_the_last_instant_are_collected_as_texts(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(1, FIRST), (2, LAST), (3, None)], "id INT, text STRING").selectExpr(
        "id",
        "CAST(text AS TIMESTAMP) AS at",
        "CAST(text AS DATE) AS `a day`",
        "CAST(text AS TIMESTAMP_NTZ) AS local",
        "array(CAST(text AS TIMESTAMP)) AS times",
        "CAST(1.5 AS DECIMAL(3,1)) AS n",
    )

    found = select_collectable(rows, ["id", "at", "a day", "local", "times", "n"]).orderBy("id").collect()

    assert [tuple(row)[:4] for row in found] == [
        (1, FIRST, "0001-01-01", FIRST),
        (2, LAST, "9999-12-31", LAST),
        (3, None, None, None),
    ]
    assert found[0].times == f"[{FIRST}]" and str(found[0].n) == "1.5"


def test_the_newest_time_may_be_the_first_or_the_last_instant(spark: SparkSession) -> None:
    for text, expected in (
        (FIRST, datetime(1, 1, 1, tzinfo=timezone.utc)),
        (LAST, datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc)),
    ):
        rows = spark.createDataFrame([(text,)], "text STRING").selectExpr("CAST(text AS TIMESTAMP) AS at")
        assert _newest_time(rows, "at") == expected
    assert _newest_time(rows.limit(0), "at") is None
