"""The checks of the ledger and of what it names, on crafted files; no JVM is started."""

from __future__ import annotations

import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crafted_lake import CHANGE_SETS, FIRST, SECOND, write_bronze, write_lake

from lakehouse.doctor import evidence
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake

pytestmark = pytest.mark.no_jvm


@pytest.fixture
def shop(lake: Lake, tmp_path: Path) -> Lake:
    """Two accepted snapshots of two rows each; bronze is at the second one."""
    write_lake(lake, tmp_path)
    return lake


def found(lake: Lake) -> list[tuple[str, str, int, str]]:
    findings = evidence.check_evidence(lake, ["items"])
    return [(f.check, f.result, int(f.code), f"{f.found}; {f.next_step}") for f in findings if f.result != "ok"]


def test_a_complete_lake_is_right(shop: Lake) -> None:
    assert found(shop) == []


def test_a_ledger_that_cannot_be_read_is_wrong_or_left_to_spark(shop: Lake) -> None:
    for file in Path(shop.root, "raw/ledger").glob("*.parquet"):
        file.write_bytes(b"")
    (finding,) = evidence.check_evidence(shop, ["items"])
    assert finding.check == "ledger"
    assert "only Spark can read it" in finding.found  # the check of tables has reported the file


@pytest.mark.parametrize(
    ("time", "command"),
    [
        (FIRST, "lakehouse ingest PIPELINE items --full-refresh"),
        (SECOND, "lakehouse ingest PIPELINE items --full-refresh --from 20250102_000000"),
    ],
)
def test_a_lost_or_cut_change_set_is_wrong_with_the_replay_that_writes_it(
    shop: Lake, time: datetime, command: str
) -> None:
    folder = Path(shop.root, CHANGE_SETS[time])
    pq.write_table(pa.table({"id": ["a"]}), folder / "part-0.parquet")
    ((check, result, code, text),) = found(shop)
    assert (check, result, code) == ("change sets", "wrong", 5)
    assert "has 1 row instead of 2" in text
    assert text.endswith(command)
    (folder / "part-0.parquet").write_bytes(b"PAR1")
    assert "cannot be read" in found(shop)[0][3]
    shutil.rmtree(folder)
    assert "has no files" in found(shop)[0][3]


def test_a_landed_snapshot_that_is_cut_matters_only_while_it_waits(shop: Lake, tmp_path: Path) -> None:
    Path(shop.root, "landing/items/20250102_000000/items.csv").write_text("id\n")
    ((check, result, code, text),) = found(shop)
    assert (check, result, code) == ("landing", "warning", 0)
    assert "snapshot 20250102_000000 has a file of another size: items.csv; it was accepted" in text

    waiting = landing.land_snapshot(shop, "items", datetime(2025, 1, 3, tzinfo=timezone.utc), [tmp_path / "items.csv"])
    assert [each[1] for each in found(shop)] == ["warning"]
    Path(str(waiting.folder), "items.csv").unlink()
    assert [(each[1], each[2]) for each in found(shop)] == [("warning", 0), ("wrong", 5)]
    Path(str(waiting.folder), landing.MANIFEST).unlink()
    assert "snapshot 20250103_000000 has no manifest" in found(shop)[1][3]


@pytest.mark.parametrize(
    ("progress", "reason"),
    [
        ({"stage": "bronze", "sequence": 3}, "it is at change set 3, ahead of the ledger's 2"),
        (None, "another writer changed its rows"),
    ],
)
def test_a_bronze_that_does_not_fit_the_ledger_is_repaired_by_the_next_run(
    shop: Lake, progress: dict[str, Any] | None, reason: str
) -> None:
    write_bronze(shop, progress)
    ((check, result, code, text),) = found(shop)
    assert (check, result, code) == ("position", "warning", 0)
    assert text == f"{reason}: the next run compares it with its change sets; lakehouse run PIPELINE"
