"""Checks of a log in which a commit is missing, which Delta's Change Data Feed skips without an error. No JVM."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from pyspark.sql import SparkSession

from lakehouse.storage import delta_damage
from lakehouse.storage.delta_log import Commit, TableVersion
from lakehouse.verify import delta_history
from lakehouse.verify.check import Claim
from lakehouse.verify.delta_history import DeltaHistory, check_no_rewrite
from lakehouse.verify.log_summary import summarize_log

CLAIM = Claim("I2", "bronze = its Change Data Feed, replayed", "items")


def history(*commits: tuple[int, str]) -> DeltaHistory:
    """Return a table of which Spark returned these commits, newest first."""
    rows = [Commit(version, operation, {"sequence": version + 1}) for version, operation in commits]
    return DeltaHistory(cast(SparkSession, None), "/lake/items", TableVersion("a", commits[0][0], 1, rows))


def merges(*versions: int) -> DeltaHistory:
    return history(*[(version, "MERGE") for version in versions])


def test_changes_are_read_from_the_earliest_version_without_a_missing_commit_after_it() -> None:
    tried: list[int] = []

    def read(start: int) -> int:
        tried.append(start)
        return start

    assert merges(3, 2, 1, 0).read_from_earliest(3, read) == 0
    tried.clear()
    assert merges(8, 7, 6, 4, 3, 2, 1, 0).read_from_earliest(8, read) is not None
    assert min(tried) >= 5


@pytest.mark.parametrize(
    "incomplete",
    [
        history((8, "OPTIMIZE"), (6, "MERGE"), (5, "MERGE"), (0, "WRITE")),
        history((2, "OPTIMIZE"), (0, "WRITE")),  # version 1 may have changed rows
    ],
)
def test_nothing_is_replayed_over_a_missing_commit(incomplete: DeltaHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta_history.delta, "read", lambda *_: SimpleNamespace(columns=[]))
    versions = {c.version for c in incomplete.version.commits if c.changes_rows}

    replayed = delta_history._check_replay(CLAIM, incomplete)
    rewritten = check_no_rewrite("items", incomplete, versions, ["id"])

    for check in (replayed, rewritten):
        assert (check.result, check.code) == ("not checkable", 0)
        assert check.figures.startswith("because the changes up to version"), check.figures


def test_a_log_that_no_longer_has_a_change_of_rows_is_not_replayed() -> None:
    check = delta_history._check_replay(CLAIM, history((8, "OPTIMIZE"), (7, "SET TBLPROPERTIES")))

    assert (check.result, check.figures) == (
        "not checkable",
        "because the changes up to version 8 can no longer be read",
    )


def test_a_log_does_not_account_for_every_change_if_a_commit_is_missing_between_others() -> None:
    assert summarize_log(merges(3, 2, 1).version).incomplete_reason == ""  # retention removed the oldest
    assert summarize_log(merges(3, 1, 0).version).incomplete_reason == "a commit is missing between others"


def test_nothing_is_read_from_before_lost_files_were_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta_history.delta, "schema", lambda *_: [])
    repaired = history((4, "MERGE"), (3, delta_damage.OPERATION), (2, "MERGE"), (1, "MERGE"), (0, "WRITE"))
    tried: list[int] = []

    def read(start: int) -> int:
        tried.append(start)
        return start

    assert repaired.read_from_earliest(4, read) == 3
    assert tried == [3]
