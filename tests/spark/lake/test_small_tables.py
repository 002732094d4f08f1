"""The driver reads, compares and writes small tables as Spark does, and leaves to Spark what only Spark can do."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import random
import struct
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from lakehouse.config.tuning import Tuning
from lakehouse.lake import delta, ledger, local_diff, local_writer, small_tables
from lakehouse.lake.cached_rows import CachedRows
from lakehouse.lake.merge import ACTION, MergeTarget, WriteResult, merge_to_match, row_actions
from lakehouse.spark.session import isolated_session, local_frame, local_rows
from lakehouse.storage import delta_files, delta_log
from lakehouse.storage.paths import Lake
from lakehouse.storage.small_files import count_small_files

SEED = os.environ.get("LAKEHOUSE_SEED")  # set by make test-random; else always the same tables
SEEDS = range(int(SEED), int(SEED) + 5) if SEED else range(1)
SCHEMA = (
    "k1 STRING, k2 INT, amount DECIMAL(12,2), ratio DOUBLE, day DATE, at TIMESTAMP, local TIMESTAMP_NTZ, flag BOOLEAN,"
    " bytes BINARY, Name STRING, n BIGINT"
)
KEYS = ["k1", "k2"]
BY_SPARK = Tuning(small_table_bytes=0)
TIME = dt.datetime(2025, 1, 1, 2, 3, 4, tzinfo=dt.timezone.utc)
SMALL = 1 << 20


def random_row(rng: random.Random, key: tuple[str | None, int | None]) -> tuple[Any, ...]:
    values = [
        rng.choice([None, Decimal("0.00"), Decimal("-12.30"), Decimal("9999999999.99")]),
        rng.choice([None, 0.0, -0.0, math.nan, 1.5, math.inf]),
        rng.choice([None, dt.date(1, 1, 1), dt.date(1582, 10, 15), dt.date(2025, 2, 28)]),
        rng.choice(
            [
                None,
                dt.datetime(1900, 1, 1, tzinfo=dt.timezone.utc),
                dt.datetime(2025, 3, 1, 2, 3, 4, 567891, dt.timezone.utc),
            ]
        ),
        rng.choice([None, dt.datetime(2025, 3, 1, 2, 3, 4, 5)]),
        rng.choice([None, True, False]),
        rng.choice([None, b"", b"\x00\xff"]),
        rng.choice([None, "", "a'b\"c", "São Paulo"]),
        rng.choice([None, -(2**63), 2**63 - 1, 7]),
    ]
    return (*key, *values)


def random_rows(rng: random.Random, count: int) -> list[tuple[Any, ...]]:
    keys = {(rng.choice([None, "a", "b", "c", "é"]), rng.choice([None, 0, 1, 2, 3, 4, 5])) for _ in range(count)}
    return [random_row(rng, key) for key in sorted(keys, key=repr)]


def content(rows: DataFrame | pa.Table, *, without: str = "_commit_timestamp") -> Counter[str]:
    """Return rows as text; a NaN is equal to itself, and zero to minus zero."""
    table = rows.toArrow() if isinstance(rows, DataFrame) else rows
    names = sorted(name for name in table.column_names if name != without)

    def text(value: Any) -> str:
        if isinstance(value, float):
            return struct.pack(">d", value + 0.0 if value else 0.0).hex() if not math.isnan(value) else "nan"
        return repr(value)

    return Counter(" | ".join(f"{n}={text(row[n])}" for n in names) for row in table.to_pylist())


def feed(spark: SparkSession, table: str, version: int) -> DataFrame:
    return delta.read_change_feed(spark, table, version - 1, version)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_driver_and_spark_make_the_same_table_with_the_same_changes(
    spark: SparkSession, tmp_path: Path, seed: int
) -> None:
    rng, session = random.Random(seed), isolated_session(spark, 0)
    by_spark, by_driver = str(tmp_path / "by_spark"), str(tmp_path / "by_driver")
    fields, first = local_rows(SCHEMA, random_rows(rng, 12))
    merge_to_match(MergeTarget(session, by_spark, KEYS, tuning=BY_SPARK), local_frame(session, fields, []), {"n": 0})
    assert local_writer.create(by_driver, first.slice(0, 0), fields, delta.table_properties(large=False), {"n": 0})
    for step in range(1, 9):
        _, wanted = local_rows(SCHEMA, random_rows(rng, 12))
        current = small_tables.read_rows(by_driver, SMALL)
        assert current is not None
        actions = local_diff.row_actions(current, wanted, KEYS, ACTION)
        expected = row_actions(delta.read(session, by_spark), session.createDataFrame(wanted, fields), KEYS)
        assert content(actions) == content(expected)
        merge_to_match(
            MergeTarget(session, by_spark, KEYS, tuning=BY_SPARK),
            session.createDataFrame(wanted, fields),
            {"n": step},
        )
        if actions.num_rows:
            assert local_writer.merge(by_driver, actions, KEYS, ACTION, {"n": step}, SMALL)
        same = content(delta.read(session, by_spark))
        assert content(delta.read(session, by_driver)) == same == content(small_tables.read_rows(by_driver, SMALL))
        version = delta_log.newest_version(tmp_path / "by_driver")
        assert version == delta_log.newest_version(tmp_path / "by_spark")
        changes = content(feed(session, by_spark, version))
        assert content(feed(session, by_driver, version)) == changes
        assert content(small_tables.read_changes(session, by_driver, version - 1, version, SMALL).rows) == changes
    whole_feed = delta.read_change_feed(session, by_spark, 0, version)
    assert content(small_tables.read_changes(session, by_driver, 0, version, SMALL).rows) == content(whole_feed)
    current_version = delta.current_version(session, by_driver)
    assert current_version is not None
    assert [c.metadata for c in current_version.commits] == [{"n": n} for n in range(step, -1, -1)]
    # Spark goes on with a table that the driver wrote.
    merge_to_match(
        MergeTarget(session, by_driver, KEYS, tuning=BY_SPARK), local_frame(session, fields, []), {"n": "end"}
    )
    assert delta.read(session, by_driver).isEmpty()
    assert small_tables.read_rows(by_driver, SMALL).num_rows == 0  # type: ignore[union-attr]


def test_rows_that_are_affected_are_compared_alone(spark: SparkSession, tmp_path: Path) -> None:
    session, table = isolated_session(spark, 0), str(tmp_path / "table")
    fields, rows = local_rows("k INT, v STRING", [(1, "a"), (2, "b"), (None, "c")])
    assert local_writer.create(table, rows, fields, delta.table_properties(large=False), {})
    _, affected = local_rows("k INT", [(2,), (None,), (9,)])
    _, wanted = local_rows("k INT, v STRING", [(None, "d")])
    target = MergeTarget(session, table, ["k"])
    keys = CachedRows(session.createDataFrame(affected), affected)
    written = merge_to_match(target, session.createDataFrame(wanted, fields), {"n": 1}, keys, expect_few=True)
    assert written == WriteResult(updated=1, deleted=1, committed=True)
    assert content(delta.read(session, table)) == content(local_rows("k INT, v STRING", [(1, "a"), (None, "d")])[1])


def steps_by_others(spark: SparkSession, table: str) -> dict[str, Callable[[], object]]:
    name, own = delta.sql_name(table), isolated_session(spark, 0)
    return {
        "a commit of Spark": lambda: delta.append(table, spark.range(3, 5).selectExpr("id", "'x' AS v")),
        "OPTIMIZE": lambda: own.sql(f"OPTIMIZE {name}"),
        "a new column": lambda: own.sql(f"ALTER TABLE {name} ADD COLUMNS (more INT)"),
        "RESTORE": lambda: delta.table(spark, table).restoreToVersion(0),
        "progress": lambda: delta.record_progress(own, table, {"n": 2}),
        "deletion vectors": lambda: (
            delta.enable_deletion_vectors(own, table),
            delta.table(spark, table).delete("id = 1"),
        ),
        "a column that is mapped": lambda: own.sql(
            f"ALTER TABLE {name} SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name')"
        ),
        "a constraint": lambda: own.sql(f"ALTER TABLE {name} ADD CONSTRAINT c CHECK (id < 100)"),
    }


ONLY_SPARK_READS = {"deletion vectors", "a column that is mapped"}
ONLY_SPARK_WRITES = {*ONLY_SPARK_READS, "a constraint"}
STEPS = [
    "a commit of Spark",
    "OPTIMIZE",
    "a new column",
    "RESTORE",
    "progress",
    "a constraint",
    *sorted(ONLY_SPARK_READS),
]


@pytest.mark.parametrize("step", STEPS)
def test_after_steps_of_others_the_driver_reads_what_spark_reads_or_leaves_it_to_spark(
    spark: SparkSession, tmp_path: Path, step: str
) -> None:
    table = str(tmp_path / "table")
    delta.create(spark, table, spark.range(3).selectExpr("id", "'x' AS v"), delta.table_properties(large=False))
    delta.append(table, spark.range(7, 9).selectExpr("id", "'y' AS v"))
    steps_by_others(spark, table)[step]()
    rows = small_tables.read_rows(table, SMALL)
    assert (rows is None) == (step in ONLY_SPARK_READS)
    assert rows is None or content(rows) == content(delta.read(spark, table))
    assert content(small_tables.read(spark, table, SMALL)) == content(delta.read(spark, table))
    assert delta.schema(spark, table) == delta.read(spark, table).schema
    assert delta.count_rows(spark, table) == delta.read(spark, table).count()
    _, actions = local_rows(f"{ACTION} STRING, id BIGINT, v STRING", [("U", 2, "z"), ("I", 20, "n")])
    names = delta.schema(spark, table).names
    actions = actions if "more" not in names else actions.append_column("more", pa.nulls(2, pa.int32()))
    before = delta_log.newest_version(tmp_path / "table")
    assert local_writer.merge(table, actions, ["id"], ACTION, {"n": 3}, SMALL) == (step not in ONLY_SPARK_WRITES)
    assert delta_log.newest_version(tmp_path / "table") == before + (step not in ONLY_SPARK_WRITES)


def test_a_table_above_the_size_is_left_to_spark(spark: SparkSession, tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    fields, rows = local_rows("k INT, v STRING", [(n, str(n)) for n in range(50)])
    assert local_writer.create(table, rows, fields, {}, {})
    assert small_tables.read_rows(table, 100) is None
    assert small_tables.read_rows(table, SMALL) is not None
    actions = pa.table({ACTION: ["D"], "k": pa.array([1], pa.int32()), "v": pa.array([None], pa.string())})
    assert not local_writer.merge(table, actions, ["k"], ACTION, {}, 100)


def test_a_commit_that_came_first_leaves_the_write_to_spark(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = str(tmp_path / "table")
    fields, rows = local_rows("k INT, v STRING", [(1, "a"), (2, "b")])
    assert local_writer.create(table, rows, fields, delta.table_properties(large=False), {})

    class Overtaken(local_writer.DeltaTable):
        def merge(self, *arguments: Any, **named: Any) -> Any:
            delta.table(spark, table).delete("k = 2")
            return super().merge(*arguments, **named)

    monkeypatch.setattr(local_writer, "DeltaTable", Overtaken)
    session = isolated_session(spark, 0)
    _, wanted = local_rows("k INT, v STRING", [(1, "new"), (2, "b")])
    merge_to_match(MergeTarget(session, table, ["k"]), session.createDataFrame(wanted, fields), {}, expect_few=True)
    monkeypatch.undo()
    history = [row.operation for row in delta.table(spark, table).history().collect()]
    assert history[:2] == ["MERGE", "DELETE"]
    assert content(delta.read(spark, table)) == Counter({"k=1 | v='new'": 1})


def test_a_write_whose_checkpoint_fails_is_a_write(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = str(tmp_path / "table")
    fields, rows = local_rows("k INT, v STRING", [(1, "a")])
    inner = local_writer.write_deltalake

    def fail_afterwards(*arguments: Any, **named: Any) -> None:
        inner(*arguments, **named)
        raise OSError("the disk is full")

    monkeypatch.setattr(local_writer, "write_deltalake", fail_afterwards)
    assert local_writer.create(table, rows, fields, {}, {"n": 1})
    assert local_writer.append(table, rows)
    assert delta.read(spark, table).count() == 2

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(local_writer, "write_deltalake", fail)
    assert not local_writer.append(table, rows)


@pytest.mark.parametrize("is_tracked", [False, True], ids=["disk", "store"])
def test_the_ledger_is_read_in_the_order_of_its_commits(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_tracked: bool
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    with monkeypatch.context() as patch:
        if is_tracked:
            patch.setattr(ledger.delta, "is_on_disk", lambda _: False)
        ledger.create_if_missing(spark, lake)
    assert ledger.read_histories(spark, lake, ["items"])["items"].entries == ()
    for n in range(12):  # with a checkpoint in between
        entry = ledger.LedgerEntry("items", n + 1, TIME + dt.timedelta(days=n), f"f{n}", "accepted", reason=f"r{n}")
        with monkeypatch.context() as patch:
            if n % 3 == 0:  # as on a cluster: Spark writes the rows
                patch.setattr(local_writer, "append", lambda *_: False)
            ledger.append(spark, lake, entry)
    delta.optimize(isolated_session(spark), lake.ledger_table, 1 << 20)
    assert count_small_files(Path(lake.ledger_table)) == 1
    if is_tracked:
        rows = ledger.read_rows(spark, lake).select("sequence", "_metadata.row_id", "_metadata.row_commit_version")
        assert sorted(map(tuple, rows.collect())) == [(n + 1, n, n + 1) for n in range(12)]
    ledger.redact_reasons(spark, lake, "items", lambda reason: "gone" if reason == "r3" else reason)
    by_driver = ledger.read_histories(spark, lake, ["items"])["items"].entries
    monkeypatch.setattr(small_tables, "read_with_commits", lambda *_: None)
    assert ledger.read_histories(spark, lake, ["items"])["items"].entries == by_driver
    # With row tracking, the rewritten row counts as appended by the commit that rewrote it.
    in_order = [1, 2, 3, *range(5, 13), 4] if is_tracked else [*range(1, 13)]
    assert [e.sequence for e in by_driver] == in_order
    assert ledger.newest_accepted_time(spark, lake) == TIME + dt.timedelta(days=11)


def test_rows_of_the_ledger_stay_in_order_if_the_clock_is_set_back_and_if_the_lake_is_moved_to_a_store(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    ledger.create_if_missing(spark, lake)

    class Earlier(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return dt.datetime.now(tz) - dt.timedelta(days=next(days))

    def append(*sequences: int) -> None:
        for n in sequences:
            ledger.append(spark, lake, ledger.LedgerEntry("items", n, TIME, f"f{n}", "accepted"))

    days = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "datetime", Earlier)
        append(1, 2, 3)
    times = [entry.recorded_at for entry in ledger.read_histories(spark, lake, ["items"])["items"].entries]
    assert times == sorted({time for time in times if time})
    with monkeypatch.context() as patch:
        patch.setattr(ledger.delta, "is_on_disk", lambda _: False)
        ledger.create_if_missing(spark, lake)
        patch.setattr(ledger, "datetime", Earlier)
        append(4, 5)

    assert [e.sequence for e in ledger.read_histories(spark, lake, ["items"])["items"].entries] == [1, 2, 3, 4, 5]
    versions = ledger.read_rows(spark, lake).select("sequence", "_metadata.row_commit_version").collect()
    assert len({row.row_commit_version for row in versions if row.sequence > 2}) == 3


def test_the_log_of_a_table_of_which_many_files_were_removed_is_read(tmp_path: Path) -> None:
    table, rows = str(tmp_path / "table"), pa.table({"k": pa.array([1], pa.int32())})
    assert local_writer.create(table, rows, T.StructType([T.StructField("k", T.IntegerType())]), {})
    now = int(dt.datetime.now().timestamp() * 1000)
    removed = [{"path": f"{n}.parquet", "deletionTimestamp": now, "dataChange": True} for n in range(3000)]
    commit = [{"commitInfo": {"timestamp": now, "operation": "DELETE"}}, *({"remove": each} for each in removed)]
    log = tmp_path / "table/_delta_log"
    (log / f"{1:020d}.json").write_text("".join(json.dumps(action) + "\n" for action in commit))
    DeltaTable(table).create_checkpoint()
    assert pq.read_metadata(log / f"{1:020d}.checkpoint.parquet").num_rows > 3000
    assert local_writer.append(table, rows)
    found = delta_files.list_files(tmp_path / "table", 2)
    assert found and len(found.files) == 2


def test_tables_that_decide_at_the_same_time_share_a_commit(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, first_begun, go_on = Lake(str(tmp_path / "lake")), Event(), Event()
    ledger.create_if_missing(spark, lake)
    inner = local_writer.append

    def append(*arguments: Any, **named: Any) -> bool:
        if not first_begun.is_set():
            first_begun.set()
            assert go_on.wait(60)
        return inner(*arguments, **named)

    monkeypatch.setattr(local_writer, "append", append)
    entries = [ledger.LedgerEntry(f"t{n}", 1, TIME, "f", "accepted") for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ledger.append, spark, lake, entries[0])
        assert first_begun.wait(60)
        others = [pool.submit(ledger.append, spark, lake, entry) for entry in entries[1:]]
        while len(ledger._groups[lake.ledger_table].waiting) < 3:
            pass
        go_on.set()
        recorded = [future.result() for future in [first, *others]]
    assert [entry.table for entry in recorded] == ["t0", "t1", "t2", "t3"]
    assert delta_log.newest_version(lake.path("raw", "ledger")) == 2
    histories = ledger.read_histories(spark, lake, [e.table for e in entries])
    assert {table: history.last_accepted for table, history in histories.items()} == {e.table: e for e in recorded}


def test_a_failed_append_fails_for_each_table_of_the_commit(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    ledger.create_if_missing(spark, lake)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    entry = ledger.LedgerEntry("t", 1, TIME, "f", "accepted")
    with monkeypatch.context() as patch:
        patch.setattr(local_writer, "write_deltalake", fail)
        patch.setattr(delta, "append", fail)
        with pytest.raises(OSError, match="the disk is full"):
            ledger.append(spark, lake, entry)
    assert ledger.append(spark, lake, entry).recorded_at is not None
