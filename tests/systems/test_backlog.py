"""Many pending snapshots that are taken in one pass give the same lake as one by one."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from crash_points import interrupt_at
from helpers import Project

pytestmark = pytest.mark.usefixtures("spark")

TIMES = [f"202501{day:02}_000000" for day in range(1, 7)]
TABLES: dict[str, dict[str, Any]] = {
    "plain": {"schema": "id INT, v STRING, w DECIMAL(6,2), at TIMESTAMP"},
    "history": {"schema": "id INT, v STRING, w DECIMAL(6,2), at TIMESTAMP", "scd": 2, "history_for": ["v"]},
    "guarded": {"schema": "id INT, v STRING", "guard": {"max_deleted": 0.3, "min_rows": 2, "max_quarantined": 0.4}},
    "strict": {"schema": "id INT, v INT", "malformed": "fail"},
    "grown": {"schema": "id STRING, v STRING, w INT", "keys": ["id", "v"]},
}
IGNORED = {"run_id", "recorded_at"}
SEED = int(os.environ.get("LAKEHOUSE_SEED", "1"))


def content(name: str, number: int, rng: random.Random) -> str:
    """Return a random snapshot of a table: few keys, so that rows go, come back, stay and repeat."""
    keys = [key for key in range(8) if rng.random() < 0.7]
    if name in ("plain", "history"):
        rows = [f"{k},{rng.choice('ab')},{rng.choice(('1', '1.00', '-2.5'))},2025-01-0{rng.choice('12')}" for k in keys]
        rows += rows[:1] if rng.random() < 0.4 else []
        rows += [f"{keys[-1]},c,x,"] if keys and rng.random() < 0.3 else []  # its key goes to quarantine
        header = "id,v,w,at"
    elif name == "grown":
        rows, header = [f"k{k},{rng.choice('ab')},{k % 2}" for k in keys], "id,v,w"
        rows = list({row.rpartition(",")[0]: row for row in rows}.values())
        if number < 3:  # a column that is delivered later
            rows, header = [row.rpartition(",")[0] for row in rows], "id,v"
    else:
        rows, header = [f"{k},{rng.choice('12')}" for k in keys], "id,v"
        rows += ["9,9,9"] if name == "strict" and rng.random() < 0.3 else []
        rows += ["x,1"] if name == "guarded" and rng.random() < 0.3 else []
    return "\n".join([header, *rows, ""])


def snapshots(seed: int) -> list[dict[str, str]]:
    rng, taken = random.Random(seed), list[dict[str, str]]()
    for number in range(len(TIMES)):
        files = {name: content(name, number, rng) for name in TABLES}
        if taken and rng.random() < 0.3:  # as the day before
            files["plain"] = taken[-1]["plain"]
        taken.append(files)
    return taken


def shop(folder: Path, **tuning: int) -> Project:
    open_guard = {"max_deleted": 1.0, "max_quarantined": 1.0, "min_rows": 0}
    common = {"format": "csv", "keys": ["id"], "guard": open_guard}
    tables = {name: common | {"file": f"{name}.csv"} | each for name, each in TABLES.items()}
    models: dict[str, tuple[str, dict[str, Any]]] = {
        "silver.plain": ("SELECT p.id AS id, p.v AS v, p.w AS w FROM bronze.plain AS p", {"keys": ["id"]}),
        "gold.by_v": ("SELECT p.v AS v, SUM(p.w) AS w, COUNT(*) AS n FROM silver.plain AS p GROUP BY p.v", {}),
    }
    return Project(folder, tables, models, tuning=tuning or None)


def state(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in TABLES:
        entries = [{k: v for k, v in row.items() if k not in IGNORED} for row in project.ledger(name)]
        for entry in entries:
            entry["reason"] = (entry["reason"] or "").replace(str(project.folder), "")
        found[f"ledger of {name}"] = entries
        found[f"change sets of {name}"] = [sorted(map(str, project.change_set(row))) for row in entries if row["path"]]
        found[f"bronze of {name}"] = project.rows_with_cdc(f"bronze/{name}")
    for table in ("quarantine/plain", "quarantine/history", "quarantine/guarded", "silver/plain", "gold/by_v"):
        found[table] = project.rows_with_cdc(table) if (project.lake / table).exists() else None
    return found


def test_a_backlog_gives_the_lake_of_one_by_one(tmp_path: Path) -> None:
    files = snapshots(SEED)
    at_once, one_by_one = shop(tmp_path / "at_once"), shop(tmp_path / "one_by_one", backlog_snapshots=0)
    codes = []
    for project in (at_once, one_by_one):
        for stamp, contents in zip(TIMES, files, strict=True):
            project.snapshot(stamp, **contents)
            if project is one_by_one:
                codes.append(project.run().code)
        codes.append(project.run().code)
    assert codes[0] in (0, 4, 5) and set(codes[1:]) <= {0, 4, 5}

    left, right = state(at_once), state(one_by_one)
    for name, found in left.items():
        assert found == right[name], name
    assert at_once.write_counts()["bronze/plain"] <= 2, "the first change set, and the net of all others"
    assert at_once.write_counts()["raw/ledger"] < 20
    verified = at_once("verify")
    checks = verified.document["checks"]
    assert verified.code == 0, [c for c in checks if c["result"] == "failed"]
    held = {c["what"] for c in checks if c["result"] == "holds" and c["name"] == "plain"}
    assert {"Change Data Feed = the ledger", "one commit for each sequence"} <= held


def test_a_backlog_that_was_killed_is_taken_by_the_next_run(tmp_path: Path) -> None:
    killed, whole = shop(tmp_path / "killed"), shop(tmp_path / "whole")
    for stamp, contents in zip(TIMES[:4], snapshots(3), strict=False):
        for project in (killed, whole):
            project.snapshot(stamp, **contents)
    for project in (killed, whole):
        assert project("extract").code == 0
    with interrupt_at("backlog-compared"):
        killed("ingest", "plain")
    assert [row["status"] for row in killed.ledger("plain")] == []

    for project in (killed, whole):
        assert project.run().code in (0, 4, 5)

    left, right = state(killed), state(whole)
    for name, found in left.items():
        assert found == right[name], name
    assert killed("verify").code == 0
