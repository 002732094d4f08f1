"""Slices on real Delta: the rules of docs/guide/slices.md, and what a lake and the commands know of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from guide import Example, parse_sections
from helpers import Project
from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("spark")

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "slices.md"
SLICED: dict[str, Any] = {
    "file": "items_{uf}.csv",
    "format": "csv",
    "schema": "id STRING, qty INT, uf STRING",
    "keys": ["id"],
    "slice_by": ["uf"],
    "guard": {"min_rows": 0, "max_deleted": 1, "max_quarantined": 1},
}


@pytest.mark.timeout(900)  # many runs: minutes, where the machine has other things to do
def test_the_page_of_slices_shows_what_happens(tmp_path: Path, spark: SparkSession) -> None:
    (section,) = parse_sections(PAGE.read_text(encoding="utf-8"))

    Example(section, tmp_path, spark).check()


def test_a_lake_that_was_made_before_gets_slices_in_place_and_every_command_shows_them(
    tmp_path: Path, spark: SparkSession
) -> None:
    project = Project(tmp_path, {"items": SLICED | {"slice_by": None}, "plain": {**SLICED, "file": "plain_{uf}.csv"}})
    for table in project.tables.values():
        table.pop("slice_by")
    project.configure()
    files = {f"{name}_{uf}": f"id,qty\n{uf},1\n{uf}2,2\n" for name in ("items", "plain") for uf in ("SP", "RJ")}
    project.snapshot("20250101_000000", **files)
    assert project.run().code == 0
    assert "slices" not in pl.read_delta(str(project.lake / "raw/ledger")).columns  # nothing is added without need

    project.configure(slice_by=["uf"])
    project.snapshot("20250102_000000", items_SP="id,qty\nSP,1\nx,one\n", plain_SP="id,qty\nSP,1\n")
    project.snapshot("20250103_000000", items_RJ="id,qty\nRJ,10\nSP,1\n", plain_SP="id,qty\nSP,1\n")
    shown = project("diff", "items").document["tables"][0]
    assert (shown["slices"], shown["rows_before"], shown["counts"]["deleted"]) == ("1 slice: RJ", 2, 1)
    assert project.run().code == 0

    assert [row["slices"] for row in project.ledger()] == [None, '[{"uf":"SP"}]', '[{"uf":"RJ"}]']
    assert [row["slices"] for row in project.ledger("plain")] == [None, None, None]
    assert project.rows("bronze/items") == [{"id": "RJ", "qty": 10, "uf": "RJ"}, {"id": "SP", "qty": 1, "uf": "RJ"}]
    status = {row["table"]: row["slices"] for row in project("status").document["tables"]}
    assert status == {"items": "1 slice: RJ", "plain": None}
    assert [entry["slices"] for entry in project("history", "items").document["entries"]][1] == [{"uf": "SP"}]
    checks = project("verify", "items").document["checks"]
    assert [check for check in checks if check["result"] == "failed"] == []
    (compared,) = [c for c in checks if c["name"] == "items" and c["what"].startswith("each slice")]
    assert compared["result"] == "holds"
    assert "2 slices in 2 snapshots" in compared["figures"]
    assert "read by another configuration" not in compared["figures"]  # no row is of an older snapshot

    spark.sql(f"UPDATE delta.`{project.lake}/bronze/items` SET qty = 11 WHERE id = 'RJ'")
    failed = [c for c in project("verify", "items").document["checks"] if c["result"] == "failed"]
    assert failed[0]["what"].startswith("each slice of bronze")

    project.snapshot("20250104_000000", items_SP="id,uf,qty\nSP,SP,1\n", plain_SP="id,qty\nSP,1\n")
    result = project.run()
    assert result.code == 2
    assert (
        "items_SP.csv contains uf, which `file` takes from the file's name" in result.outcome("ingest", "items")["note"]
    )


def test_a_rebuild_reads_each_snapshot_by_the_slices_it_was_accepted_with(tmp_path: Path) -> None:
    """A row that an older, whole snapshot deleted does not come back, and one of another slice is not deleted."""
    whole = {key: value for key, value in SLICED.items() if key != "slice_by"}
    project = Project(tmp_path, {"items": whole})
    project.snapshot("20250101_000000", items_SP="id,qty\na,1\n", items_RJ="id,qty\nb,2\n", items_MG="id,qty\nc,3\n")
    project.snapshot("20250102_000000", items_SP="id,qty\na,1\n", items_RJ="id,qty\nb,2\n")
    assert project.run().code == 0
    project.configure(slice_by=["uf"])
    project.snapshot("20250103_000000", items_SP="id,qty\na,x\nd,4\n")
    project.snapshot("20250104_000000", items_RJ="id,qty\nb,5\n")
    assert project.run().code == 0
    before = [{**row, "qty": str(row["qty"])} for row in project.rows("bronze/items")]
    assert [row["id"] for row in before] == ["a", "b", "d"]

    project.configure(schema="id STRING, qty STRING, uf STRING", slice_by=None)  # and it may be removed again
    assert project("bronze", "items", "--full-refresh").code == 0
    after = project.rows("bronze/items")
    assert after == [{**row, "qty": "x"} if row["id"] == "a" else row for row in before]
    assert [row["slices"] for row in project.ledger()][-4:] == [None, None, '[{"uf":"SP"}]', '[{"uf":"RJ"}]']
    assert project.quarantine() == []  # `x` is a value now


def test_more_slices_than_the_ledger_records_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.lake.slices.MAX_SLICES", 2)
    project = Project(tmp_path, {"items": SLICED})
    project.snapshot("20250101_000000", **{f"items_{n}": f"id,qty\n{n},1\n" for n in range(3)})
    result = project.run()
    assert result.code == 5
    assert "the snapshot has 3 slices, by uf" in result.outcome("ingest", "items")["note"]
