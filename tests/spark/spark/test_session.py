"""The memory of a session that lives long and works on many tables."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import SparkSession


def test_a_session_caches_the_state_of_a_hundred_tables(spark: SparkSession, tmp_path: Path) -> None:
    """Each takes megabytes of a heap of 3 GB, and Delta's default is 10,000 tables."""
    delta = spark._jvm.org.apache.spark.sql.delta  # type: ignore[union-attr]
    for number in range(120):
        delta.DeltaLog.forTable(spark._jsparkSession, str(tmp_path / str(number)))

    cached: int = getattr(getattr(delta, "DeltaLog$"), "MODULE$").cacheSize()  # a Scala object's only instance
    assert 50 < cached <= 100  # the cache has several parts, each with its own limit


def test_a_join_with_few_rows_uses_one_megabyte(spark: SparkSession) -> None:
    environment = spark._jvm.org.apache.spark.SparkEnv.get()  # type: ignore[union-attr]
    assert environment.memoryManager().pageSizeBytes() == 1 << 20
