"""The session that a process works in for long, on many tables."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import SparkSession


def test_of_the_tables_a_session_has_seen_it_remembers_a_hundred(spark: SparkSession, tmp_path: Path) -> None:
    """Each is megabytes of a heap of 3 GB, and Delta by itself would keep 10,000."""
    delta = spark._jvm.org.apache.spark.sql.delta  # type: ignore[union-attr]
    for number in range(120):
        delta.DeltaLog.forTable(spark._jsparkSession, str(tmp_path / str(number)))

    remembered: int = getattr(getattr(delta, "DeltaLog$"), "MODULE$").cacheSize()  # a Scala object's only instance
    assert 50 < remembered <= 100  # the cache is in parts, each with a bound of its own


def test_a_join_with_a_few_rows_takes_one_megabyte_of_it(spark: SparkSession) -> None:
    environment = spark._jvm.org.apache.spark.SparkEnv.get()  # type: ignore[union-attr]
    assert environment.memoryManager().pageSizeBytes() == 1 << 20
