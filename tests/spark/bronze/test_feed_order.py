"""The accepted batches that overlap one are found by its events, and by the metadata of their files."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse.bronze.apply_feed import Batch, changed_rows, compare_batch
from lakehouse.bronze.feed import fold_batches
from lakehouse.bronze.feed_order import (
    Bounds,
    StandIns,
    bounds_of_batches,
    bounds_of_events,
    find_stand_ins,
    is_enough,
    overlapping_batches,
)
from lakehouse.config import Table
from lakehouse.config.pipeline import Tuning
from lakehouse.lake import change_sets, feed_events
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.table_ref import TableRef
from lakehouse.spark.session import isolated_session
from lakehouse.storage.paths import Lake

TIME = datetime(2025, 1, 1, tzinfo=timezone.utc)
TABLE: dict[str, Any] = {"file": "t.parquet", "format": "parquet", "keys": ["id"]}
IN_DRIVER, BY_SPARK = Tuning(), Tuning(local_rows=0)


def table_of(spark: SparkSession, folder: Path, tuning: Tuning, types: str, *sequence_by: str) -> TableRef:
    config = Table.model_validate(TABLE | {"schema": f"id STRING, {types}", "feed": {"sequence_by": [*sequence_by]}})
    return TableRef(spark, Lake.from_root(str(folder)), "t", config, tuning)


def write_batch(table: TableRef, values: str, number: int = 1) -> LedgerEntry:
    """Write a batch with the rows of a VALUES clause, and return its ledger row."""
    path, fields = f"raw/cdc/t_{number}.parquet", feed_events.received_schema(table.config)
    rows = table.spark.sql(f"SELECT * FROM (VALUES {values}) AS t({', '.join(fields.names)})").coalesce(1).to(fields)
    feed_events.write(table, feed_events.stamp(rows, number, TIME, TIME), path, rows.count())
    return LedgerEntry("t", number, TIME, "", "accepted", kind="feed", path=path)


@pytest.mark.parametrize("tuning", [IN_DRIVER, BY_SPARK], ids=["driver", "spark"])
@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("BIGINT", "-3", "40"),
        ("SMALLINT", "-3S", "40S"),
        ("STRING", "'B'", "'\U0001f600'"),  # by their bytes, as Spark compares them
        ("STRING", f"'{'a' * 5000}'", f"'{'a' * 5000}b'"),
        ("DATE", "DATE '0001-01-01'", "DATE '9999-12-31'"),
        ("TIMESTAMP", "TIMESTAMP '1900-01-01 00:00:00.000001Z'", "TIMESTAMP '2025-10-26 01:30:00+02:00'"),
        ("TIMESTAMP_NTZ", "TIMESTAMP_NTZ '1900-01-01 00:00:00'", "TIMESTAMP_NTZ '2025-10-26 01:30:00.000001'"),
        ("DECIMAL(9, 2)", "-0.01BD", "1.10BD"),
        ("DECIMAL(38, 0)", "-1BD", "99999999999999999999999999999999999999BD"),
        ("BOOLEAN", "false", "true"),
    ],
    ids=lambda value: value[:20],
)
def test_files_tell_the_sequences_between_which_their_events_are(
    spark: SparkSession, tmp_path: Path, tuning: Tuning, kind: str, low: str, high: str
) -> None:
    table = table_of(spark, tmp_path, tuning, f"seq {kind}", "seq")
    entry = write_batch(table, f"('a', {high}), ('b', {low}), ('c', {high})")

    (found,) = bounds_of_batches(table, [entry])
    exact = bounds_of_events(feed_events.read(table, [entry]), table.config)

    assert found is None if len(low) > 5000 else found == exact  # no metadata has such long values
    assert exact is not None
    assert exact.lowest is not None
    assert exact.highest is not None
    assert exact.lowest < exact.highest


@pytest.mark.parametrize("tuning", [IN_DRIVER, BY_SPARK], ids=["driver", "spark"])
@pytest.mark.parametrize("kind", ["DOUBLE", "FLOAT"])
def test_where_numbers_are_that_may_be_nan_is_never_known(
    spark: SparkSession, tmp_path: Path, tuning: Tuning, kind: str
) -> None:
    table = table_of(spark, tmp_path, tuning, f"seq {kind}", "seq")
    entry = write_batch(table, "('a', 1D), ('b', DOUBLE('NaN'))")

    assert bounds_of_batches(table, [entry]) == [None]


def test_of_several_columns_and_fields_the_bounds_include_all_events(spark: SparkSession, tmp_path: Path) -> None:
    two = table_of(spark, tmp_path / "two", BY_SPARK, "day DATE, n INT", "day", "n")
    entry = write_batch(two, "('a', DATE '2025-01-01', 7), ('b', DATE '2025-01-02', 1)")
    lower, upper = date(2025, 1, 1), date(2025, 1, 2)
    assert bounds_of_batches(two, [entry]) == [Bounds((lower, 1), (upper, 7))]
    exact = bounds_of_events(feed_events.read(two, [entry]), two.config)
    assert exact == Bounds((lower, 7), (upper, 1))

    image = "STRUCT<lsn: INT>"
    fields = table_of(spark, tmp_path / "fields", BY_SPARK, f"before {image}, after {image}", "after.lsn")
    entry = write_batch(
        fields,
        "('a', NULL, {}), ('b', {}, NULL), ('c', {}, {})".format(*(f"NAMED_STRUCT('lsn', {n})" for n in (3, 9, 1, 4))),
    )
    assert bounds_of_batches(fields, [entry]) == [Bounds((1,), (9,))]  # 1 counts for no event
    assert bounds_of_events(feed_events.read(fields, [entry]), fields.config) == Bounds((3,), (9,))


def test_batches_overlap_one_if_they_may_have_its_lowest_sequence_or_a_higher_one(
    spark: SparkSession, tmp_path: Path
) -> None:
    table = table_of(spark, tmp_path, IN_DRIVER, "seq INT", "seq")
    first, second = write_batch(table, "('a', 5), ('b', 2)"), write_batch(table, "('c', 9)", 2)
    empty = write_batch(table, "('x', 1)", 3)
    none = feed_events.read(table, [empty]).drop(feed_events.KIND).limit(0)
    feed_events.write(table, none, empty.path or "", 0)
    before = [first, second, empty]

    def found(lowest: int | None) -> list[LedgerEntry] | None:
        return overlapping_batches(table, before, Bounds(None if lowest is None else (lowest,), None))

    assert [found(lowest) for lowest in (10, 9, 6, 5, 0, None)] == [
        [],
        [second],
        [second],
        [first, second],
        [first, second],
        [],
    ]
    assert overlapping_batches(table, before, None) is None
    assert overlapping_batches(table, [], Bounds((1,), (1,))) == []
    for file in change_sets.data_files(table, empty):
        file.unlink()
    assert found(10) is None  # a batch is lost


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (True, True)),
        ({"scd": 2}, (True, True)),
        ({"feed": {"sequence_by": ["seq"], "ignore_null_updates": ["b"]}}, (True, False)),
        ({"feed": {"sequence_by": ["seq"], "ignore_null_updates": True}}, (True, False)),
    ],
)
def test_bronze_and_what_overlaps_is_enough_unless_nulls_keep_values(
    settings: dict[str, Any], expected: tuple[bool, bool]
) -> None:
    fields = {"schema": "id STRING, seq INT, b STRING", "feed": {"sequence_by": ["seq"]}}
    config = Table.model_validate(TABLE | fields | settings)
    large, small = (LedgerEntry("t", n, TIME, "", "accepted", kind="feed", rows_read=n, quarantined=0) for n in (9, 2))

    assert (is_enough([], [large, small], config), is_enough([small], [large, small], config)) == expected
    assert not is_enough([large], [large, small], config)
    assert not is_enough(None, [large], config)


@pytest.mark.parametrize("settings", [{}, {"scd": 2}, {"scd": 2, "history_for": ["a"]}], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_what_stands_for_all_events_gives_the_same_changes(
    spark: SparkSession, tmp_path: Path, settings: dict[str, Any], seed: int
) -> None:
    """Of four batches that overlap the next one more or less, whose keys have equal events, deletes and truncates."""
    random_, feed = random.Random(seed), {"delete_when": "op = 'D'", "truncate_when": "op = 'T'"}
    fields = {"schema": "id INT, op STRING, seq INT, a INT, b INT", "feed": {"sequence_by": ["seq"], **feed}}
    config = Table.model_validate(TABLE | fields | settings)
    table = TableRef(isolated_session(spark, 0), Lake.from_root(str(tmp_path)), "t", config, IN_DRIVER)
    free = {key: random_.sample(range(80), 80) for key in range(40)}

    def values(count: int, low: int, high: int) -> str:
        rows = [f"(0, 'T', {random_.randint(low, high)}, 0, 0)"] if random_.random() < 0.4 else []
        for _ in range(count):
            key = random_.randrange(40)
            at = next(each for each in free[key] if low <= each <= high)
            free[key].remove(at)
            rows.append(f"({key}, '{random_.choice('UUUUUD')}', {at}, {random_.choice('01')}, {random_.choice('012')})")
        return ", ".join(rows)

    sizes = ((60, 0, 20), (60, 15, 40), (50, 30, 60), (20, 55, 70))
    before = [
        replace(write_batch(table, values(*size), number), rows_read=size[0], quarantined=0)
        for number, size in enumerate(sizes, start=1)
    ]
    low = random_.choice([20, 40, 56, 75])
    entry = write_batch(table, values(12, low, min(low + 15, 79)), 5)
    events, current = feed_events.read(table, [entry]), fold_batches(table, before)
    overlapping = overlapping_batches(table, before, bounds_of_events(events, config))
    arguments = (table, before, events, Batch(5, TIME), current)

    found, expected = (
        changed_rows(compare_batch(*arguments, overlapping=batches), table).collect() for batches in (overlapping, None)
    )

    assert sorted(found, key=str) == sorted(expected, key=str)
    assert expected


def test_a_window_with_events_on_both_sides_of_the_lowest_sequence_needs_all_events(
    spark: SparkSession, tmp_path: Path
) -> None:
    fields = {"schema": "id STRING, seq INT, a INT, b INT", "feed": {"sequence_by": ["seq"]}, "history_for": ["a"]}
    table = TableRef(spark, Lake.from_root(str(tmp_path)), "t", Table.model_validate(TABLE | fields | {"scd": 2}))
    events = {1: "('x', 1, 1, 1), ('y', 1, 1, 1), ('z', 1, 1, 1)", 2: "('y', 5, 2, 2)", 3: "('x', 9, 1, 2)"}
    before = [replace(write_batch(table, values, n), rows_read=9 // n, quarantined=0) for n, values in events.items()]
    rows = fold_batches(table, before)

    def found(values: str) -> StandIns | None:
        batch = feed_events.read(table, [write_batch(table, values, 4)])
        return find_stand_ins(
            table, before, overlapping_batches(table, before, bounds_of_events(batch, table.config)), batch, 4, rows
        )

    assert found("('x', 7, 3, 3)") is None  # its b at 7 is that of the event at 1, and its row has that of 9
    assert found("('x', 10, 3, 3)") is not None
    late = found("('y', 4, 3, 3)")  # y changes at 5, so that the window in which 4 is ends there
    assert late is not None
    windows = late.rows.where("id = 'y'").collect()
    assert sorted(row["__START_AT"] for row in windows) == [1, 5]


def test_events_without_a_whole_sequence_do_not_count(spark: SparkSession, tmp_path: Path) -> None:
    table = table_of(spark, tmp_path, IN_DRIVER, "day INT, n INT", "day", "n")
    rows = spark.sql("SELECT * FROM (VALUES ('a', 1, NULL), ('b', 2, 3), ('c', NULL, 9)) AS t(id, day, n)")

    assert bounds_of_events(rows, table.config) == Bounds((2, 3), (2, 3))
    assert bounds_of_events(rows.limit(0), table.config) == Bounds(None, None)


def test_where_a_time_is_that_python_does_not_have_is_not_known(spark: SparkSession, tmp_path: Path) -> None:
    table = table_of(spark, tmp_path, BY_SPARK, "source STRUCT<ts: TIMESTAMP>", "source.ts")
    late = "NAMED_STRUCT('ts', TIMESTAMP_MICROS(253402300800000000))"  # year 10000
    entry = write_batch(table, f"('a', {late})")

    assert bounds_of_batches(table, [entry]) == [None]
    assert bounds_of_events(feed_events.read(table, [entry]), table.config) is None
