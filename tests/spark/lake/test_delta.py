"""Tests access to Delta tables: their current version by files and by Spark, and the errors of an unreadable feed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse.lake import delta
from lakehouse.spark.session import SPARK_ERRORS, isolated_session
from lakehouse.storage import delta_log
from lakehouse.storage.delta_files import DataFile

PROGRESS = {"sequence": 7}


def operations(spark: SparkSession, table: str) -> list[Callable[[], object]]:
    """Return operations on a table, of one or two commits each."""
    rows, own = spark.range(20).selectExpr("id", "id % 3 AS part"), spark.newSession()

    def merge() -> None:
        with delta.commit_metadata(own, PROGRESS):
            target = delta.table(own, table).alias("t")
            target.merge(own.range(5, 30).alias("s"), "t.id = s.id").whenMatchedDelete().execute()

    return [
        lambda: delta.create(spark, table, rows, delta.table_properties(True)),
        merge,
        lambda: delta.append(table, rows, userMetadata="not of this project, and no JSON"),
        lambda: delta.record_progress(own, table, PROGRESS | {"sequence": 8}),
        lambda: spark.sql(f"OPTIMIZE {delta.sql_name(table)}"),
        lambda: spark.sql(f"ALTER TABLE {delta.sql_name(table)} ADD COLUMNS (more STRING)"),
        lambda: delta.table(spark, table).delete("id = 3"),
        lambda: delta.table(spark, table).restoreToVersion(2),
        lambda: delta.create(spark, table, rows.limit(3), delta.table_properties(False), "overwrite"),
    ]


def test_log_files_and_spark_give_the_same_version(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table"
    assert delta.current_version(spark, str(table)) is None
    for operation in operations(spark, str(table)):
        operation()
        by_files = delta_log.read_current_version(table)
        with monkeypatch.context() as patch:
            patch.setattr(delta_log, "read_current_version", lambda _: None)
            by_spark = delta.current_version(spark, str(table))
        assert by_spark is not None
        if by_spark.commits[0].operation == "RESTORE":
            assert by_files is None  # it has no checksum file
            continue
        assert by_files is not None
        assert (by_files.id, by_files.version, by_files.size) == (by_spark.id, by_spark.version, by_spark.size)
        assert list(by_files.commits) == list(by_spark.commits)
        assert by_files.recorded_progress() == by_spark.recorded_progress()


def test_a_table_is_created_by_its_first_rows_and_empty_before(spark: SparkSession, tmp_path: Path) -> None:
    table = str(tmp_path / "table")

    assert delta.read_or_empty(spark, table, "id BIGINT").collect() == []
    assert delta.read_or_empty(spark, table, "id BIGINT").schema.simpleString() == "struct<id:bigint>"
    delta.create_or_append(spark, table, spark.range(1))
    delta.create_or_append(spark, table, spark.range(1, 2))

    assert sorted(row.id for row in delta.read_or_empty(spark, table, "id BIGINT").collect()) == [0, 1]


# --- the Change Data Feed ---------------------------------------------------------------------------------------------


def error_classes(spark: SparkSession) -> set[str]:
    """Return the names of all error classes of Spark and Delta, from the lists that the session's JVM has."""
    jvm = spark._jvm
    assert jvm is not None
    loader, names = jvm.java.lang.Thread.currentThread().getContextClassLoader(), set[str]()
    for resource in ("error/error-conditions.json", "error/delta-error-classes.json"):
        stream = loader.getResourceAsStream(resource)
        names |= json.loads(jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8")).keys()
    return names


def test_every_error_of_an_unreadable_feed_is_an_error_class(spark: SparkSession) -> None:
    known = error_classes(spark)
    assert {"FAILED_READ_FILE", "DELTA_VERSION_NOT_FOUND"} <= known, "the lists of Spark and of Delta"

    classes = [name for name in delta.UNREADABLE_FEED_ERRORS if name.isupper()]

    assert [name for name in classes if not any(other.startswith(name) for other in known)] == []


def test_a_gap_in_the_log_makes_the_feed_unreadable(spark: SparkSession, tmp_path: Path) -> None:
    table = tmp_path / "table"
    delta.create(spark, str(table), spark.range(1), delta.table_properties(False))
    for n in range(1, 12):  # a checkpoint is written with version 10, so that the table itself stays readable
        delta.append(str(table), spark.range(n, n + 1))
    (table / "_delta_log" / f"{2:020d}.json").unlink()

    assert delta.read(spark.newSession(), str(table)).count() == 12
    with pytest.raises(SPARK_ERRORS) as raised:
        delta.read_change_feed(spark.newSession(), str(table), after=0, until=4).collect()

    assert delta.is_feed_unreadable(raised.value), raised.value


def test_a_missing_table_is_no_unreadable_feed(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(SPARK_ERRORS) as raised:
        delta.read_change_feed(spark, str(tmp_path / "nothing"), after=0, until=1).collect()

    assert not delta.is_feed_unreadable(raised.value), raised.value


def test_a_change_feed_keeps_days_that_the_julian_calendar_lacks(spark: SparkSession, tmp_path: Path) -> None:
    table, kinds = str(tmp_path / "table"), "id INT, day DATE, at TIMESTAMP, local TIMESTAMP_NTZ"
    days = ["0001-01-01", "1582-10-04", "1582-10-05", "1582-10-14", "1582-10-15", "1900-01-01", "9999-12-31"]
    texts = [(n, day, f"{day} 12:30:00.000001") for n, day in enumerate(days)]
    rows = spark.createDataFrame(texts, "id INT, day STRING, at STRING").selectExpr(
        "id", "CAST(day AS DATE)", "CAST(at AS TIMESTAMP)", "CAST(at AS TIMESTAMP_NTZ) AS local"
    )
    delta.create(spark, table, rows, delta.table_properties(True))
    spark.sql(f"UPDATE {delta.sql_name(table)} SET id = id + 10 WHERE day < DATE '1582-10-15'")

    feed = delta.read_change_feed(spark, table, -1, 1).where("_change_type <> 'update_preimage'")

    columns = [f"CAST({name.split()[0]} AS STRING)" for name in kinds.split(", ")[1:]]
    found = {tuple(row) for row in feed.selectExpr(*columns).collect()}
    assert found == {tuple(row) for row in rows.selectExpr(*columns).collect()}
    assert len(found) == len(days)


@pytest.mark.parametrize("kind", ["TIMESTAMP_NTZ", "ARRAY<STRUCT<at: TIMESTAMP_NTZ>>"])
def test_a_table_that_exists_gets_columns_without_a_time_zone(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    added, replaced = str(tmp_path / "added"), str(tmp_path / "replaced")
    rows = spark.sql(f"SELECT 1 AS id, CAST(NULL AS {kind}) AS at")
    for table in (added, replaced):
        delta.create(spark, table, rows.drop("at"), {})

    delta.add_new_columns(spark, added, rows.schema)
    delta.create(spark, replaced, rows, {}, "overwrite")

    for table in (added, replaced):
        assert delta.schema(spark, table).simpleString() == rows.schema.simpleString()
        delta.append(table, rows)
        assert delta.read(spark, table).count() == 2


def test_only_small_files_are_compacted_however_many_rows_of_others_are_deleted(
    spark: SparkSession, tmp_path: Path
) -> None:
    table, session = str(tmp_path / "table"), isolated_session(spark)
    for start in (0, 100_000):  # two files in the order of the rows
        rows = spark.range(start, start + 100_000, numPartitions=1).selectExpr("id", "hash(id) AS v")
        delta.create_or_append(spark, table, rows)
    delta.enable_deletion_vectors(session, table)
    delta.table(session, table).delete("id % 3 = 0")
    large = {file.path for file in listed_files(table)}
    for number in range(3):
        delta.append(table, spark.range(number, number + 1).selectExpr("id", "0 AS v"))
    before = content_of(spark, table)

    delta.optimize(session, table, min(file.stat().st_size for file in large if isinstance(file, Path)))

    assert len(large) == 2
    assert large < {file.path for file in listed_files(table)}
    assert len(listed_files(table)) == 3
    assert content_of(spark, table) == before


def listed_files(table: str) -> tuple[DataFile, ...]:
    files = delta.data_files(table, with_vectors=True)
    assert files
    return files.listed.files


def content_of(spark: SparkSession, table: str) -> tuple[int, int]:
    row = delta.read(spark, table).selectExpr("count(*) AS rows", "sum(hash(id, v)) AS hashes").collect()[0]
    return row["rows"], row["hashes"]
