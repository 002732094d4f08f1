"""What a session that lives long and works on many tables costs, and the Java that a session may have."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.errors import ConfigError
from lakehouse.spark.session import SMALL_DATA_SETTINGS, get_session, isolated_session, prepare_for
from lakehouse.storage.paths import Lake


def test_a_session_caches_the_state_of_a_hundred_tables(spark: SparkSession, tmp_path: Path) -> None:
    """Each takes megabytes of a heap of 3 GB, and Delta's default is 10,000 tables."""
    delta = spark._jvm.org.apache.spark.sql.delta  # type: ignore[union-attr]
    for number in range(120):
        delta.DeltaLog.forTable(spark._jsparkSession, str(tmp_path / str(number)))

    cached: int = getattr(getattr(delta, "DeltaLog$"), "MODULE$").cacheSize()  # a Scala object's only instance
    assert 50 < cached <= 100  # the cache has several parts, each with its own limit


def test_a_session_for_small_data_gets_other_settings_if_the_data_turns_out_to_be_large(spark: SparkSession) -> None:
    isolated = isolated_session(spark, 1 << 20)
    default = {key: spark.conf.get(key) for key in SMALL_DATA_SETTINGS}

    prepare_for(isolated, 2 << 20)
    assert {key: isolated.conf.get(key) for key in SMALL_DATA_SETTINGS} == SMALL_DATA_SETTINGS
    prepare_for(isolated, 100 << 30)
    assert {key: isolated.conf.get(key) for key in SMALL_DATA_SETTINGS} == default != SMALL_DATA_SETTINGS
    assert isolated.conf.get("spark.sql.shuffle.partitions") == "800"  # of 128 MB


def test_a_join_with_few_rows_uses_one_megabyte(spark: SparkSession) -> None:
    environment = spark._jvm.org.apache.spark.SparkEnv.get()  # type: ignore[union-attr]
    assert environment.memoryManager().pageSizeBytes() == 1 << 20


def test_an_expression_does_not_cost_calls_for_its_place_in_the_code(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    column, calls = F.col("a"), list[str]()
    client = spark.sparkContext._gateway._gateway_client  # type: ignore[union-attr]
    send = client.send_command

    def send_and_count(command: str, *arguments: object, **options: object) -> object:
        calls.append(command)
        return send(command, *arguments, **options)

    monkeypatch.setattr(client, "send_command", send_and_count)
    column.isNull()

    assert len([call for call in calls if not call.startswith("m\n")]) == 1  # the others free objects


def test_a_session_of_a_java_that_damages_files_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    system = spark._jvm.System  # type: ignore[union-attr]
    version = system.getProperty("java.version")
    system.setProperty("java.version", "25.0.1")
    try:
        with pytest.raises(ConfigError, match=r"Java 25\.0\.1 can damage the Parquet files"):
            get_session(Lake(str(tmp_path)), "refused")
    finally:
        system.setProperty("java.version", version)
