"""The net change of a Change Data Feed, key by key, and the version from which on it is that of change sets."""

from __future__ import annotations

from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession

from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.storage.delta_log import Commit, TableVersion
from lakehouse.verify import net_changes
from lakehouse.verify.check import Claim
from lakehouse.verify.checked_table import CheckedTable
from lakehouse.verify.delta_history import DeltaHistory, _check_commit_counts
from lakehouse.verify.log_summary import summarize_log
from lakehouse.verify.net_changes import NAMES, Place, count_net_images, find_place

INSERT, DELETE = "insert", "delete"
Image = tuple[str, str | None, str, int]  # key, content, type, version


def update(key: str, before: str | None, after: str | None, version: int) -> list[Image]:
    return [(key, after, "update_postimage", version), (key, before, "update_preimage", version)]


@pytest.mark.parametrize(
    ("images", "counts"),
    [
        ([("a", "1", INSERT, 3), ("b", None, DELETE, 3), *update("c", None, "1", 3)], (1, 1, 1)),
        ([("a", "1", INSERT, 3), *update("a", "1", "2", 4)], (1, 0, 0)),  # new, whatever came after
        ([("a", "1", INSERT, 3), ("a", "1", DELETE, 4)], (0, 0, 0)),
        ([("a", "1", DELETE, 3), ("a", "1", INSERT, 4)], (0, 0, 0)),
        ([("a", "1", DELETE, 3), ("a", None, INSERT, 4)], (0, 1, 0)),
        ([*update("a", "1", "2", 3), *update("a", "2", "1", 4)], (0, 0, 0)),  # as it was
        ([*update("a", "1", "2", 3), *update("a", "2", None, 10)], (0, 1, 0)),
        ([*update("a", "1", "2", 3), ("a", "2", DELETE, 4)], (0, 0, 1)),
        ([], (0, 0, 0)),
    ],
)
def test_a_key_counts_by_what_it_was_first_and_is_last(
    spark: SparkSession, images: list[Image], counts: tuple[int, int, int]
) -> None:
    schema = "`a key` STRING, content STRING, _change_type STRING, _commit_version BIGINT"

    found = count_net_images(spark.createDataFrame(images, schema), ["a key"])

    assert (found["inserted"], found["updated"], found["deleted"]) == counts


def entry(sequence: int, **values: Any) -> LedgerEntry:
    time = datetime(2025, 1, sequence, tzinfo=timezone.utc)
    return LedgerEntry("t", sequence, time, "", "accepted", **{"kind": "cdc", "updated": 1} | values)


def merge(version: int, sequence: int | None, **metadata: Any) -> Commit:
    return Commit(version, "MERGE", ({"sequence": sequence} if sequence else {}) | metadata)


FOUR = [entry(1), entry(2), entry(3, updated=0), entry(4)]
APPLIED = [merge(0, 1), merge(1, 2), merge(2, 3), merge(3, 4)]  # each by a commit, before the replay
AGAIN = merge(4, 4, replays=1, healed="its change sets were numbered again")
REBUILD = entry(4, kind="full-load", reason="rebuilt by another schema")


@pytest.mark.parametrize(
    ("start", "commits", "others", "place"),
    [
        (2, [*APPLIED, AGAIN], {}, Place(0, [2, 4])),
        (1, [*APPLIED, AGAIN], {}, Place(-1, [1, 2, 4])),
        (4, [*APPLIED, AGAIN], {}, Place(2, [4])),
        (5, APPLIED, {}, None),  # nothing that bronze has was numbered again
        # a backlog that the place divides
        (3, [merge(0, 1), merge(1, 4, sequences=[2, 3, 4]), merge(2, 4, replays=1)], {}, Place(0, [2, 4])),
        (4, [APPLIED[3], AGAIN], {}, None),  # the log begins after the place
        (4, [*APPLIED[2:], AGAIN], {}, Place(2, [4])),
        (4, [*APPLIED, AGAIN], {"lag_reason": "change sets wait to be applied"}, None),
        (4, [*APPLIED, merge(4, None), merge(5, 4, replays=1)], {}, None),  # of another writer
        (4, [*APPLIED[:3], merge(3, None), merge(4, 4), merge(5, 4, replays=1)], {}, None),
        (4, [*APPLIED, merge(4, 4, forgot=1), merge(5, 4, replays=1)], {}, None),
        (4, [*APPLIED, AGAIN], {"unverifiable_sequences": frozenset({4})}, None),
        (4, [*APPLIED, AGAIN], {"accepted": [*FOUR[:3], entry(4, missing=1)]}, None),
        (4, [*APPLIED, AGAIN], {"accepted": [*FOUR[:3], REBUILD]}, None),
        (4, [*APPLIED, AGAIN], {"config": SimpleNamespace(scd=2, feed=None)}, None),
    ],
)  # fmt: skip
def test_the_place_of_a_replay_is_before_the_first_commit_that_was_numbered_again(
    start: int, commits: list[Commit], others: dict[str, Any], place: Place | None
) -> None:
    version = TableVersion("a", commits[-1].version, 1, commits[::-1])
    config = SimpleNamespace(scd=1, feed=None)
    known = {"config": config, "accepted": FOUR, "lag_reason": "", "unverifiable_sequences": frozenset()} | others
    table = SimpleNamespace(history=LedgerHistory(known["accepted"]), **known)

    assert find_place(cast(CheckedTable, table), version, summarize_log(version, [start])) == place


def test_a_change_feed_is_read_from_before_the_first_version() -> None:
    commits = [merge(1, 2), Commit(0, "WRITE", {"sequence": 1})]
    history = DeltaHistory(cast(SparkSession, None), "/lake/items", TableVersion("a", 1, 1, commits))

    assert history._attempt_or_none(lambda start: start, -1) == -1


@pytest.mark.parametrize(
    ("net", "result", "figures"),
    [
        ((0, 2, 0), "holds", "sequences 1-2, 4"),
        (
            (0, 1, 0),
            "failed",
            "sequences 2, 4, which were numbered again, since version 0: updated 1, but 2 by the change",
        ),
        (
            None,
            "not checkable",
            "because sequences 2, 4 have no commit of their own: version 4 repaired the whole table",
        ),
    ],
)
def test_a_replayed_table_has_the_net_change_of_its_change_sets_since_the_place(
    monkeypatch: pytest.MonkeyPatch, net: tuple[int, int, int] | None, result: str, figures: str
) -> None:
    commits = [AGAIN, *APPLIED[:0:-1], Commit(0, "WRITE", {"sequence": 1})]
    version = TableVersion("a", 4, 1, commits)
    counts = {(0, "insert"): 1}
    monkeypatch.setattr(DeltaHistory, "read_from_earliest", lambda *_: (0, counts))
    monkeypatch.setattr(DeltaHistory, "read_net", lambda *_: net and dict(zip(NAMES, net, strict=True)))
    monkeypatch.setattr(net_changes, "count_net_changes", lambda *_: {"inserted": 0, "updated": 2, "deleted": 0})
    entries = [entry(1, inserted=1, updated=0), *FOUR[1:]]
    config = SimpleNamespace(scd=1, feed=None, keys=["id"])
    table = SimpleNamespace(config=config, accepted=entries, lag_reason="", history=LedgerHistory(entries))
    table.unverifiable_sequences = frozenset()
    history = DeltaHistory(cast(SparkSession, None), "/lake/t", version)

    claim = Claim("I5", "Change Data Feed = the ledger", "t")
    check = _check_commit_counts(claim, cast(CheckedTable, table), history, summarize_log(version, [2]))

    assert (check.result, check.figures[: len(figures)]) == (result, figures)
