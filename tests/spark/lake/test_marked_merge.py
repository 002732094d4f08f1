"""The driver merges changes into large tables as Delta's MERGE does, and leaves to MERGE what it cannot do."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.tuning import Tuning
from lakehouse.lake import delta, delta_transaction, local_diff, marked_merge, small_tables, table_rows
from lakehouse.lake.merge import ACTION, MergeTarget, WriteResult, create_from_batches, merge_to_match
from lakehouse.spark.session import isolated_session, local_frame, local_rows
from lakehouse.storage import delta_files, delta_log
from lakehouse.storage.delta_files import TableFiles
from tests.spark.lake.test_small_tables import KEYS, SCHEMA, SEEDS, content, feed, random_rows

BY_SPARK = Tuning(small_table_bytes=0)
SMALL = "k INT, v STRING"


def read_in_driver(address: str, fields: T.StructType) -> pa.Table:
    rows = table_rows.find_rows(address, fields)
    assert rows is not None
    batches = rows.batches(list(rows.files), fields)
    return pa.Table.from_batches(batches, small_tables.arrow_schema(fields))


def create(
    spark: SparkSession, address: str, schema: str, rows: list[tuple[object, ...]], with_vectors: bool = True
) -> T.StructType:
    """Create a table of several files."""
    fields, _ = local_rows(schema, [])
    frame = local_frame(spark, fields, rows).repartition(3)
    delta.create(spark, address, frame, delta.table_properties(large=with_vectors), "error")
    return fields


@pytest.mark.parametrize("has_vectors", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_driver_and_merge_make_the_same_table_with_the_same_changes(
    spark: SparkSession, tmp_path: Path, seed: int, has_vectors: bool
) -> None:
    rng, session = random.Random(seed), isolated_session(spark, 0)
    by_spark, by_driver = str(tmp_path / "by_spark"), str(tmp_path / "by_driver")
    first = random_rows(rng, 60)
    current = {row[:2]: row for row in first}
    for address in (by_spark, by_driver):
        fields = create(session, address, SCHEMA, first, has_vectors)
    with_vectors = 0
    for step in range(1, 7):
        # Of most files some rows change, so that vectors are written and added to; in one step all of them go, and in
        # one so many that files with vectors are written anew.
        share = {4: 0, 6: 0.2}.get(step, 0.8)
        kept = {key: row for key, row in current.items() if rng.random() < share}
        current = kept if step == 4 else {**kept, **{row[:2]: row for row in random_rows(rng, 12 if step == 5 else 4)}}
        _, wanted = local_rows(SCHEMA, list(current.values()))
        frame = session.createDataFrame(wanted, fields)
        actions = local_diff.row_actions(read_in_driver(by_driver, fields), wanted, KEYS, ACTION)
        target = MergeTarget(session, by_spark, KEYS, is_large=has_vectors, tuning=BY_SPARK)
        result = merge_to_match(target, frame, {"n": step})
        assert result.committed == bool(actions.num_rows)
        if actions.num_rows:
            assert marked_merge.merge(session, by_driver, actions, KEYS, ACTION, {"n": step}, tmp_path / "temp")
        same = content(delta.read(session, by_spark))
        assert content(delta.read(session, by_driver)) == same == content(read_in_driver(by_driver, fields))
        version = delta_log.newest_version(tmp_path / "by_driver")
        assert version == delta_log.newest_version(tmp_path / "by_spark")
        assert content(feed(session, by_driver, version)) == content(feed(session, by_spark, version))
        committed = delta.current_version(session, by_driver)
        assert committed is not None and committed.recorded_progress() == {"n": step}
        with_vectors += (
            "deletionVector" in delta_log.log_file(tmp_path / "by_driver/_delta_log", version, "json").read_text()
        )
        shown = delta.table(session, by_driver).history(1).collect()[0]
        assert shown.operation == "MERGE"
        counts = [shown.operationMetrics[f"numTargetRows{kind}"] for kind in ("Inserted", "Updated", "Deleted")]
        assert WriteResult(*map(int, counts), committed=True) == result
    assert with_vectors >= 3 if has_vectors else not with_vectors
    # Spark goes on with a table that the driver wrote: statistics, vectors and feed are what it expects.
    session.sql(f"OPTIMIZE {delta.sql_name(by_driver)}")
    session.sql(f"REORG TABLE {delta.sql_name(by_driver)} APPLY (PURGE)")
    assert content(delta.read(session, by_driver)) == same
    delta.table(session, by_driver).restoreToVersion(3)
    assert content(delta.read(session, by_driver)) == content(delta.read(session, by_spark, 3))
    counted = delta.read(session, by_driver).where("n > 6 OR k2 IS NULL OR k1 >= 'b'")
    assert content(counted) == content(delta.read(session, by_spark, 3).where("n > 6 OR k2 IS NULL OR k1 >= 'b'"))


def actions_of(*rows: tuple[str, int, str | None]) -> pa.Table:
    kinds, keys, values = zip(*rows, strict=True)
    return pa.table({ACTION: pa.array(kinds), "k": pa.array(keys, pa.int32()), "v": pa.array(values, pa.string())})


def test_a_key_with_two_rows_does_not_hide_one_without(spark: SparkSession, tmp_path: Path) -> None:
    session, table = isolated_session(spark, 0), str(tmp_path / "table")
    create(session, table, SMALL, [(1, "a"), (1, "b")])

    actions = actions_of(("U", 1, "x"), ("U", 2, "y"))
    assert not marked_merge.merge(session, table, actions, ["k"], ACTION, {}, tmp_path / "temp")


def test_files_are_told_apart_however_the_log_lists_them(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, table = isolated_session(spark, 0), str(tmp_path / "table")
    create(session, table, SMALL, [(n, "a") for n in range(9)])
    list_files, times = delta_files.list_files, iter(range(99))

    def list_in_another_order(*arguments: Any) -> TableFiles | None:  # as a checksum does that was written meanwhile
        listed = list_files(*arguments)
        files = sorted(listed.files, key=lambda file: str(file.path), reverse=bool(next(times) % 2)) if listed else ()
        return replace(listed, files=tuple(files)) if listed else None

    monkeypatch.setattr(delta_files, "list_files", list_in_another_order)
    assert marked_merge.merge(session, table, actions_of(("D", 4, None)), ["k"], ACTION, {}, tmp_path / "temp")
    assert sorted(row.k for row in delta.read(session, table).collect()) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_column_may_have_the_name_of_duckdbs_row_numbers(spark: SparkSession, tmp_path: Path) -> None:
    session, table = isolated_session(spark, 0), str(tmp_path / "table")
    create(session, table, "k INT, rowid STRING", [(1, "a"), (2, "b"), (3, "b")])

    actions = actions_of(("U", 1, "x"), ("U", 2, "x"), ("D", 3, None), ("I", 4, None))
    actions = actions.rename_columns([ACTION, "k", "rowid"])
    assert marked_merge.merge(session, table, actions, ["k"], ACTION, {}, tmp_path / "temp")
    assert sorted(map(tuple, delta.read(session, table).collect())) == [(1, "x"), (2, "x"), (4, None)]


def test_values_of_another_type_than_the_columns_are_left_to_merge(spark: SparkSession, tmp_path: Path) -> None:
    session, table = isolated_session(spark, 0), str(tmp_path / "table")
    create(session, table, SMALL, [(1, "a")])
    actions = pa.table({ACTION: ["I"], "k": pa.array([2], pa.int64()), "v": ["b"]})

    assert not marked_merge.merge(session, table, actions, ["k"], ACTION, {}, tmp_path / "temp")
    assert [tuple(row) for row in delta.read(session, table).collect()] == [(1, "a")]


def test_where_the_driver_cannot_commit_the_ordinary_ways_are_taken(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the JVM is called")

    session, table = isolated_session(spark, 0), str(tmp_path / "table")
    monkeypatch.setattr(delta_transaction, "can_commit", lambda *_: False)
    monkeypatch.setattr(delta_transaction, "begin", refuse)
    fields, rows = local_rows(SMALL, [(n, "a") for n in range(9)])
    target = MergeTarget(session, table, ["k"], True, tuning=Tuning(local_rows=0), temp_root=tmp_path / "temp")
    reader = pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches())
    assert create_from_batches(target, reader, fields, rows.num_rows, {"n": 0})
    _, wanted = local_rows(SMALL, [(n, "b") for n in range(2, 11)])
    result = merge_to_match(target, session.createDataFrame(wanted, fields), {"n": 1}, expect_few=True)
    assert result == WriteResult(inserted=2, updated=7, deleted=2, committed=True)
    assert content(delta.read(session, table)) == content(wanted)


def test_the_driver_commits_only_on_one_machine_with_a_jvm(monkeypatch: pytest.MonkeyPatch) -> None:
    def session(master: str, **attributes: object) -> SparkSession:
        return cast(SparkSession, SimpleNamespace(conf=SimpleNamespace(get=lambda *_: master), **attributes))

    local, connect = session("local[2]", _jsparkSession=object()), session("local[2]")
    assert delta_transaction.can_commit(local, "/lake/table")
    assert not delta_transaction.can_commit(connect, "/lake/table")
    assert not delta_transaction.can_commit(session("spark://host:7077", _jsparkSession=object()), "/lake/table")
    assert not delta_transaction.can_commit(local, "s3a://lake/table")
    assert not delta_transaction.can_commit(local, "main.shop.table")
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    assert not delta_transaction.can_commit(local, "/lake/table")


def test_a_file_without_statistics_is_rewritten_not_marked(spark: SparkSession, tmp_path: Path) -> None:
    session, table = isolated_session(spark, 0), str(tmp_path / "table")
    session.conf.set("spark.databricks.delta.stats.collect", "false")
    fields, _ = local_rows(SMALL, [])
    frame = local_frame(session, fields, [(n, "a") for n in range(9)]).coalesce(1)
    delta.create(session, table, frame, delta.table_properties(large=True), "error")

    assert marked_merge.merge(session, table, actions_of(("D", 4, None)), ["k"], ACTION, {}, tmp_path / "temp")
    assert sorted(row.k for row in delta.read(session, table).collect()) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_damaged_file_is_left_to_merge_and_the_threads_session_stays(spark: SparkSession, tmp_path: Path) -> None:
    session, table = isolated_session(spark, 0), str(tmp_path / "table")
    create(session, table, SMALL, [(1, "a"), (2, "b")])
    active = SparkSession.getActiveSession()
    assert marked_merge.merge(session, table, actions_of(("U", 1, "x")), ["k"], ACTION, {}, tmp_path / "temp")
    after = SparkSession.getActiveSession()
    assert active is not None and after is not None and active._jsparkSession.equals(after._jsparkSession)
    for file in (tmp_path / "table").glob("*.parquet"):
        footer = file.stat().st_size - 200
        with file.open("r+b") as content:  # rows, not the footer that says what is in the file
            content.seek(4)
            content.write(bytes(min(footer, 40)))

    assert not marked_merge.merge(session, table, actions_of(("U", 2, "y")), ["k"], ACTION, {}, tmp_path / "temp")
    assert delta_log.newest_version(tmp_path / "table") == 1
    assert not list((tmp_path / "temp").iterdir())


NOT_A_DIFFERENCE = {
    "a key to update that is not there": [("U", 7, "x")],
    "a key to delete that is not there": [("D", 1, None), ("D", 7, None)],
    "a key to insert that is there": [("I", 1, "x")],
}


@pytest.mark.parametrize("case", NOT_A_DIFFERENCE)
def test_actions_that_are_no_difference_are_left_to_merge(spark: SparkSession, tmp_path: Path, case: str) -> None:
    session, table = isolated_session(spark, 0), str(tmp_path / "table")
    create(session, table, SMALL, [(1, "a"), (2, "b")])

    assert not marked_merge.merge(
        session, table, actions_of(*NOT_A_DIFFERENCE[case]), ["k"], ACTION, {}, tmp_path / "temp"
    )
    assert delta_log.newest_version(tmp_path / "table") == 0


def foreign_states(spark: SparkSession, table: str) -> dict[str, Callable[[], object]]:
    name = delta.sql_name(table)
    set_property = f"ALTER TABLE {name} SET TBLPROPERTIES"
    return {
        "row tracking": lambda: spark.sql(f"{set_property} ('delta.enableRowTracking' = 'true')"),
        "no feed": lambda: spark.sql(f"{set_property} ('delta.enableChangeDataFeed' = 'false')"),
        "a mapped column": lambda: spark.sql(f"{set_property} ('delta.columnMapping.mode' = 'name')"),
        "a constraint": lambda: spark.sql(f"ALTER TABLE {name} ADD CONSTRAINT short CHECK (length(v) < 3)"),
        "appendOnly": lambda: spark.sql(f"{set_property} ('delta.appendOnly' = 'true')"),
        "another column": lambda: spark.sql(f"ALTER TABLE {name} ADD COLUMNS (more INT)"),
    }


@pytest.mark.parametrize("case", foreign_states(None, "/t"))  # type: ignore[arg-type]
def test_tables_that_only_merge_can_write_are_left_to_it(spark: SparkSession, tmp_path: Path, case: str) -> None:
    session, table = isolated_session(spark, 0), str(tmp_path / "table")
    create(session, table, SMALL, [(1, "a"), (2, "b")])
    foreign_states(session, table)[case]()
    before = delta_log.newest_version(tmp_path / "table")

    assert not marked_merge.merge(session, table, actions_of(("D", 1, None)), ["k"], ACTION, {}, tmp_path / "temp")
    assert delta_log.newest_version(tmp_path / "table") == before


def test_a_commit_in_the_meantime_leaves_the_work_to_merge(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, table = isolated_session(spark, 0), str(tmp_path / "table")
    create(session, table, SMALL, [(1, "a"), (2, "b")])
    find_rows = marked_merge._find_rows

    def find_and_delete(*args: object) -> None:
        find_rows(*args)  # type: ignore[arg-type]
        delta.table(spark, table).delete("k = 2")

    monkeypatch.setattr(marked_merge, "_find_rows", find_and_delete)

    assert not marked_merge.merge(session, table, actions_of(("U", 1, "x")), ["k"], ACTION, {}, tmp_path / "temp")
    assert [tuple(row) for row in delta.read(spark, table).collect()] == [(1, "a")]


def stats_of(table: Path) -> dict[str, Any]:
    listed = delta.data_files(str(table))
    assert listed is not None
    (file,) = listed.listed.files
    stats: dict[str, Any] = json.loads(file.action["add"]["stats"], parse_float=str)
    return stats


def test_files_are_found_by_the_statistics_of_the_driver_as_by_deltas(spark: SparkSession, tmp_path: Path) -> None:
    session, by_driver, by_spark = isolated_session(spark, 0), tmp_path / "by_driver", tmp_path / "by_spark"
    schema = "k INT, text STRING, long STRING, number DECIMAL(38,6), ratio DOUBLE, day DATE, at TIMESTAMP, local"
    schema += " TIMESTAMP_NTZ, flag BOOLEAN, bytes BINARY, never INT"
    before, after = datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(2024, 5, 6, 7, 8, 9, 123_456)
    times = [(each.replace(tzinfo=timezone.utc), each) for each in (before, after)]
    huge = Decimal("12345678901234567890123456789012.345678")
    rows: list[tuple[object, ...]] = [
        (1, "a'\"\\\n", "é" * 40, huge, -1.5, date(1, 1, 1), *times[0], True, b"\x00", None),
        (2, "São", "é" * 32 + "\U0010ffff", -huge, 1e300, date(9999, 12, 31), *times[1], False, b"\xff", None),
    ]
    fields, local = local_rows(schema, rows)
    delta.create(session, str(by_spark), local_frame(session, fields, rows).coalesce(1), {}, "error")
    delta.create(session, str(by_driver), local_frame(session, fields, []), delta.table_properties(False), "error")
    actions = local.append_column(ACTION, pa.array(["I", "I"]))

    assert marked_merge.merge(session, str(by_driver), actions, ["k"], ACTION, {}, tmp_path / "temp")

    ours, deltas = stats_of(by_driver), stats_of(by_spark)
    assert (ours["numRecords"], ours["nullCount"]) == (2, deltas["nullCount"])
    assert deltas["minValues"].keys() - ours["minValues"].keys() == {"long"}  # no text is known to be greater
    for column in {*fields.names} - {"bytes", "never"}:
        for row in rows:
            found = row[fields.names.index(column)]
            value = F.lit(found.isoformat() if isinstance(found, date) else found).cast(fields[column].dataType)
            assert delta.read(session, str(by_driver)).where(F.col(column) == value).count() == 1, (column, row)


def test_every_reader_finds_texts_of_each_plane_of_unicode_by_the_statistics(
    spark: SparkSession, tmp_path: Path
) -> None:
    session, table = isolated_session(spark, 0), str(tmp_path / "table")
    create(session, table, SMALL, [])
    texts = ["\u91ce", "\U0001f600", "\U00020bb7\u91ce\u5bb6", "\U0008b779", "\U0010fffd"]
    for n, text in enumerate(texts):  # a file each
        actions = actions_of(("I", n, text))
        assert marked_merge.merge(session, table, actions, ["k"], ACTION, {}, tmp_path / "temp")

    for n, text in enumerate(texts):
        by_polars = pl.scan_delta(table).filter(pl.col("v") == text).collect()
        assert by_polars["k"].to_list() == [n], text
        assert [row.k for row in delta.read(session, table).where(F.col("v") == text).collect()] == [n]


def test_rows_that_are_only_added_need_no_feed_of_their_own(spark: SparkSession, tmp_path: Path) -> None:
    session, table = isolated_session(spark, 0), str(tmp_path / "table")
    create(session, table, SMALL, [(1, "a")], with_vectors=False)

    actions = actions_of(("I", 2, "b"), ("I", 3, None))
    assert marked_merge.merge(session, table, actions, ["k"], ACTION, {}, tmp_path / "temp")

    assert not (tmp_path / "table/_change_data").exists()
    changes = delta.read_change_feed(session, table, 0, 1).select("k", "v", "_change_type").collect()
    assert sorted(map(tuple, changes)) == [(2, "b", "insert"), (3, None, "insert")]


def test_the_driver_creates_the_table_that_spark_creates(spark: SparkSession, tmp_path: Path) -> None:
    session, by_driver, by_spark = isolated_session(spark, 0), str(tmp_path / "by_driver"), str(tmp_path / "by_spark")
    fields, rows = local_rows(SCHEMA, random_rows(random.Random(3), 60))
    target = MergeTarget(session, by_driver, KEYS, tuning=Tuning(local_rows=0), temp_root=tmp_path / "temp")
    reader = pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches(max_chunksize=7))
    assert create_from_batches(target, reader, fields, rows.num_rows, {"n": 1})
    merge_to_match(
        MergeTarget(session, by_spark, KEYS, tuning=BY_SPARK), session.createDataFrame(rows, fields), {"n": 1}
    )

    assert content(delta.read(session, by_driver)) == content(delta.read(session, by_spark)) == content(rows)
    assert delta.read(session, by_driver).schema == delta.read(session, by_spark).schema
    for address in (by_driver, by_spark):
        version = delta.current_version(session, address)
        assert version is not None and (version.version, version.recorded_progress()) == (0, {"n": 1})
        assert delta.properties(session, address) == delta.table_properties(large=False)
        assert content(feed(session, address, 0)) == content(feed(session, by_spark, 0))
    assert not list((tmp_path / "temp").iterdir())

    again = pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches())
    assert not create_from_batches(target, again, fields, rows.num_rows, {"n": 2})  # there is one
