"""Tests scd 2 through the command line: its windows, read with Polars, and the rows of a table at a time."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from helpers import ITEMS, Project, Row
from pyspark.sql import SparkSession

import lakehouse

pytestmark = pytest.mark.usefixtures("spark")

DAYS = [f"2025010{day}_000000" for day in range(1, 8)]


def day(number: int) -> datetime:
    return datetime(2025, 1, number, tzinfo=timezone.utc)


def history(project: Project) -> list[tuple[Any, ...]]:
    """Return (id, qty, note, day of the start, day of the end or None), sorted."""

    def window(row: Row) -> tuple[Any, ...]:
        end = row["__END_AT"]
        return row["id"], row["qty"], row["note"], row["__START_AT"].day, end.day if end else None

    return sorted((window(row) for row in project.rows("bronze/items")), key=str)


def project_with_history(folder: Path, **settings: Any) -> Project:
    guard = {"guard": {"min_rows": 0, "max_deleted": 1, "max_quarantined": 1}}
    return Project(folder, {"items": {**ITEMS, **guard, "scd": 2, **settings}})


def check_results(project: Project) -> dict[str, str]:
    """Return the result of each check of `verify`, after asserting that none failed."""
    done = project("verify")
    assert done.code == 0, [c for c in done.document["checks"] if c["result"] != "holds"]
    return {f"{c['invariant']} {c['what']}": c["result"] for c in done.document["checks"]}


def test_inserts_updates_deletes_and_returning_keys_make_windows(tmp_path: Path, spark: SparkSession) -> None:
    project = project_with_history(tmp_path)
    for stamp, rows in zip(
        DAYS,
        [
            "a,1,x\nb,1,x\nc,1,x\n",
            "a,2,x\nb,1,x\nc,1,x\n",  # a: A -> B
            "a,1,x\nc,1,x\n",  # a: -> A again; b deleted
            "a,1,x\nb,1,x\nc,1,x\n",  # b is inserted again with the same values
            "b,1,x\n",  # a and c deleted
        ],
        strict=False,
    ):
        project.snapshot(stamp, items=f"id,qty,note\n{rows}")
    assert project.run().code == 0

    assert history(project) == [
        ("a", 1, "x", 1, 2),
        ("a", 1, "x", 3, 5),
        ("a", 2, "x", 2, 3),
        ("b", 1, "x", 1, 3),
        ("b", 1, "x", 4, None),
        ("c", 1, "x", 1, 5),
    ]
    opened_by = {(r["id"], r["__START_AT"].day): r["_cdc_operation"] for r in project.rows_with_cdc("bronze/items")}
    assert opened_by[("a", 1)] == "I" and opened_by[("a", 2)] == "U" and opened_by[("b", 4)] == "I"
    assert project.write_counts()["bronze/items"] == 5, "one commit a snapshot"

    checks = check_results(project)
    assert checks["I1 history = the change sets, each at its time"] == "holds"
    assert checks["I1 windows neither overlap nor are empty"] == "holds"

    assert project("bronze", "--full-refresh").code == 0
    assert project.write_counts()["bronze/items"] == 5, "a full refresh gives the same history"

    before, bronze = history(project), f"delta.`{project.lake}/bronze/items`"
    spark.sql(f"UPDATE {bronze} SET __END_AT = NULL WHERE id = 'a' AND qty = 2")
    assert project("verify").code == 5
    assert project("bronze").outcome("bronze", "items")["status"] == "healed"
    assert history(project) == before


def test_as_of_returns_the_rows_of_a_time_with_scd_1_and_scd_2(tmp_path: Path, spark: SparkSession) -> None:
    tables = {
        "items": {**ITEMS, "scd": 2, "history_except": ["note"]},
        "plain": {**ITEMS, "file": "plain.csv"},
    }
    project = Project(tmp_path, tables)
    for stamp, rows in zip(DAYS, ["a,1,x\nb,1,x\n", "a,1,y\nb,2,x\n", "a,1,y\n"], strict=False):
        project.snapshot(stamp, items=f"id,qty,note\n{rows}", plain=f"id,qty,note\n{rows}")
    project.configure(guard={"max_deleted": 1})
    project.tables["plain"]["guard"] = {"max_deleted": 1}
    project.configure()
    assert project.run().code == 0

    def rows_at(table: str, time: datetime | str) -> list[tuple[Any, ...]]:
        return sorted(tuple(r)[:3] for r in lakehouse.as_of(project.pipeline, table, time).collect())

    for table, then in (("items", "y"), ("plain", "x")):
        assert rows_at(table, "2024-12-31") == []
        assert rows_at(table, day(1)) == [("a", 1, then), ("b", 1, "x")]
        assert rows_at(table, "2025-01-01T23:59:59-00:30") == [("a", 1, "y"), ("b", 2, "x")]
        assert rows_at(table, day(2).replace(tzinfo=None)) == [("a", 1, "y"), ("b", 2, "x")]
        assert rows_at(table, day(3)) == rows_at(table, "2030-01-01") == [("a", 1, "y")]
    in_sql = spark.sql(
        f"SELECT id, qty FROM delta.`{project.lake}/bronze/items` WHERE __START_AT <= TIMESTAMP '2025-01-01 12:00:00'"
        " AND (__END_AT > TIMESTAMP '2025-01-01 12:00:00' OR __END_AT IS NULL)"
    )
    assert sorted(map(tuple, in_sql.collect())) == [("a", 1), ("b", 1)]


def test_only_history_for_columns_open_windows_and_changing_them_rebuilds_the_history(tmp_path: Path) -> None:
    project = project_with_history(tmp_path, history_for=["qty"])
    project.snapshot(DAYS[0], items="id,qty,note\na,1,x\n")
    project.snapshot(DAYS[1], items="id,qty,note\na,1,y\n")
    project.snapshot(DAYS[2], items="id,qty,note\na,2,y\n")
    assert project.run().code == 0
    assert history(project) == [("a", 1, "y", 1, 3), ("a", 2, "y", 3, None)]
    assert [r["_cdc_sequence"] for r in project.rows_with_cdc("bronze/items")] == [1, 3]
    check_results(project)

    project.configure(history_for=None, history_except=["qty"])
    done = project.run()
    assert done.code == 0
    assert done.outcome("bronze", "items")["status"] == "healed"
    assert history(project) == [("a", 1, "x", 1, 2), ("a", 2, "y", 2, None)]
    assert project("bronze").outcome("bronze", "items")["status"] == "current"
    check_results(project)


def test_a_snapshot_ingested_again_leaves_no_window_without_length(tmp_path: Path) -> None:
    project = project_with_history(tmp_path, schema="id STRING, qty INT, note STRING")
    project.snapshot(DAYS[0], items="id,qty,note\na,1,x\nb,1,x\n")
    project.snapshot(DAYS[1], items="id,qty,note\na,2,x\nb,one,x\nc,3,N/A\n")
    assert project.run().code == 0
    assert history(project) == [
        ("a", 1, "x", 1, 2),
        ("a", 2, "x", 2, None),
        ("b", 1, "x", 1, None),
        ("c", 3, "N/A", 2, None),
    ]

    project.configure(options={"nullValue": "N/A"})  # with a corrected configuration, the snapshot is ingested again
    assert project.run().code == 0
    assert project.ledger()[-1]["sequence"] == 3
    assert history(project) == [
        ("a", 1, "x", 1, 2),
        ("a", 2, "x", 2, None),
        ("b", 1, "x", 1, None),
        ("c", 3, None, 2, None),
    ]
    assert project("bronze", "--full-refresh").code == 0
    assert project.write_counts()["bronze/items"] == 3
    check_results(project)


def test_a_table_changes_to_scd_2_by_a_full_refresh_of_bronze(tmp_path: Path) -> None:
    project = Project(tmp_path, models={"silver.now": ("SELECT id, qty FROM bronze.items", {"keys": ["id"]})})
    project.snapshot(DAYS[0], items="id,qty,note\na,1,x\n")
    project.snapshot(DAYS[1], items="id,qty,note\na,2,x\n")
    assert project.run().code == 0

    project.configure(scd=2)
    refused = project.run()
    assert refused.code == 2
    note = refused.outcome("ingest", "items")["note"]
    assert "scd: 1 is now 2" in note and "--full-refresh" in note
    refreshed = project("bronze", "items", "--full-refresh")  # models follow in the same command
    assert refreshed.code == 5 and refreshed.outcome("silver", "silver.now")["status"] == "failed"
    assert history(project) == [("a", 1, "x", 1, 2), ("a", 2, "x", 2, None)]
    assert project.rows("silver/now") == [{"id": "a", "qty": 2}], (
        "it would have two rows for a key, and stays as it was"
    )

    project.models["silver.now"] = ("SELECT id, qty FROM bronze.items WHERE __END_AT IS NULL", {"keys": ["id"]})
    project.configure()
    project.snapshot(DAYS[2], items="id,qty,note\na,3,x\nb,1,x\n")
    assert project.run().code == 0
    assert project.rows("silver/now") == [{"id": "a", "qty": 3}, {"id": "b", "qty": 1}]
    project.snapshot(DAYS[3], items="id,qty,note\na,4,x\nb,1,x\n")
    done = project.run()
    assert done.outcome("silver", "silver.now")["status"] == "row-wise"
    assert project.rows("silver/now") == [{"id": "a", "qty": 4}, {"id": "b", "qty": 1}]
    check_results(project)
