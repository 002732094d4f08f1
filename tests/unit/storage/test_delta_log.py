"""What a Delta table's log tells without Spark. Against Spark's own word: tests/spark/lake/test_delta_heads.py."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lakehouse.storage import delta_log
from lakehouse.storage.delta_log import Commit, commit_id, newest_version

OURS = {"stage": "silver", "inputs": {"bronze.items": {"id": "x", "version": 3}}}


def logged(table: Path, *commits: tuple[str, dict[str, Any] | str | None], checksum: object = None) -> Path:
    """A log with these commits, from version 0 on: an operation, and what was recorded with it."""
    log = table / "_delta_log"
    log.mkdir(parents=True)
    for version, (operation, own) in enumerate(commits):
        told = {"operation": operation} | ({"userMetadata": own} if isinstance(own, str) else {})
        told |= {"userMetadata": json.dumps({"lakehouse": own})} if isinstance(own, dict) else {}
        entries = [{"commitInfo": told}, {"add": {"path": 'a "commitInfo"'}}]
        (log / f"{version:020}.json").write_text("\n".join(map(json.dumps, entries)))
    told = {"metadata": {"id": "an id"}, "tableSizeBytes": 7} if checksum is None else checksum
    (log / f"{len(commits) - 1:020}.crc").write_text(told if isinstance(told, str) else json.dumps(told))
    return table


def test_a_head_is_the_newest_commit_with_those_before_it(tmp_path: Path) -> None:
    head = delta_log.read_current_version(
        logged(tmp_path, ("WRITE", OURS), ("OPTIMIZE", None), ("MERGE", "another's words"))
    )
    assert head is not None
    assert (head.id, head.version, head.size) == ("an id", 2, 7)
    assert list(head.commits) == [Commit(2, "MERGE", {}), Commit(1, "OPTIMIZE", {}), Commit(0, "WRITE", OURS)]
    assert head.recorded_progress() is None  # somebody has merged since
    assert head.last_refresh_version == 0
    assert [head.has_changed_since(version) for version in (2, 1, 0)] == [False, True, True]


def test_commits_are_read_as_far_back_as_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = [("MERGE", {"sequence": n}) for n in range(40)] + [("VACUUM END", None)] * 3
    head = delta_log.read_current_version(logged(tmp_path, *commits))
    assert head is not None
    read: list[int] = []
    contents = delta_log.file_io.read_files
    monkeypatch.setattr(
        delta_log.file_io, "read_files", lambda files: contents([f for f in files if not read.append(1)])
    )
    assert head.recorded_progress() == {"sequence": 39}
    assert len(read) == 16
    assert not head.has_changed_since(39)
    assert head.has_changed_since(20)
    assert len(read) == 32
    assert [c.version for c in reversed(head.commits)] == list(range(43))
    assert (len(read), len(head.commits), head.commits[-1].version) == (43, 43, 0)


def test_who_asks_at_the_same_time_reads_no_commit_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = delta_log.read_current_version(logged(tmp_path, *[("MERGE", {"sequence": n}) for n in range(40)]))
    assert head is not None
    contents = delta_log.file_io.read_files

    def slow(files: Any) -> list[bytes | None]:
        time.sleep(0.02)
        return contents(files)

    monkeypatch.setattr(delta_log.file_io, "read_files", slow)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(list, [head.commits] * 4))
    assert all([c.version for c in commits] == list(range(39, -1, -1)) for commits in found)


def test_of_a_log_that_was_cleaned_up_only_the_rest_is_told(tmp_path: Path) -> None:
    table = logged(tmp_path, *[("OPTIMIZE", None)] * 6)
    for version in range(3):
        (table / "_delta_log" / f"{version:020}.json").unlink()
    head = delta_log.read_current_version(table)
    assert head is not None
    assert [c.version for c in head.commits] == [5, 4, 3]
    assert not head.has_changed_since(2)
    assert head.has_changed_since(1)  # nobody knows


@pytest.mark.parametrize(
    "checksum", ["", "{cut", "[]", {"metadata": None, "tableSizeBytes": 1}, {"metadata": {"id": "x"}}]
)
def test_without_the_newest_checksum_nothing_is_told(tmp_path: Path, checksum: object) -> None:
    table = logged(tmp_path / "table", ("WRITE", OURS), checksum=checksum)
    assert delta_log.read_current_version(table) is None
    (table / "_delta_log" / f"{0:020}.crc").unlink()
    assert delta_log.read_current_version(table) is None
    assert delta_log.read_current_version(tmp_path / "nothing") is None


@pytest.mark.parametrize("content", ["", "{broken", '{"add": {"path": "commitInfo"}}', '{"commitInfo": 3}', "[1]"])
def test_a_commit_that_says_nothing_of_itself_is_taken_for_somebody_elses(tmp_path: Path, content: str) -> None:
    table = logged(tmp_path, ("WRITE", OURS), ("OPTIMIZE", None))
    (table / "_delta_log" / f"{1:020}.json").write_text(content)
    head = delta_log.read_current_version(table)
    assert head is not None
    assert head.recorded_progress() is None
    assert head.has_changed_since(0)


def test_the_newest_version_comes_from_the_logs_file_names(tmp_path: Path) -> None:
    assert newest_version(tmp_path / "nothing") == -1

    log = tmp_path / "_delta_log"
    log.mkdir()
    assert newest_version(tmp_path) == -1

    for version in (0, 9, 10):
        (log / f"{version:020}.json").touch()
    others = [
        "00000000000000000011.checkpoint.parquet",
        "00000000000000000012.crc",
        ".00000000000000000013.json.tmp",
        "00000000000000000014.6a1b.json",
        "00000000000000000001.00000000000000000015.compacted.json",
        "_last_checkpoint",
    ]
    for name in others:
        (log / name).touch()
    assert newest_version(tmp_path) == 10


def test_a_commit_is_told_from_another_one_of_the_same_version(tmp_path: Path) -> None:
    log = tmp_path / "_delta_log"
    log.mkdir()
    infos = [{"protocol": {}}, {"commitInfo": {"operation": "WRITE", "txnId": "one"}}]
    (log / f"{7:020}.json").write_text("\n".join(map(json.dumps, infos)))
    (log / f"{8:020}.json").write_text("{broken")
    assert [commit_id(tmp_path, version) for version in (7, 8, 9)] == ["one", None, None]
