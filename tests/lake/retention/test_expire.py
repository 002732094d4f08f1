"""What retention takes, what it never takes, and that the lake is as good afterwards as before."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from helpers import Project, Row
from pyspark.sql import SparkSession

import lakehouse
from lakehouse.config import Retention
from lakehouse.errors import ConfigError
from lakehouse.lake import ledger
from lakehouse.retention import expire
from lakehouse.storage import file_io, landing
from lakehouse.storage.paths import Lake

pytestmark = pytest.mark.usefixtures("spark")

KILLED = Path(__file__).parents[1] / "killed.py"
FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH = (f"2025010{day}_000000" for day in range(1, 7))
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
    before = {table: shop.rows_with_cdc(table) for table in shop.versions()}
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
    assert {table: shop.rows_with_cdc(table) for table in before} == before
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
    landed = landing.list_snapshots(Lake(str(shop.lake)), "items")
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


# --- change sets ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(old: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Four accepted snapshots: the third deletes, the fourth brings back; all of them older than `retention` says."""
    project = old.copy(tmp_path_factory.mktemp("many"))
    assert project("approve", "items", FOURTH).code == 0
    project.snapshot(FIFTH, items=ROWS)
    assert project.run().code == 0
    retain(project, change_sets="30d")
    return project


@pytest.fixture
def sets(many: Project, tmp_path: Path) -> Project:
    project = many.copy(tmp_path / "sets")
    retain(project, change_sets="30d")
    return project


def raw(project: Project) -> list[str]:
    """The change sets that are there."""
    folders = [path for kind in ("full-load", "cdc") for path in (project.lake / "raw" / kind).glob("*.parquet")]
    return sorted(f"{path.parent.name}/{path.name}" for path in folders)


def dropped(project: Project) -> list[Row]:
    """Drop what may go; returns the ledger's accepted rows."""
    done = project("expire")
    assert done.code == 0, done.document
    assert raw(project) == [f"cdc/items_{FIFTH}.parquet", f"full-load/items_{FOURTH}.parquet"]
    return [row for row in project.ledger() if row["status"] == "accepted"]


def test_old_change_sets_give_way_to_the_state_they_come_to_and_bronze_can_be_built_of_it(sets: Project) -> None:
    before, was = sets.rows_with_cdc("bronze/items"), raw(sets)
    looked = sets("expire", "--dry-run")
    assert raw(sets) == was
    accepted = dropped(sets)

    assert looked.outcome("expire", "raw.items")["status"] == "would be dropped"
    assert looked.outcome("expire", "raw.items")["counts"]["change_sets"] == 3
    base = accepted[-1]
    assert (base["sequence"], base["kind"], base["path"]) == (3, "full-load", f"raw/full-load/items_{FOURTH}.parquet")
    assert (base["rows_read"], base["inserted"], base["deleted"]) == (1, 1, 0)
    assert [row["sequence"] for row in accepted] == [1, 2, 3, 4, 3]
    found = checks(sets)
    assert found["items: older change sets = the ledger"] == "not checkable"
    assert found["items: change sets = the ledger"] == found["items: bronze = the last accepted snapshot"] == "holds"
    assert sets("expire").outcome("expire", "raw.items")["status"] == "kept"
    assert [row for row in sets.ledger() if row["status"] == "accepted"] == accepted

    # Bronze that is gone, was set back or is asked for anew is built of the state and what follows it.
    shutil.rmtree(sets.lake / "bronze/items")
    assert sets("bronze").outcome("bronze", "items")["status"] == "healed"
    assert sets.rows_with_cdc("bronze/items") == before
    checks(sets)
    assert sets("bronze", "items", "--full-refresh").code == 0
    assert sets.rows_with_cdc("bronze/items") == before
    assert sets("diff", "items", "--from", FIRST, "--to", FIFTH).code == 0  # landing has them
    assert [row.id for row in lakehouse.as_of(sets.pipeline, "items", "2025-01-04").collect()] == ["a"]
    with pytest.raises(ConfigError, match="its change sets up to 3 were dropped"):
        lakehouse.as_of(sets.pipeline, "items", "2025-01-02")


