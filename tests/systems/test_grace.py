"""`missing` on real Delta: random presence patterns through tables of each kind, against tests/grace_model.py."""

from __future__ import annotations

import json
import os
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from grace_model import BAD, Row, Table, Taken
from helpers import Project

pytestmark = pytest.mark.usefixtures("spark")

SEED = os.environ.get("LAKEHOUSE_SEED")  # make test-random sets others
# By lake: the seed, and how many runs. With these seeds three of them have every kind of change.
DRAWS = {"driver": (SEED or "grace 2", 5 if SEED else 3), "spark": (SEED or "grace 16", 5 if SEED else 3)}
KINDS = {"accepted", "unchanged", "held", "I", "U", "D", "M", "R"}
FIRST = datetime(2025, 1, 1, tzinfo=timezone.utc)
GUARD = {"min_rows": 0, "max_deleted": 1, "max_quarantined": 1}
BASE = {"format": "csv", "schema": "id INT, qty INT", "keys": ["id"], "guard": GUARD}
DAY = timedelta(days=1)
SPARK_ONLY = {"driver_compare_bytes": 0, "small_table_bytes": 0, "local_rows": 0, "large_snapshot_bytes": 0}
SETTINGS: dict[str, tuple[dict[str, Any], Table]] = {
    "two": ({"missing": {"after": "2 snapshots"}}, Table(2)),
    "three_marked": ({"missing": {"after": "3 snapshots", "then": "mark"}}, Table(3, mark=True)),
    "at_once_marked": ({"missing": {"then": "mark"}}, Table(0, mark=True)),
    "two_days": ({"missing": {"after": "2d"}}, Table(2 * DAY)),
    "two_days_marked": ({"missing": {"after": "2d", "then": "mark"}}, Table(2 * DAY, mark=True)),
    "history": ({"missing": {"after": "2 snapshots"}, "scd": 2}, Table(2)),
    "history_days": ({"missing": {"after": "2d"}, "scd": 2}, Table(2 * DAY)),
    "none": ({}, Table(0)),
}


LAKES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "driver": (("three_marked", "two", "history", "none"), {}),
    "spark": (("two_days_marked", "two_days", "at_once_marked", "history_days"), SPARK_ONLY),
}


def as_csv(contents: dict[int, int], unreadable: bool) -> str:
    lines = [f"{key},{'bad' if content == BAD else content}" for key, content in contents.items()]
    return "\n".join(["id,qty", *lines, *(["no number,1"] if unreadable else [])]) + "\n"


@pytest.mark.timeout(900)  # many runs: minutes, where the machine has other things to do
@pytest.mark.parametrize("lake", LAKES)
def test_lakes_with_missing_are_as_the_plain_model(tmp_path: Path, lake: str) -> None:
    names, tuning = LAKES[lake]
    seed, runs = DRAWS[lake]
    rng = random.Random(f"{seed} {names}")
    tables = {name: {**BASE, "file": f"{name}.csv", **SETTINGS[name][0]} for name in names}
    models = {f"silver.of_{name}": (f"SELECT id, qty FROM bronze.{name}", {"keys": ["id"]}) for name in names[:2]}
    project = Project(tmp_path, tables, models, tuning=tuning)
    expected = {name: Table(SETTINGS[name][1].after, SETTINGS[name][1].mark) for name in names}
    time, contents, kinds = FIRST, dict[int, int](), set[str]()
    for number in range(runs):
        taken: dict[str, dict[str, Taken]] = {name: {} for name in names}
        for last in [False, True] if rng.random() < 0.7 else [True]:  # snapshots that one run takes
            time += rng.choice([DAY / 2, DAY, 3 * DAY / 2])
            if rng.random() < 0.75 or not contents:
                contents = {k: rng.choice([1, 1, 2, BAD]) for k in range(10) if rng.random() < 0.55}
            unreadable = last and number > 0 and rng.random() < 0.3
            stamp = f"{time:%Y%m%d_%H%M%S}"
            project.snapshot(stamp, **dict.fromkeys(names, as_csv(contents, unreadable)))
            for name, table in expected.items():
                taken[name][stamp] = table.take(time, contents, unreadable)

        result = project.run()

        for done in (done for each in taken.values() for done in each.values()):
            kinds |= {done.status, *done.operations.values()}
        held = [name for name in names if taken[name][stamp].status == "held"]
        assert result.code == (4 if held else 0), result.document
        for name in held[: rng.randrange(len(held) + 1)]:
            assert project("approve", name, stamp).code == 0
            assert project("bronze", name).code == 0
            taken[name][stamp] = expected[name].take(time, contents, unreadable, approved=True)
        for name in names:
            assert_equal(project, name, expected[name], taken[name])
    assert SEED or kinds == KINDS
    project.run()
    for model in models:
        name = model.removeprefix("silver.of_")
        live = {key: row.content for key, row in expected[name].rows.items() if not row.marked}
        assert {row["id"]: row["qty"] for row in project.rows(f"silver/of_{name}")} == live
    if lake == "driver" or SEED:  # the other one is rebuilt from full loads alone
        assert_rebuilt_as_it_is(project, names)
    project.document["retention"] = {"change_sets": "1d"}
    project.configure()
    assert project("expire").code == 0
    assert any(entry["kind"] == "full-load" and entry["sequence"] > 1 for entry in project.ledger(names[0]))
    assert_rebuilt_as_it_is(project, names)
    key = min(expected[names[0]].rows, key=lambda key: expected[names[0]].rows[key].since is None)
    assert project("forget", names[0], str(key), "--yes").code == 0
    assert key not in [row["id"] for row in project.rows(f"bronze/{names[0]}")]
    assert_verified(project)


