"""Tests `expire`: what retention removes, what it never removes, and that the lake stays correct."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from crash_points import Killed, interrupt_at
from helpers import Project, Row
from pyspark.sql import SparkSession

import lakehouse
from lakehouse.config import Retention
from lakehouse.errors import DataRefused
from lakehouse.lake import ledger
from lakehouse.retention import expire
from lakehouse.storage import file_io, landing
from lakehouse.storage.paths import Lake

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH = (f"2025010{day}_000000" for day in range(1, 7))
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "silver.items": ("SELECT i.id AS id, i.qty AS qty, i.note AS note FROM bronze.items AS i", {"keys": ["id"]}),
}
ROWS = "id,qty,note\na,1,x\nb,2,x\nc,3,y\nd,4,y\n"


def make_older(lake: Path, days: int) -> None:
    """Make all Delta tables of a lake, and their files, older by this number of days."""
    shift = timedelta(days=days).total_seconds()
    for log in lake.glob("*/*/_delta_log/*"):
        if log.suffix == ".crc":
            log.unlink()  # the checksum no longer fits the changed log
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
    """Return the result of each check of `verify`, after asserting that none failed."""
    done = project("verify")
    assert done.code == 0, done.document
    return {f"{c['name']}: {c['what']}": c["result"] for c in done.document["checks"]}


@pytest.fixture(scope="module")
def old(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two accepted snapshots, an unchanged one and a held one, all a month old."""
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
    make_older(project.lake, days=30)
    return project


@pytest.fixture
def shop(old: Project, tmp_path: Path) -> Project:
    project = old.copy(tmp_path / "shop")
    retain(project, landing="30d", vacuum="7d")
    return project


def retain(project: Project, **retention: str) -> None:
    file = project.pipeline / "pipeline.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"retention": retention}))


def test_expire_removes_what_no_table_needs_and_verify_still_holds(shop: Project) -> None:
    before = {table: shop.rows_with_cdc(table) for table in shop.versions()}
    checks_before = checks(shop)
    bugs = shop.lake / "_state/bugs"
    bugs.mkdir()
    for time in ("20250101T000000", f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}"):
        (bugs / f"{time}-abcdef.json").write_text("{}")

    dry_run = shop("expire", "--dry-run")
    assert len(list(bugs.iterdir())) == 2
    assert files(shop, FIRST) == ["_manifest.json", "items.csv"]
    done = shop("expire")

    assert (dry_run.code, done.code) == (0, 0), done.document
    assert dry_run.outcome("expire", "items")["status"] == "would be expired"
    assert dry_run.outcome("expire", "items")["counts"] == done.outcome("expire", "items")["counts"]
    assert done.outcome("expire", "items")["counts"]["snapshots"] == 2
    assert done.outcome("expire", "bronze.items")["status"] == "vacuumed"
    assert dry_run.outcome("expire", "bronze.items")["counts"] == done.outcome("expire", "bronze.items")["counts"]
    assert done.outcome("expire", "_state/bugs")["counts"] == {"files": 1}
    assert [file.name[:8] for file in bugs.iterdir()] != ["20250101"]
    # The first is superseded, the third has the bytes of the second, the second is the last accepted, the fourth held.
    assert [files(shop, stamp) for stamp in (FIRST, THIRD)] == [["_manifest.json"]] * 2
    assert [files(shop, stamp) for stamp in (SECOND, FOURTH)] == [["_manifest.json", "items.csv"]] * 2
    assert {table: shop.rows_with_cdc(table) for table in before} == before
    checks_after = checks(shop)
    changed = {what for what, result in checks_before.items() if checks_after[what] != result}
    assert {checks_after[what] for what in changed} <= {"not checkable"}
    assert checks_after["items: bronze = the last accepted snapshot"] == "holds"

    again = shop("expire")
    assert again.outcome("expire", "items")["status"] == "kept"
    # VACUUM removes a folder that it has emptied the next time, and counts it.
    assert max(o["counts"].get("files", 0) for o in again.document["outcomes"]) <= 1
    assert shop("approve", "items", FOURTH).code == 0  # the held snapshot can still be accepted
    shop.snapshot(FIFTH, items=ROWS)
    assert shop.run().code == 0
    assert [row["qty"] for row in shop.rows("silver/items")] == [1, 2, 3, 4]
    assert len(shop.ledger()) == 6  # no expired snapshot was landed or decided again
    checks(shop)
    refused = shop("diff", "items", "--from", FIRST)
    assert refused.code == 2
    assert "have expired" in refused.document["tables"][0]["reason"]
    assert shop("diff", "items", "--from", FIRST, "--to", FIFTH).code == 0  # from the change sets