def test_after_change_sets_were_dropped_a_person_is_forgotten_and_snapshots_are_taken_as_before(sets: Project) -> None:
    dropped(sets)
    assert sets("forget", "items", "a").code == 0
    state = sets.lake / f"raw/full-load/items_{FOURTH}.parquet"
    assert pl.read_parquet(state / "*.parquet").height == 0
    checks(sets)

    sets.snapshot(SIXTH, items=ROWS.replace("b,2", "b,20"))
    assert sets.run().code == 0
    assert [(row["id"], row["qty"]) for row in sets.rows("silver/items")] == [("b", 20), ("c", 3), ("d", 4)]
    assert sets("expire").outcome("expire", "raw.items")["counts"]["change_sets"] == 2  # with the older state
    assert raw(sets) == [f"cdc/items_{SIXTH}.parquet", f"full-load/items_{FIFTH}.parquet"]
    checks(sets)


def test_a_history_keeps_its_change_sets_and_none_can_be_built_where_they_went(sets: Project) -> None:
    dropped(sets)
    file = sets.pipeline / "pipeline.json"
    document = json.loads(file.read_text())
    document["tables"]["items"]["scd"] = 2
    file.write_text(json.dumps(document))

    assert sets("expire").outcome("expire", "raw.items")["note"] == "a history (scd 2) is built from all of them"
    refused = sets("bronze", "items", "--full-refresh")
    assert refused.code == 2
    assert "no history of items can be built" in refused.outcome("bronze", "items")["note"]
    assert sets("ingest", "items", "--full-refresh").code == 4  # from landing, where the fourth is held as it was


def test_change_sets_that_bronze_has_still_to_read_stay(sets: Project) -> None:
    sets.snapshot(SIXTH, items=ROWS.replace("c,3", "c,30"))
    assert sets("extract").code == sets("ingest").code == 0
    was = raw(sets)

    kept = sets("expire").outcome("expire", "raw.items")

    assert (kept["status"], kept["note"]) == ("kept", "bronze has still to read some")
    assert raw(sets) == was


class Killed(BaseException):
    """What no handler of the product takes for an error."""


@pytest.mark.parametrize(("module", "name"), [(ledger, "append"), (file_io, "remove")])
def test_killed_before_or_after_the_state_is_published_the_next_time_ends_it(
    sets: Project, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    before, inner = sets.rows_with_cdc("bronze/items"), getattr(module, name)

    def die(*arguments: Any) -> Any:
        if module is ledger or "/raw/" in str(arguments[0]):
            raise Killed
        return inner(*arguments)

    monkeypatch.setattr(module, name, die)
    with pytest.raises(Killed):
        sets("expire")
    monkeypatch.undo()
    assert f"full-load/items_{FOURTH}.parquet" in raw(sets)
    checks(sets)
    assert sets("bronze", "items", "--full-refresh").code == 0

    assert [row["sequence"] for row in dropped(sets)] == [1, 2, 3, 4, 3]
    assert sets.rows_with_cdc("bronze/items") == before


def test_change_sets_that_do_not_come_to_what_the_ledger_says_are_kept(sets: Project) -> None:
    part = next((sets.lake / f"raw/cdc/items_{FOURTH}.parquet").glob("*.parquet"))
    part.with_name(f".{part.name}.crc").unlink()
    rows = pl.read_parquet(sets.lake / f"raw/cdc/items_{FIFTH}.parquet/*.parquet")
    rows.clear().write_parquet(part)

    done = sets("expire")

    assert done.code == 3
    assert "nothing is dropped" in done.outcome("expire", "raw.items")["note"]
    assert len(raw(sets)) == 5  # the state that was counted lies there, and nobody reads it


# --- and nothing else -------------------------------------------------------------------------------------------


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

    expire.record_done(kept, lake, noon)

    assert not expire.is_due(kept, lake, noon + timedelta(hours=23))
    assert expire.is_due(kept, lake, noon + timedelta(hours=24))
    assert expire.is_due(other, lake, noon)
    lake.state_path("expired.json").write_text("{")
    assert expire.is_due(kept, lake, noon)
