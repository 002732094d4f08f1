"""The memory of a session that lives long and works on many tables, and the Java that a session may have."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse.errors import ConfigError
from lakehouse.spark.session import get_session
from lakehouse.storage.paths import Lake


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


def test_a_session_of_a_java_that_damages_files_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    system = spark._jvm.System  # type: ignore[union-attr]
    version = system.getProperty("java.version")
    system.setProperty("java.version", "25.0.1")
    try:
        with pytest.raises(ConfigError, match=r"Java 25\.0\.1 can damage the Parquet files"):
            get_session(Lake(str(tmp_path)), "refused")
    finally:
        system.setProperty("java.version", version)
