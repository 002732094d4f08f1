"""Snapshots are held by `max_updated`, `max_inserted` and `learned`, and `diff` and `status` show it."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from helpers import ITEMS, Project

pytestmark = pytest.mark.usefixtures("spark")

EIGHT = [f"{date(2025, 1, 1) + timedelta(days=day):%Y%m%d}_000000" for day in range(8)]
NINTH, TENTH = "20250109_000000", "20250110_000000"
TABLES = {
    "updated": {"guard": {"max_updated": 0.5}, "pii": {"note": "mask"}},  # Spark compares it
    "inserted": {"guard": {"max_inserted": 0.5}, "scd": 2},
    "learned": {"guard": {"learned": True, "max_deleted": 1}},
}


def rows(last: int, day: int) -> str:
    """Return items; the first one has another quantity each day."""
    lines = [f"{number:03},{day if number == 1 else 0},n" for number in range(1, last + 1)]
    return "\n".join(["id,qty,note", *lines]) + "\n"


def test_a_snapshot_beyond_a_guard_is_held_until_it_is_approved_which_then_counts(tmp_path: Path) -> None:
    shop = Project(tmp_path, tables={name: ITEMS | {"file": f"{name}.csv"} | more for name, more in TABLES.items()})
    for day, stamp in enumerate(EIGHT):  # the first two tables have the same bytes each day
        shop.snapshot(stamp, updated=rows(4, 0), inserted=rows(4, 0), learned=rows(60, day))
    updated = "id,qty,note\n001,9,n\n002,9,n\n003,9,n\n004,0,n\n"
    shop.snapshot(NINTH, updated=updated, inserted=rows(7, 0), learned=rows(57, 9))
    shop("extract")
    for name in TABLES:  # before anything is taken, nothing holds
        assert shop("diff", name).document["tables"][0]["verdict"] == "accepted"
    assert shop.run().code == 4
    assert {name: shop.statuses(name)[-1] for name in TABLES} == dict.fromkeys(TABLES, "held")
    assert shop.statuses("learned")[:8] == ["accepted"] * 8
    assert {name: shop.ledger(name)[-1]["reason"] for name in TABLES} == {
        "updated": "3 of 4 rows updated, more than max_updated 0.5",
        "inserted": "3 rows inserted beside 4, more than max_inserted 0.5",
        "learned": (
            "57 rows read, further from 60, the median of the last 8 accepted snapshots, than the bound 0.6 (learned); "
            "3 rows deleted, further from 0, the median of the last 8 accepted snapshots, than the bound 0.6 (learned)"
        ),
    }
    preview = shop("diff").document["tables"]
    assert [(t["verdict"], t["reason"]) for t in preview] == [("held", shop.ledger(n)[-1]["reason"]) for n in TABLES]
    usual = {table["table"]: table["usual"] for table in shop("status").document["tables"]}
    assert usual["updated"] is usual["inserted"] is None
    assert usual["learned"]["figures"]["rows_read"] == {"median": 60, "low": 59.4, "high": 60.6}
    assert usual["learned"]["figures"]["updated"] == {"median": 1, "low": 0.4, "high": 1.6}

    assert shop("approve", "learned", NINTH).code == 0
    shop.snapshot(TENTH, learned=rows(50, 10))
    assert shop.run("learned").code == 4
    assert "of the last 9 accepted snapshots" in shop.ledger("learned")[-1]["reason"]
