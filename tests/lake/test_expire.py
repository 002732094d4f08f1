"""What retention takes, what it never takes, and that the lake is as good afterwards as before."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from helpers import Project
from pyspark.sql import SparkSession

from lakehouse import expire, landing
from lakehouse.config import Retention
from lakehouse.lake import Lake

pytestmark = pytest.mark.usefixtures("spark")

KILLED = Path(__file__).with_name("killed.py")
FIRST, SECOND, THIRD, FOURTH, FIFTH = (f"2025010{day}_000000" for day in range(1, 6))
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "silver.items": ("SELECT i.id AS id, i.qty AS qty, i.note AS note FROM bronze.items AS i", {"keys": ["id"]}),
}
ROWS = "id,qty,note\na,1,x\nb,2,x\nc,3,y\nd,4,y\n"


def aged(lake: Path, days: int) -> None:
    """Make every Delta table of a lake, and each of its files, so many days older."""
    shift = timedelta(days=days).total_seconds()
    for log in lake.glob("*/*/_delta_log/*"):
        if log.suffix == ".crc":
            log.unlink()  # a checksum of a log that no longer is what it was
        elif log.suffix == ".json":
            stamps = r'("(?:deletionTimestamp|modificationTime|timestamp)":)(\d+)'
            older = re.sub(stamps, lambda m: f"{m[1]}{int(m[2]) - int(shift * 1000)}", log.read_text())
            log.write_text(older)
    for table in lake.glob("*/*/_delta_log"):
        for file in table.parent.rglob("*"):
            if file.is_file():
                os.utime(file, (file.stat().st_atime - shift, file.stat().st_mtime - shift))


def files(project: Project, stamp: str) -> list[str]:
    return sorted(p.name for p in (project.lake / "landing/items" / stamp).iterdir())


def checks(project: Project) -> dict[str, str]:
    """What `verify` says of each thing; none has failed."""
    done = project("verify")
    assert done.code == 0, done.document
    return {f"{c['name']}: {c['what']}": c["result"] for c in done.document["checks"]}


@pytest.fixture(scope="module")
def old(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two accepted snapshots, an unchanged one, a held one that waits, and everything a month old."""
    project = Project(tmp_path_factory.mktemp("old"), models=MODELS)
    project.snapshot(FIRST, items=ROWS)
    assert project.run().code == 0
    project.snapshot(SECOND, items=ROWS.replace("a,1", "a,10").replace("b,2", "b,x"))
    assert project.run().code == 0
    project.snapshot(THIRD, items=ROWS.replace("a,1", "a,10").replace("b,2", "b,x"))
    assert project.run().code == 0
    project.snapshot(FOURTH, items="id,qty,note\na,1,x\n")
    assert project.run().code == 4
    assert project.statuses() == ["accepted", "accepted", "unchanged", "held"]
    aged(project.lake, days=30)
    return project


@pytest.fixture
def shop(old: Project, tmp_path: Path) -> Project:
    project = old.copy(tmp_path / "shop")
    retain(project, landing="30d", vacuum="7d")
    return project


def retain(project: Project, **retention: str) -> None:
    file = project.pipeline / "pipeline.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"retention": retention}))


def test_what_no_table_needs_goes_and_all_that_is_still_checkable_holds(shop: Project) -> None:
    before = {table: shop.whole_rows(table) for table in shop.versions()}
    was = checks(shop)

    looked = shop("expire", "--dry-run")
    assert files(shop, FIRST) == ["_manifest.json", "items.csv"]
    done = shop("expire")

    assert (looked.code, done.code) == (0, 0), done.document
    assert looked.outcome("expire", "items")["status"] == "would be expired"
    assert looked.outcome("expire", "items")["counts"] == done.outcome("expire", "items")["counts"]
    assert done.outcome("expire", "items")["counts"]["snapshots"] == 2
    assert done.outcome("expire", "bronze.items")["status"] == "vacuumed"
    assert looked.outcome("expire", "bronze.items")["counts"] == done.outcome("expire", "bronze.items")["counts"]
    # The first was superseded, the third has the second's bytes; the second is the last accepted, the fourth waits.
    assert [files(shop, stamp) for stamp in (FIRST, THIRD)] == [["_manifest.json"]] * 2
    assert [files(shop, stamp) for stamp in (SECOND, FOURTH)] == [["_manifest.json", "items.csv"]] * 2
    assert {table: shop.whole_rows(table) for table in before} == before
    now = checks(shop)
    changed = {what for what in was if now[what] != was[what]}
    assert {now[what] for what in changed} <= {"not checkable"}
    assert now["items: bronze = the last accepted snapshot"] == "holds"

    again = shop("expire")
    assert again.outcome("expire", "items")["status"] == "kept"
    # VACUUM takes a folder that it has emptied the time after, and counts it.
    assert max(o["counts"].get("files", 0) for o in again.document["outcomes"]) <= 1
    assert shop("approve", "items", FOURTH).code == 0  # what waited can still be taken
    shop.snapshot(FIFTH, items=ROWS)
    assert shop.run().code == 0
    assert [row["qty"] for row in shop.rows("silver/items")] == [1, 2, 3, 4]
    assert len(shop.ledger()) == 6  # nothing that expired was handed out or decided about again
    checks(shop)
    refused = shop("diff", "items", "--from", FIRST, "--to", FIFTH)
    assert refused.code == 2
    assert "have expired" in refused.document["tables"][0]["reason"]


