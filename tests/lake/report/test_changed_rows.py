"""The report shows the rows that the newest snapshots changed, before and after, with personal columns masked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import ITEMS, Project

from lakehouse.lake import ledger
from lakehouse.report.changed_rows import read_changed_rows
from lakehouse.runner.context import open_run

pytestmark = pytest.mark.usefixtures("spark")

HEADER = "id,line,mail,price,at"
DAYS = {
    "20250101_000000": ["a,1,a@x.org,1.50,2025-01-01 00:00:00", "a,2,b@x.org,2.50,", "b,1,,3.50,", "c,1,c@x.org,4.50,"],
    "20250102_000000": ["a,1,a@x.org,1.75,2025-01-01 00:00:00", "a,2,b@x.org,2.50,", "b,1,,3.50,", "c,1,c@x.org,4.50,"],
    "20250103_000000": ["a,1,a@x.org,1.75,2025-01-01 00:00:00", "a,2,b@x.org,2.50,", "b,1,,3.50,", "d,1,d@x.org,5.00,"],
    "20250104_000000": ["a,1,z@x.org,2.00,2025-01-02 12:00:00", "a,2,b@x.org,2.50,", "b,1,,,", "d,1,d@x.org,5.00,"],
}


def changed_rows(shop: Project) -> dict[str, Any]:
    run = open_run(shop.pipeline)
    history = ledger.read_histories(run.spark, run.lake, ["items"])["items"]
    found = read_changed_rows(run.table_ref("items"), history)
    assert found is not None
    return found


def test_changed_rows_have_their_values_before_and_after_without_personal_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", "k" * 32)
    schema = "id STRING, line INT, mail STRING, price DECIMAL(9,2), at TIMESTAMP"
    settings = {"schema": schema, "keys": ["id", "line"], "pii": {"mail": "hmac"}, "guard": {"max_deleted": 1.0}}
    shop = Project(tmp_path, {"items": ITEMS | settings})
    for stamp, rows in DAYS.items():
        shop.snapshot(stamp, items="\n".join([HEADER, *rows, ""]))
    assert shop.run().code == 0

    found = changed_rows(shop)

    assert (found["table"], found["masked"]) == ("items", ["mail"])
    newest, second, first = found["snapshots"]
    assert [s["snapshot_time"] for s in (first, second, newest)] == [
        "2025-01-02T00:00:00Z",
        "2025-01-03T00:00:00Z",
        "2025-01-04T00:00:00Z",
    ]
    a1, b1 = {"id": "a", "line": 1}, {"id": "b", "line": 1}
    assert newest["rows"] == [
        {
            "change": "updated",
            "key": a1,
            # The price before is that of the second snapshot's change set, the rest of the full load.
            "before": {"mail": "***", "price": "1.75", "at": "2025-01-01T00:00:00Z"},
            "after": {"mail": "***", "price": "2.00", "at": "2025-01-02T12:00:00Z"},
        },
        {"change": "updated", "key": b1, "before": {"price": "3.50"}, "after": {"price": None}},
    ]
    assert second["rows"] == [
        {
            "change": "inserted",
            "key": {"id": "d", "line": 1},
            "before": None,
            "after": {"mail": "***", "price": "5.00", "at": None},
        },
        {
            "change": "deleted",
            "key": {"id": "c", "line": 1},
            "before": {"mail": "***", "price": "4.50", "at": None},
            "after": None,
        },
    ]
    assert first["rows"] == [{"change": "updated", "key": a1, "before": {"price": "1.50"}, "after": {"price": "1.75"}}]

    shutil.rmtree(shop.lake / "raw/full-load/items.parquet")
    shutil.rmtree(shop.lake / "raw/cdc/items_20250103_000000.parquet")
    newest, second, first = changed_rows(shop)["snapshots"]
    assert second["rows"] is None, "a change set that is gone"
    assert [row["before"] is None for row in newest["rows"]] == [False, True], "the full load is gone"
    assert first["rows"][0]["before"] is None