def test_a_run_expires_once_a_day_and_leaves_the_lake_clean(shop: Project) -> None:
    assert shop("approve", "items", FOURTH).code == 0
    done = shop.run()
    assert done.code == 0, done.document
    assert done.outcome("expire", "items")["status"] == "expired"
    assert shop.run().document["nothing_new"]

    shop.snapshot(FIFTH, items=ROWS)
    assert "expire" not in {o["stage"] for o in shop.run().document["outcomes"]}
    assert shop("expire").code == 0
    assert shop.run().document["nothing_new"]  # what expires does not count as a change


def test_after_a_kill_the_next_expire_removes_the_rest(shop: Project) -> None:
    with interrupt_at("landing-half-expired"):
        shop("expire", "items")
    assert files(shop, FIRST) == ["_manifest.json", "items.csv"]
    landed = landing.list_snapshots(Lake(str(shop.lake)), "items")
    assert [each.expired for each in landed] == [True, False, False, False]

    assert shop("expire").code == 0
    assert [files(shop, stamp) for stamp in (FIRST, THIRD)] == [["_manifest.json"]] * 2
    checks(shop)


def test_versions_whose_changes_a_model_has_still_to_read_are_kept(shop: Project) -> None:
    shop.snapshot(FIFTH, items=ROWS.replace("c,3", "c,30"))
    for stage in ("extract", "ingest", "bronze"):
        assert shop(stage).code in (0, 4)
    make_older(shop.lake, days=30)

    done = shop("expire")

    kept = done.outcome("expire", "bronze.items")
    assert (kept["status"], kept["note"]) == ("kept", "silver.items has still to read its changes")
    assert shop.run().outcome("silver", "silver.items")["status"] == "row-wise"


# --- change sets ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(old: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Four accepted snapshots, all old enough to expire: the third deletes rows, and the fourth inserts them again."""
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
    """Return the change sets that exist."""
    folders = [path for kind in ("full-load", "cdc") for path in (project.lake / "raw" / kind).glob("*.parquet")]
    return sorted(f"{path.parent.name}/{path.name}" for path in folders)


def dropped(project: Project) -> list[Row]:
    """Run `expire`, and return the ledger's accepted rows."""
    done = project("expire")
    assert done.code == 0, done.document
    assert raw(project) == [f"cdc/items_{FIFTH}.parquet", f"full-load/items_{FOURTH}.parquet"]
    return [row for row in project.ledger() if row["status"] == "accepted"]


def test_old_change_sets_are_replaced_by_a_base_state_from_which_bronze_can_be_built(sets: Project) -> None:
    before, all_change_sets = sets.rows_with_cdc("bronze/items"), raw(sets)
    dry_run = sets("expire", "--dry-run")
    assert raw(sets) == all_change_sets
    accepted = dropped(sets)

    assert dry_run.outcome("expire", "raw.items")["status"] == "would be dropped"
    assert dry_run.outcome("expire", "raw.items")["counts"]["change_sets"] == 3
    base = accepted[-1]
    assert (base["sequence"], base["kind"], base["path"]) == (3, "full-load", f"raw/full-load/items_{FOURTH}.parquet")
    assert (base["rows_read"], base["inserted"], base["deleted"]) == (1, 1, 0)
    assert [row["sequence"] for row in accepted] == [1, 2, 3, 4, 3]
    results = checks(sets)
    assert results["items: older change sets = the ledger"] == "not checkable"
    assert results["items: change sets = the ledger"] == "holds"
    assert results["items: bronze = the last accepted snapshot"] == "holds"
    assert sets("expire").outcome("expire", "raw.items")["status"] == "kept"
    assert [row for row in sets.ledger() if row["status"] == "accepted"] == accepted

    # A bronze that was removed, restored or refreshed in full is built from the base state and the later change sets.
    shutil.rmtree(sets.lake / "bronze/items")
    assert sets("bronze").outcome("bronze", "items")["status"] == "healed"
    assert sets.rows_with_cdc("bronze/items") == before
    checks(sets)
    assert sets("bronze", "items", "--full-refresh").code == 0
    assert sets.rows_with_cdc("bronze/items") == before
    landed = sets("diff", "items", "--from", FIRST, "--to", FIFTH)
    assert (landed.code, landed.document["tables"][0]["verdict"]) == (0, "unchanged")  # from landing: the same bytes
    gone = sets("diff", "items", "--from", "2025-01-01T12:00:00", "--to", FIFTH)
    assert (gone.code, "its change sets up to 3 were dropped" in gone.document["tables"][0]["reason"]) == (5, True)
    assert [row.id for row in lakehouse.as_of(sets.pipeline, "items", "2025-01-04").collect()] == ["a"]
    with pytest.raises(DataRefused, match="its change sets up to 3 were dropped"):
        lakehouse.as_of(sets.pipeline, "items", "2025-01-02")