def assert_verified(project: Project) -> None:
    verified = project("verify")
    failed = [check for check in verified.document["checks"] if check["result"] == "failed"]
    assert (verified.code, failed) == (0, []), json.dumps(failed, indent=1)


def assert_rebuilt_as_it_is(project: Project, names: tuple[str, ...]) -> None:
    """Assert that the change sets give bronze as it is, so that comparing it with them writes nothing."""
    rows, versions = {name: project.rows_with_cdc(f"bronze/{name}") for name in names}, project.write_counts()
    assert project("bronze", "--full-refresh").code in (0, 4)
    assert {name: project.rows_with_cdc(f"bronze/{name}") for name in names} == rows
    assert project.write_counts() == versions


def assert_equal(project: Project, name: str, table: Table, taken: dict[str, Taken]) -> None:
    """Assert that the ledger, the change sets and bronze of a table are as the model has them after some snapshots."""
    for stamp, done in taken.items():
        entry = [row for row in project.ledger(name) if f"{row['snapshot_time']:%Y%m%d_%H%M%S}" == stamp][-1]
        assert entry["status"] == done.status, (name, stamp)
        if done.status == "accepted":
            counts = ("inserted", "updated", "deleted", "unchanged")
            assert {each: entry[each] for each in counts} == {each: done.counts[each] for each in counts}, (name, stamp)
            assert {row["id"]: row["_cdc_operation"] for row in project.change_set(entry)} == done.operations
            parts = ("inserted", "updated", "unchanged", "quarantined", "duplicates")
            assert sum(entry[each] for each in parts) == entry["rows_read"]
        if name != "none" and done.status != "held":
            assert entry["missing"] == done.missing, (name, stamp)
    rows = pl.read_delta(str(project.lake / "bronze" / name))
    assert name != "none" or "_cdc_missing_since" not in rows.columns
    if "__START_AT" in rows.columns:
        windows = {(r["id"], r["qty"], r["__START_AT"], r["__END_AT"]) for r in rows.to_dicts()}
        assert windows == {(w.key, w.content, w.start, w.end) for w in table.windows}, name
        rows = rows.filter(pl.col("__END_AT").is_null())
        since = {r["id"]: r["_cdc_missing_since"] for r in rows.to_dicts()}
        assert since == {key: row.since for key, row in table.rows.items()}
        return
    found = {
        r["id"]: Row(
            r["qty"],
            r["_cdc_operation"],
            r["_cdc_timestamp"],
            r["_cdc_sequence"],
            r.get("_cdc_missing_since"),
            marked=r["_cdc_operation"] == "D",
        )
        for r in rows.to_dicts()
    }
    wanted = {key: row.__class__(**{**row.__dict__, "lacking": 0}) for key, row in table.rows.items()}
    assert found == wanted, name
