"""A table's head as its files tell it, and as Spark does, after whatever can be done to a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse.lake import delta
from lakehouse.storage import delta_log

OWN = {"sequence": 7}


def done(spark: SparkSession, table: str) -> list[Callable[[], object]]:
    """What is done to a table, one commit or two each."""
    rows, own = spark.range(20).selectExpr("id", "id % 3 AS part"), spark.newSession()

    def merged() -> None:
        with delta.commit_metadata(own, OWN):
            there = delta.table(own, table).alias("t")
            there.merge(own.range(5, 30).alias("s"), "t.id = s.id").whenMatchedDelete().execute()

    return [
        lambda: delta.create(spark, table, rows, delta.table_properties(True)),
        merged,
        lambda: delta.append(table, rows, userMetadata="not ours, and no JSON"),
        lambda: delta.record_progress(own, table, OWN | {"sequence": 8}),
        lambda: spark.sql(f"OPTIMIZE {delta.sql_name(table)}"),
        lambda: spark.sql(f"ALTER TABLE {delta.sql_name(table)} ADD COLUMNS (more STRING)"),
        lambda: delta.table(spark, table).delete("id = 3"),
        lambda: delta.table(spark, table).restoreToVersion(2),
        lambda: delta.create(spark, table, rows.limit(3), delta.table_properties(False), "overwrite"),
    ]


def test_files_tell_what_spark_does(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "table"
    assert delta.current_version(spark, str(table)) is None
    for step in done(spark, str(table)):
        step()
        told = delta_log.read_current_version(table)
        with monkeypatch.context() as patch:
            patch.setattr(delta_log, "read_current_version", lambda _: None)
            asked = delta.current_version(spark, str(table))
        assert asked is not None
        if asked.commits[0].operation == "RESTORE":
            assert told is None  # it has no checksum file
            continue
        assert told is not None
        assert (told.id, told.version, told.size) == (asked.id, asked.version, asked.size)
        assert list(told.commits) == list(asked.commits)
        assert told.recorded_progress() == asked.recorded_progress()
