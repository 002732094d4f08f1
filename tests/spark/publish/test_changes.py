"""Which changes of the lake's table publishing reads from the Change Data Feed. No JVM, no PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
from pyspark.sql import SparkSession

from lakehouse.publish import sync
from lakehouse.publish.catalog import PublishPosition
from lakehouse.storage.delta_log import Commit, TableVersion
from lakehouse.storage.paths import Lake

NO_SESSION = cast(SparkSession, None)
UNREADABLE = "the change feed of gold.cube can no longer be read"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with the table gold.cube, whose log has the versions 0 to 5."""
    log = tmp_path / "gold/cube/_delta_log"
    log.mkdir(parents=True)
    for version in range(6):
        info = {"operation": "MERGE", "txnId": f"commit {version}"}
        (log / f"{version:020}.json").write_text(json.dumps({"commitInfo": info}))
    (log / f"{5:020}.crc").write_text(json.dumps({"metadata": {"id": "a"}, "tableSizeBytes": 1}))
    return Lake(str(tmp_path))


def published(version: int) -> PublishPosition:
    return PublishPosition("shop", "gold.cube", "a", version, f"commit {version}")


def test_the_feed_is_not_read_over_a_missing_commit(lake: Lake) -> None:
    assert [sync.has_unread_changes(NO_SESSION, lake, published(version)) for version in (1, 2, 4)] == [True] * 3

    Path(lake.root, "gold/cube/_delta_log", f"{3:020}.json").unlink()

    read = [sync.has_unread_changes(NO_SESSION, lake, published(version)) for version in (1, 2, 4)]
    assert read == [False, False, True]


@pytest.mark.parametrize(
    ("versions", "reason"),
    [((5, 4, 3, 2, 1, 0), ""), ((5, 3, 2, 1, 0), UNREADABLE), ((5, 4, 2, 1, 0), UNREADABLE), ((5, 4), "")],
    ids=["complete", "a gap", "a gap right after the position", "as far back as Spark was asked"],
)
def test_a_missing_commit_in_a_history_from_spark_leads_to_a_full_comparison(
    lake: Lake, versions: tuple[int, ...], reason: str
) -> None:
    version = TableVersion("a", 5, 1, [Commit(number, "MERGE", {}) for number in versions])

    assert sync._feed_unusable_reason(lake, version, published(2)) == reason
    assert sync.is_behind(lake, version, published(2))
