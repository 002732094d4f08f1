"""A damaged lake: what `lakehouse doctor` finds, fixes and shows; and what a run repairs by itself.

One project has a table for each kind of damage, so that one command meets them all.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import ITEMS, Project, Result, Row
from pyspark.sql import SparkSession
from shop import FIRST, SNAPSHOTS, THIRD

pytestmark = pytest.mark.usefixtures("spark")

LAST = "20250104_000000"
LAST_ROWS = "id,qty,note\na,2,x\nb,20,x\nc,3,y\nd,4,z\ne,5,z\n"
EXPECTED = [  # after the last snapshot
    {"id": "a", "qty": 2, "note": "x"},
    {"id": "b", "qty": 20, "note": "x"},
    {"id": "c", "qty": 3, "note": "y"},
    {"id": "d", "qty": 4, "note": "z"},
    {"id": "e", "qty": 5, "note": "z"},
]


def live_files(project: Project, table: str) -> list[Path]:
    """Return the files of the newest version of a table, by its log."""
    live: dict[str, None] = {}
    for commit in sorted((project.lake / table / "_delta_log").glob("*.json")):
        for line in commit.read_text().splitlines():
            action = json.loads(line)
            if "remove" in action:
                live.pop(action["remove"]["path"], None)
            if "add" in action:
                live[action["add"]["path"]] = None
    return [project.lake / table / name for name in live]


def lose_file(project: Project, table: str) -> None:
    live_files(project, table)[0].unlink()


def cut_files(project: Project, table: str) -> None:
    for file in live_files(project, table):
        file.write_bytes(file.read_bytes()[:-9])


def damage_commit(project: Project, table: str) -> None:
    commits = sorted((project.lake / table / "_delta_log").glob("*.json"))
    commits[-1].write_text("{")
    for checksum in commits[0].parent.glob("*.crc"):
        checksum.unlink()


def damage_pointer(project: Project, table: str) -> None:
    (project.lake / table / "_delta_log/_last_checkpoint").write_text("{")


Damage = Callable[[Project, str], None]
DAMAGE: dict[str, tuple[Damage, str, str]] = {  # by table: the damage, the layer, what doctor finds
    "a": (lose_file, "bronze", "1 data file of version"),
    "b": (damage_commit, "bronze", "cannot be read: the table cannot be read"),
    "c": (cut_files, "silver", "missing or cut"),
    "d": (damage_commit, "silver", "cannot be read: the table cannot be read"),
}
LOST = "e"  # the table that loses a change set


@pytest.fixture(scope="module")
def whole(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two snapshots are in every layer, and a third is in the source."""
    names = (*DAMAGE, LOST)
    models: dict[str, tuple[str, dict[str, Any]]] = {
        f"silver.{name}": (f"SELECT t.id AS id, t.qty AS qty, t.note AS note FROM bronze.{name} AS t", {"keys": ["id"]})
        for name in names
    }
    project = Project(tmp_path_factory.mktemp("whole"), {name: dict(ITEMS) for name in names}, models)
    for stamp in (FIRST, THIRD):
        project.snapshot(stamp, items=SNAPSHOTS[stamp])
    assert project.run().code == 0
    project.snapshot(LAST, items=LAST_ROWS)
    return project


def assert_complete(project: Project) -> None:
    for name in (*DAMAGE, LOST):
        assert project.rows(f"bronze/{name}") == EXPECTED, name
        assert project.rows(f"silver/{name}") == EXPECTED, name
    assert project.run().document["nothing_new"]


def failed_checks(project: Project, *names: str) -> list[Row]:
    return [check for check in project("verify", *names).document["checks"] if check["result"] == "failed"]


def test_what_doctor_fixes_is_complete_after_the_next_run(whole: Project, tmp_path: Path) -> None:
    shop = whole.copy(tmp_path / "shop")
    assert shop("doctor").code == 0
    for name, (damage, layer, _) in DAMAGE.items():
        damage(shop, f"{layer}/{name}")
    damage_pointer(shop, f"silver/{LOST}")
    (shop.lake / "_state/clean.json").write_text("{")
    (shop.lake / "landing/a/.20250105_000000.partial").mkdir()

    found = shop("doctor")
    assert found.code == 5
    texts = {check["of"]: check["found"] for check in found.document["checks"] if check["result"] != "ok"}
    for name, (_, layer, text) in DAMAGE.items():
        assert text in texts[f"{layer}.{name}"], texts
    assert texts[f"silver.{LOST}"].startswith("its _last_checkpoint names no checkpoint")
    assert texts["_state/clean.json"].startswith("cannot be read")
    assert texts["temporary files"].startswith("1 temporary file")

    fixed = shop("doctor", "--fix")
    assert fixed.code == 0, fixed.document
    assert len(fixed.document["repaired"]) == len(DAMAGE) + 3, fixed.document["repaired"]
    assert shop.run().code == 0
    assert_complete(shop)
    assert failed_checks(shop, "a") == []


def test_a_run_repairs_what_was_lost_and_says_so(whole: Project, tmp_path: Path) -> None:
    shop = whole.copy(tmp_path / "shop")
    for stage in ("extract", "ingest"):
        assert shop(stage).code == 0
    shutil.rmtree(shop.lake / shop.ledger(LOST)[-1]["path"])
    for name, (damage, layer, _) in DAMAGE.items():
        damage(shop, f"{layer}/{name}")

    done = shop.run()
    assert done.code == 0, done.document
    notes = {o["name"]: o["note"] for o in done.document["outcomes"] if o["stage"] == "repair"}
    assert notes.keys() == {f"{layer}.{name}" for name, (_, layer, _) in DAMAGE.items()} | {LOST}
    assert notes[LOST] == f"1 change set of {LOST} was lost: the landed snapshots from {LAST} on are compared again"
    assert_complete(shop)
    assert failed_checks(shop, LOST) == []


def follow(shop: Project, check: str) -> Result:
    """Do what doctor shows for a check, as it is written, and return the result of its command."""
    found = shop("doctor")
    assert found.code == 5
    (wrong,) = [each for each in found.document["checks"] if (each["check"], each["result"]) == (check, "wrong")]
    shell, _, command = wrong["next"].rpartition("lakehouse ")
    if "mkdir" in shell:
        subprocess.run(shell.partition("; then")[0], shell=True, check=True, cwd=shop.folder)
    verb, _, *arguments = shlex.split(command)
    return shop(verb, *arguments)


def test_lost_evidence_is_written_again_by_the_commands_that_doctor_shows(whole: Project, tmp_path: Path) -> None:
    shop = whole.copy(tmp_path / "shop")
    shutil.rmtree(shop.lake / f"raw/cdc/{LOST}_{THIRD}.parquet")
    assert follow(shop, "change sets").code == 0
    assert shop("doctor").code == 0

    for file in live_files(shop, "raw/ledger"):
        file.unlink()
    assert follow(shop, "table").code == 0
    assert shop.run().code == 0
    assert_complete(shop)
    assert shop("doctor").code == 0
    assert failed_checks(shop, LOST) == []