def test_a_run_does_it_once_a_day_and_stays_clean(shop: Project) -> None:
    assert shop("approve", "items", FOURTH).code == 0
    done = shop.run()
    assert done.code == 0, done.document
    assert done.outcome("expire", "items")["status"] == "expired"
    assert shop.run().document["nothing_new"]

    shop.snapshot(FIFTH, items=ROWS)
    assert "expire" not in {o["stage"] for o in shop.run().document["outcomes"]}
    assert shop("expire").code == 0
    assert shop.run().document["nothing_new"]  # nothing that expires is news


def test_killed_in_the_middle_the_next_one_takes_the_rest(shop: Project) -> None:
    command = [sys.executable, str(KILLED), "landing-half-expired", "expire", str(shop.pipeline), "items"]
    killed = subprocess.run(command, cwd=shop.folder, text=True, capture_output=True, timeout=200, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert files(shop, FIRST) == ["_manifest.json", "items.csv"]
    landed = landing.landed(Lake(str(shop.lake)), "items")
    assert [each.expired for each in landed] == [True, False, False, False]

    assert shop("expire").code == 0
    assert [files(shop, stamp) for stamp in (FIRST, THIRD)] == [["_manifest.json"]] * 2
    checks(shop)


def test_changes_that_a_model_has_still_to_read_stay(shop: Project) -> None:
    shop.snapshot(FIFTH, items=ROWS.replace("c,3", "c,30"))
    for stage in ("extract", "ingest", "bronze"):
        assert shop(stage).code in (0, 4)
    aged(shop.lake, days=30)

    done = shop("expire")

    kept = done.outcome("expire", "bronze.items")
    assert (kept["status"], kept["note"]) == ("kept", "silver.items has still to read its changes")
    assert shop.run().outcome("silver", "silver.items")["status"] == "row-wise"


def test_a_table_without_an_accepted_snapshot_keeps_everything(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.snapshot(FIRST, items="id,qty,note\n")
    assert project.run().code == 4
    retain(project, landing="1d", vacuum="7d")

    done = project("expire")

    assert (done.code, done.outcome("expire", "items")["status"]) == (0, "kept")
    assert files(project, FIRST) == ["_manifest.json", "items.csv"]


@pytest.mark.parametrize(
    ("retention", "says"),
    [({}, "everything is kept"), ({"vacuum": "6d"}, "expected at least 7d"), ({"landing": "30"}, "10m, 6h or 1d")],
)
def test_a_retention_that_names_nothing_or_too_little_is_refused(
    tmp_path: Path, retention: dict[str, str], says: str
) -> None:
    project = Project(tmp_path)
    retain(project, **retention)

    refused = project("expire")

    assert refused.code == 2
    assert says in refused.error["found"]


def test_a_run_looks_once_a_day_and_at_once_where_the_retention_changed(tmp_path: Path) -> None:
    lake, noon = Lake(str(tmp_path)), datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    kept, other = Retention(landing=timedelta(days=30)), Retention(landing=timedelta(days=3))
    assert not expire.is_due(Retention(), lake, noon)
    assert expire.is_due(kept, lake, noon)

    expire.done(kept, lake, noon)

    assert not expire.is_due(kept, lake, noon + timedelta(hours=23))
    assert expire.is_due(kept, lake, noon + timedelta(hours=24))
    assert expire.is_due(other, lake, noon)
    lake.state("expired.json").write_text("{")
    assert expire.is_due(kept, lake, noon)