def test_after_change_sets_were_dropped_keys_are_forgotten_and_snapshots_ingested_as_before(sets: Project) -> None:
    dropped(sets)
    assert sets("forget", "items", "a").code == 0
    state = sets.lake / f"raw/full-load/items_{FOURTH}.parquet"
    assert pl.read_parquet(state / "*.parquet").height == 0
    checks(sets)

    sets.snapshot(SIXTH, items=ROWS.replace("b,2", "b,20"))
    assert sets.run().code == 0
    assert [(row["id"], row["qty"]) for row in sets.rows("silver/items")] == [("b", 20), ("c", 3), ("d", 4)]
    assert sets("expire").outcome("expire", "raw.items")["counts"]["change_sets"] == 2  # and the older base state
    assert raw(sets) == [f"cdc/items_{SIXTH}.parquet", f"full-load/items_{FIFTH}.parquet"]
    checks(sets)


def test_a_history_keeps_its_change_sets_and_cannot_be_built_without_them(sets: Project) -> None:
    dropped(sets)
    file = sets.pipeline / "pipeline.json"
    document = json.loads(file.read_text())
    document["tables"]["items"]["scd"] = 2
    file.write_text(json.dumps(document))

    assert sets("expire").outcome("expire", "raw.items")["note"] == "a history (scd 2) is built from all of them"
    refused = sets("bronze", "items", "--full-refresh")
    assert refused.code == 2
    assert "the history of items cannot be built" in refused.outcome("bronze", "items")["note"]
    assert sets("ingest", "items", "--full-refresh").code == 0  # from landing; the last supersedes the held fourth


def test_change_sets_that_bronze_has_still_to_read_are_kept(sets: Project) -> None:
    sets.snapshot(SIXTH, items=ROWS.replace("c,3", "c,30"))
    assert sets("extract").code == sets("ingest").code == 0
    before = raw(sets)

    kept = sets("expire").outcome("expire", "raw.items")

    assert (kept["status"], kept["note"]) == ("kept", "bronze has still to read some")
    assert raw(sets) == before


@pytest.mark.parametrize(("module", "name"), [(ledger, "append"), (file_io, "remove")])
def test_after_a_kill_before_or_after_the_base_state_is_published_the_next_expire_completes_it(
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


def test_change_sets_with_other_row_counts_than_the_ledger_are_kept(sets: Project) -> None:
    part = next((sets.lake / f"raw/cdc/items_{FOURTH}.parquet").glob("*.parquet"))
    part.with_name(f".{part.name}.crc").unlink(missing_ok=True)  # of a file that Spark wrote
    rows = pl.read_parquet(sets.lake / f"raw/cdc/items_{FIFTH}.parquet/*.parquet")
    rows.clear().write_parquet(part)

    done = sets("expire")

    assert done.code == 3
    assert "nothing is dropped" in done.outcome("expire", "raw.items")["note"]
    assert sets("verify", "items").code == 5  # as the advice says: it names what differs
    assert len(raw(sets)) == 5  # with the base state that failed its count, which nobody reads


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
    ("retention", "message"),
    [({}, "everything is kept"), ({"vacuum": "6d"}, "expected at least 7d"), ({"landing": "30"}, "10m, 6h or 1d")],
)
def test_a_retention_without_settings_or_with_too_short_times_is_rejected(
    tmp_path: Path, retention: dict[str, str], message: str
) -> None:
    project = Project(tmp_path)
    retain(project, **retention)

    refused = project("expire")

    assert refused.code == 2
    assert message in refused.error["found"]


def test_expire_is_due_once_a_day_and_when_retention_changed(tmp_path: Path) -> None:
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
