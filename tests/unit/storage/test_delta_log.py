"""The log of a Delta table is read without Spark. tests/spark/lake compares the result with Spark's."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lakehouse.storage import delta_log
from lakehouse.storage.delta_log import Commit, commit_id, newest_version

PROGRESS = {"stage": "silver", "inputs": {"bronze.items": {"id": "x", "version": 3}}}


def write_log(table: Path, *commits: tuple[str, dict[str, Any] | str | None], checksum: object = None) -> Path:
    """Write a log with these commits from version 0 on: the operation, and the recorded metadata."""
    log = table / "_delta_log"
    log.mkdir(parents=True)
    for version, (operation, metadata) in enumerate(commits):
        info = {"operation": operation} | ({"userMetadata": metadata} if isinstance(metadata, str) else {})
        info |= {"userMetadata": json.dumps({"lakehouse": metadata})} if isinstance(metadata, dict) else {}
        entries = [{"commitInfo": info}, {"add": {"path": 'a "commitInfo"'}}]
        (log / f"{version:020}.json").write_text("\n".join(map(json.dumps, entries)))
    content = {"metadata": {"id": "an id"}, "tableSizeBytes": 7} if checksum is None else checksum
    (log / f"{len(commits) - 1:020}.crc").write_text(content if isinstance(content, str) else json.dumps(content))
    return table


def test_the_current_version_has_the_newest_commit_and_those_before_it(tmp_path: Path) -> None:
    current = delta_log.read_current_version(
        write_log(tmp_path, ("WRITE", PROGRESS), ("OPTIMIZE", None), ("MERGE", "text of another writer"))
    )
    assert current is not None
    assert (current.id, current.version, current.size) == ("an id", 2, 7)
    assert list(current.commits) == [Commit(2, "MERGE", {}), Commit(1, "OPTIMIZE", {}), Commit(0, "WRITE", PROGRESS)]
    assert current.recorded_progress() is None  # another writer has merged since
    assert current.last_refresh_version == 0
    assert [current.has_changed_since(version) for version in (2, 1, 0)] == [False, True, True]


def test_commits_are_read_only_as_far_back_as_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = [("MERGE", {"sequence": n}) for n in range(40)] + [("VACUUM END", None)] * 3
    current = delta_log.read_current_version(write_log(tmp_path, *commits))
    assert current is not None
    read: list[int] = []
    contents = delta_log.file_io.read_files
    monkeypatch.setattr(
        delta_log.file_io, "read_files", lambda files: contents([f for f in files if not read.append(1)])
    )
    assert current.recorded_progress() == {"sequence": 39}
    assert len(read) == 16
    assert not current.has_changed_since(39)
    assert current.has_changed_since(20)
    assert len(read) == 32
    assert [c.version for c in reversed(current.commits)] == list(range(43))
    assert (len(read), len(current.commits), current.commits[-1].version) == (43, 43, 0)


def test_a_reader_has_unread_changes_after_a_change_of_rows_or_of_the_table(tmp_path: Path) -> None:
    current = delta_log.read_current_version(
        write_log(tmp_path, ("WRITE", PROGRESS), ("MERGE", {"sequence": 2}), ("OPTIMIZE", None))
    )
    assert current is not None
    assert not current.has_unread_changes("an id", 2)
    assert not current.has_unread_changes("an id", 1)  # OPTIMIZE changes no row
    assert current.has_unread_changes("an id", 0)
    assert current.has_unread_changes("another id", 2)  # the table was replaced
    assert current.has_unread_changes("an id", 3)  # the table was restored or replaced


def test_commits_are_missing_if_the_log_has_a_gap_or_was_cleaned_up(tmp_path: Path) -> None:
    table = write_log(tmp_path, *[("MERGE", {"sequence": n}) for n in range(6)])
    (table / "_delta_log" / f"{3:020}.json").unlink()
    current = delta_log.read_current_version(table)
    assert current is not None
    assert [current.has_missing_commits_since(version) for version in (5, 4, 3, 2, 0)] == [
        False,
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("versions", "since", "is_missing"),
    [
        ((8, 6, 5, 4), 6, True),  # a gap directly after the reader's version
        ((8, 6, 5, 4), 5, True),
        ((8, 7, 6), 6, False),
        ((8, 7), 3, False),  # the history ends at its limit: older commits are unknown
        ((8, 7), 8, False),
        ((), 8, False),
    ],
)
def test_a_history_from_spark_shows_a_gap_but_not_its_limit(
    versions: tuple[int, ...], since: int, is_missing: bool
) -> None:
    commits = [delta_log.Commit(version, "MERGE", {}) for version in versions]

    assert delta_log.TableVersion("an id", 8, 0, commits).has_missing_commits_since(since) is is_missing


def test_threads_read_each_commit_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = delta_log.read_current_version(write_log(tmp_path, *[("MERGE", {"sequence": n}) for n in range(40)]))
    assert current is not None
    contents = delta_log.file_io.read_files

    def slow(files: Any) -> list[bytes | None]:
        time.sleep(0.02)
        return contents(files)

    monkeypatch.setattr(delta_log.file_io, "read_files", slow)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(list, [current.commits] * 4))
    assert all([c.version for c in commits] == list(range(39, -1, -1)) for commits in found)


def test_a_cleaned_up_log_has_its_remaining_commits(tmp_path: Path) -> None:
    table = write_log(tmp_path, *[("OPTIMIZE", None)] * 6)
    for version in range(3):
        (table / "_delta_log" / f"{version:020}.json").unlink()
    current = delta_log.read_current_version(table)
    assert current is not None
    assert [c.version for c in current.commits] == [5, 4, 3]
    assert not current.has_changed_since(2)
    assert current.has_changed_since(1)  # the log no longer has these commits


@pytest.mark.parametrize(
    "checksum", ["", "{cut", "[]", {"metadata": None, "tableSizeBytes": 1}, {"metadata": {"id": "x"}}]
)
def test_without_the_newest_checksum_there_is_no_version(tmp_path: Path, checksum: object) -> None:
    table = write_log(tmp_path / "table", ("WRITE", PROGRESS), checksum=checksum)
    assert delta_log.read_current_version(table) is None
    (table / "_delta_log" / f"{0:020}.crc").unlink()
    assert delta_log.read_current_version(table) is None
    assert delta_log.read_current_version(tmp_path / "nothing") is None


@pytest.mark.parametrize("content", ["", "{broken", '{"add": {"path": "commitInfo"}}', '{"commitInfo": 3}', "[1]"])
def test_a_commit_without_readable_info_counts_as_foreign(tmp_path: Path, content: str) -> None:
    table = write_log(tmp_path, ("WRITE", PROGRESS), ("OPTIMIZE", None))
    (table / "_delta_log" / f"{1:020}.json").write_text(content)
    current = delta_log.read_current_version(table)
    assert current is not None
    assert current.recorded_progress() is None
    assert current.has_changed_since(0)


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


def test_commits_of_the_same_version_have_different_ids(tmp_path: Path) -> None:
    log = tmp_path / "_delta_log"
    log.mkdir()
    infos = [{"protocol": {}}, {"commitInfo": {"operation": "WRITE", "txnId": "one"}}]
    (log / f"{7:020}.json").write_text("\n".join(map(json.dumps, infos)))
    (log / f"{8:020}.json").write_text("{broken")
    assert [commit_id(tmp_path, version) for version in (7, 8, 9)] == ["one", None, None]
