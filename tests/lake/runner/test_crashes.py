"""After an interruption anywhere, the next run gives the result of an uninterrupted one; it repairs changes by others.

tests/systems/test_kills.py kills a process at each point.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from crash_points import interrupt_at
from helpers import Project
from pyspark.sql import SparkSession
from shop import (
    INTERRUPTIONS,
    TABLES,
    assert_completed,
    lake_content,
    shop_to_interrupt,
    uninterrupted_shop,
    waiting_shop,
)

from lakehouse.errors import InfrastructureError
from lakehouse.lake import change_sets

pytestmark = pytest.mark.usefixtures("spark")

FOURTH = "20250104_000000"
FOURTH_ROWS = "id,qty,note\na,2,x\nb,20,x\nc,3,y\nd,4,z\ne,5,z\n"


@pytest.fixture(scope="module")
def waiting(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return waiting_shop(tmp_path_factory.mktemp("waiting"))


@pytest.fixture(scope="module")
def uninterrupted(waiting: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return uninterrupted_shop(waiting, tmp_path_factory.mktemp("uninterrupted"))


@pytest.fixture
def shop(uninterrupted: Project, tmp_path: Path) -> Project:
    """All three snapshots are in every layer, and there is nothing to do."""
    return uninterrupted.copy(tmp_path / "shop")


# --- interrupted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", INTERRUPTIONS)
def test_after_an_interruption_anywhere_the_next_run_gives_the_same_result(
    waiting: Project, uninterrupted: Project, tmp_path: Path, point: str
) -> None:
    shop = shop_to_interrupt(waiting, tmp_path / "shop", point)
    with interrupt_at(point):
        shop.run()
    assert_completed(shop, uninterrupted)


# --- changed by others ------------------------------------------------------------------------------------------


def assert_repaired(project: Project, uninterrupted: Project) -> None:
    """The next run restores every table, and the one after it has nothing to do."""
    done = project.run()
    assert done.code == 0, done.document
    assert lake_content(project) == lake_content(uninterrupted)
    assert project.run().document["nothing_new"]


def sql(spark: SparkSession, project: Project, statement: str, table: str) -> None:
    spark.sql(statement.format(f"delta.`{project.lake / table}`"))


def test_without_the_state_folder_nothing_is_written_again(shop: Project) -> None:
    assert (shop.lake / "_state/bronze/items/checkpoint").is_dir()  # of the stream
    shutil.rmtree(shop.lake / "_state")
    before = shop.versions()
    done = shop.run()
    assert done.code == 0
    assert shop.versions() == before
    assert set(done.statuses("silver").values()) == {"current"}


def test_a_bronze_restored_to_an_older_version_is_repaired(
    spark: SparkSession, shop: Project, uninterrupted: Project
) -> None:
    sql(spark, shop, "RESTORE TABLE {} TO VERSION AS OF 0", "bronze/items")
    assert_repaired(shop, uninterrupted)


def test_a_missing_bronze_is_rebuilt_from_its_change_sets(shop: Project, uninterrupted: Project) -> None:
    shutil.rmtree(shop.lake / "bronze/items")
    assert_repaired(shop, uninterrupted)


def test_a_bronze_rewritten_with_the_same_rows_changes_nothing(
    spark: SparkSession, shop: Project, uninterrupted: Project
) -> None:
    path = str(shop.lake / "bronze/items")
    rows = spark.createDataFrame(spark.read.format("delta").load(path).toArrow())
    rows.write.format("delta").mode("overwrite").save(path)
    assert_repaired(shop, uninterrupted)


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("bronze/items", "UPDATE {} SET qty = 0 WHERE note = 'x'"),
        ("silver/items", "DELETE FROM {} WHERE note = 'x'"),
        ("gold/notes", "DELETE FROM {} WHERE note = 'x'"),
        ("bronze/items", "INSERT INTO {0} SELECT * FROM {0} WHERE note = 'x'"),
        ("silver/items", "INSERT INTO {} VALUES ('zz', 1, 'x'), ('zz', 2, 'x'), ('a', 1, 'x'), ('b', 0, 'y')"),
        ("gold/notes", "INSERT INTO {0} SELECT * FROM {0}"),
    ],
)
def test_a_table_changed_by_hand_is_repaired(
    spark: SparkSession, shop: Project, uninterrupted: Project, table: str, statement: str
) -> None:
    sql(spark, shop, statement, table)
    assert_repaired(shop, uninterrupted)


def test_optimize_causes_no_full_refresh(spark: SparkSession, shop: Project) -> None:
    for table in TABLES:
        sql(spark, shop, "OPTIMIZE {}", table)
    before = shop.versions()
    done = shop.run()
    assert done.code == 0
    assert done.statuses("bronze") == {"items": "current"}
    assert set((done.statuses("silver") | done.statuses("gold")).values()) == {"current"}
    assert shop.versions() == before

    shop.snapshot(FOURTH, items=FOURTH_ROWS)
    for table in TABLES:
        sql(spark, shop, "OPTIMIZE {}", table)
    done = shop.run()
    assert done.statuses("bronze") == {"items": "applied"}
    assert done.statuses("silver") == {"silver.items": "row-wise", "silver.many": "row-wise"}
    assert [row["qty"] for row in shop.rows("silver/items")] == [2, 20, 3, 4, 5]
    assert shop.rows("gold/notes")[0] == {"note": "x", "qty": 22}


def test_a_model_whose_changes_were_vacuumed_is_refreshed_in_full(spark: SparkSession, shop: Project) -> None:
    shop.snapshot(FOURTH, items=FOURTH_ROWS)
    for stage in ("extract", "ingest", "bronze"):
        assert shop(stage).code == 0
    own = spark.newSession()
    own.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    own.sql(f"VACUUM delta.`{shop.lake / 'bronze/items'}` RETAIN 0 HOURS")
    done = shop.run()
    assert done.code == 0, done.stderr
    assert done.outcome("silver", "silver.items")["status"] == "full"
    assert "can no longer be read" in done.outcome("silver", "silver.items")["note"]
    assert [row["qty"] for row in shop.rows("silver/items")] == [2, 20, 3, 4, 5]


def test_an_incomplete_change_set_is_not_applied(shop: Project) -> None:
    shop.snapshot(FOURTH, items=FOURTH_ROWS)
    for stage in ("extract", "ingest"):
        assert shop(stage).code == 0
    lost = next((shop.lake / shop.ledger()[-1]["path"]).glob("*.parquet"))
    kept = lost.rename(shop.folder / "kept.parquet")
    landed = shop.lake / f"landing/items/{FOURTH}/items.csv"  # with it, the run would write the change set again
    kept_landed = landed.rename(shop.folder / "kept.csv")
    before = shop.versions()
    failed = shop.run()
    assert failed.code == 3
    note = failed.outcome("bronze", "items")["note"]
    for text in ("change set 4 of items has 0 readable rows", "expected: 1 row", "restore the change set"):
        assert text in note
    assert shop.versions() == before
    kept.rename(lost)
    kept_landed.rename(landed)
    assert shop.run().code == 0
    assert shop.rows("gold/notes")[0] == {"note": "x", "qty": 22}


def test_a_change_set_is_read_again_after_a_network_failure(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error that the stream passes to the stage has its original cause."""
    shop.snapshot(FOURTH, items=FOURTH_ROWS)
    inner, resets = change_sets.read_complete, [Exception("java.net.SocketException: Connection reset")]

    def counted(*arguments: Any) -> Any:
        if resets:
            raise InfrastructureError("change set 4 of items has 0 readable rows") from resets.pop()
        return inner(*arguments)

    monkeypatch.setattr(change_sets, "read_complete", counted)
    assert shop.run().code == 0
    assert not resets
    assert shop.rows("gold/notes")[0] == {"note": "x", "qty": 22}
