"""A lake that version 0.1 made before its modules were moved is read, continued and checked by the code of today.

`lake-0.1.tar.gz` holds a pipeline, its source and its lake: three snapshots of two tables (one with history), of which
one is held, two silver models and a cube. It was made by `lakehouse run` at commit 940764e.
"""

from __future__ import annotations

import tarfile
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from helpers import LakeFiles, Result, lakehouse, nonzero_counts

pytestmark = pytest.mark.usefixtures("spark")

ARCHIVE = Path(__file__).with_name("lake-0.1.tar.gz")
ITEMS = "id,qty,note,seen\na,11,x,2024-12-31T10:00:00Z\nb,2,x,\nc,3,y,\nd,4,z,\nf,6,w,\n"
PRICES = '{"id":"a","price":1.75}\n{"id":"f","price":9}\n{"id":"c","price":4}\n'


class OldProject(LakeFiles):
    """The unpacked archive: pipeline/, source/ and lake/shop/."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "lake" / "shop")
        self.folder = folder

    def __call__(self, verb: str, *arguments: str) -> Result:
        return lakehouse(verb, str(self.folder / "pipeline"), *arguments)

    def add_snapshot(self) -> None:
        folder = self.folder / "source" / "20250104_000000"
        folder.mkdir()
        (folder / "items.csv").write_text(ITEMS, encoding="utf-8")
        (folder / "prices.json").write_text(PRICES, encoding="utf-8")


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OldProject:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.setenv("SHOP_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("SHOP_SOURCE", str(tmp_path / "source"))
    return OldProject(tmp_path)


def test_the_newest_snapshot_is_read_again_once_by_the_rules_of_today(old: OldProject) -> None:
    before = old.versions()

    assert old("run").code == 4  # the snapshot that waits for approval is reported again

    after = old.versions()
    assert {table for table, version in after.items() if version != before.get(table)} == {"raw/ledger"}
    assert nonzero_counts(old.ledger("prices")[-1]).keys() == {"rows_read", "unchanged"}
    assert old("run").code == 4
    assert old.versions() == after


def test_the_next_snapshot_is_taken_up_by_its_changes_in_every_layer(old: OldProject) -> None:
    old.add_snapshot()

    result = old("run")

    assert result.code == 0, result.stderr  # the held snapshot, which is read again before the new one, is superseded
    assert result.statuses("ingest") == {"items": "accepted", "prices": "accepted"}
    assert result.statuses("bronze") == {"items": "applied", "prices": "applied"}
    assert result.outcome("silver", "silver.items")["status"] == "row-wise"  # from the state that version 0.1 recorded
    assert [entry["status"] for entry in old.ledger("items")] == ["accepted", "accepted", "held", "held", "accepted"]
    assert nonzero_counts(old.ledger("items")[-1]) == {"rows_read": 5, "updated": 3, "unchanged": 2, "deleted": 1}
    assert old.rows("silver/items") == [
        {"id": "a", "qty": 11, "note": "x", "day": date(2024, 12, 31)},
        {"id": "b", "qty": 2, "note": "x", "day": None},
        {"id": "c", "qty": 3, "note": "y", "day": None},
        {"id": "d", "qty": 4, "note": "z", "day": None},
        {"id": "f", "qty": 6, "note": "w", "day": None},
    ]
    windows = [
        (row["id"], row["__START_AT"].day, row["__END_AT"] and row["__END_AT"].day) for row in old.rows("bronze/prices")
    ]
    assert windows == [("a", 1, 2), ("a", 2, None), ("b", 1, 4), ("c", 1, 2), ("c", 4, None), ("f", 3, None)]
    assert old.rows("gold/notes") == [
        {"note": "w", "n": 1, "worth": Decimal("54.00")},
        {"note": "x", "n": 1, "worth": Decimal("19.25")},
        {"note": "y", "n": 1, "worth": Decimal("12.00")},
    ]
    assert old("verify").code == 0


def test_what_version_0_1_decided_is_still_shown_and_can_still_be_approved(old: OldProject) -> None:
    history = old("history", "items").document["entries"]
    assert [entry["status"] for entry in history] == ["accepted", "accepted", "held"]

    assert old("approve", "items", "20250103_000000").code == 0

    assert old("bronze").code == 0
    assert [row["id"] for row in old.rows("bronze/items")] == ["a"]
    assert old.ledger("items")[-1]["snapshot_time"] == datetime(2025, 1, 3, tzinfo=timezone.utc)
