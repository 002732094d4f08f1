"""Tests that every peer of the bench, and this project, finds the generated changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peers import backlog_data, backlog_run, data, trial
from pyspark.sql import SparkSession

ROWS, SHARE = 4_000, 0.05
NOT_INSTALLED = {"datacompy"}  # needs another version of Polars than the other tools: docs/bench.md


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.mark.parametrize("peer", trial.PEERS)
def test_a_peer_finds_the_generated_changes(peer: str, spark: SparkSession, folder: Path, tmp_path: Path) -> None:
    if reason := trial.missing_reason(peer):
        assert peer in NOT_INSTALLED, reason
        pytest.skip(f"{peer} is not installed: {reason}")
    csv, parquet = data.state_files(folder, ROWS)
    new, expected = data.snapshot_file(folder, ROWS, SHARE), data.expected_changes(ROWS, SHARE)

    found = _run_trial(peer, spark, csv, parquet, new, tmp_path)

    assert [data.Changes(**changes) for changes in found["changes"]] == [expected, expected]
    assert found["written"] > 0 < found["peak"]
    if peer in (trial.OURS, trial.MERGE):
        assert found["bronze_written"]["cdc"] > 0


def _run_trial(peer: str, spark: SparkSession, csv: Path, parquet: Path, new: Path, work: Path) -> dict[str, Any]:
    """Run the trial of a peer in this process, on files that bench/changes.py prepares in other processes."""
    measured = work / "measured"
    if peer in trial.IN_MEMORY:
        return trial.run_in_memory(peer, parquet, new, measured)
    if peer == trial.OURS:
        trial.prepare_state(peer, csv, work)
        trial.land_snapshot(work / "pipeline", new, work / "landed")
        return trial.run_ours(spark, work / "landed", measured)
    if peer == trial.MERGE:
        trial.prepare_state(peer, parquet, work)
    return trial.run_on_spark(spark, peer, work / "table" if peer == trial.MERGE else parquet, new, measured)


def test_ways_to_take_many_snapshots_find_the_same_changes(spark: SparkSession, tmp_path: Path) -> None:
    folders, repository = tmp_path / "source", tmp_path / "repository"
    backlog_data.write_folders(folders, 5, 40, "json")
    backlog_data.write_repository(repository, 5, 40, "json")
    found = [
        backlog_run.take_snapshots(tmp_path / "folders", folders, "json", backlog_run.AT_ONCE),
        backlog_run.take_snapshots(tmp_path / "git", repository, "json", backlog_run.AT_ONCE),
        backlog_run.with_lag(spark, folders, "json", tmp_path / "changes"),
    ]
    # Each of four snapshots changes one row, and one of twenty changes is a replaced key.
    assert [each["changes"] for each in found] == [{"inserted": 40, "updated": 4, "deleted": 0}] * 3


def test_the_expected_changes_have_the_documented_counts(folder: Path) -> None:
    # 200 of 4,000 rows are selected: of each twenty, one is deleted, one gets a new neighbour, 18 are updated.
    assert str(data.expected_changes(ROWS, SHARE)).startswith("10 I, 180 U, 10 D")
    assert str(data.expected_changes(ROWS, 0)).startswith("0 I, 0 U, 0 D")
