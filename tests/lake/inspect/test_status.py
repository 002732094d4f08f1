"""`lakehouse status` shows the age of each table, what waits, what is overdue, the bytes stored, and the last runs."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers import Project

PLACES = ("raw/full-load", "raw/cdc", "bronze/items")

pytestmark = pytest.mark.usefixtures("spark")


def test_status_compares_stored_bytes_with_received_bytes_and_parquet_is_zstd(tmp_path: Path) -> None:
    shop, received = Project(tmp_path), "id,qty,note\na,1,x\nb,2,x\n"
    shop.snapshot("20250101_000000", items=received)
    shop.snapshot("20250102_000000", items=received + "c,3,y\n")
    assert shop.run().code == 0

    result = {row["place"]: row for row in shop("status").document["storage"]}

    bytes_of = {name: sum(f.stat().st_size for f in (shop.lake / name).rglob("*") if f.is_file()) for name in PLACES}
    assert list(result) == ["landing", "full-load", "change sets", "bronze"]
    assert (result["landing"]["bytes"], result["landing"]["less_percent"]) == (2 * len(received) + 6, 0.0)
    assert [result[place]["received_bytes"] for place in result] == [54, 24, 30, 30]
    assert [result[place]["bytes"] for place in ("full-load", "change sets")] == [bytes_of[n] for n in PLACES[:2]]
    assert result["bronze"]["kept_bytes"] == bytes_of["bronze/items"] > result["bronze"]["bytes"] > 0
    assert result["bronze"]["less_percent"] == round(100 * (1 - result["bronze"]["bytes"] / 30), 1) < 0  # two rows
    for name in PLACES:
        (file,) = sorted((shop.lake / name).rglob("[!.]*.parquet"))[-1:]
        columns = pq.read_metadata(file).row_group(0)
        assert {columns.column(n).compression for n in range(columns.num_columns)} == {"ZSTD"}, file


def test_status_shows_the_age_of_a_table_and_what_waits(tmp_path: Path) -> None:
    shop = Project(tmp_path)
    shop.snapshot("20250101_000000", items="id,qty,note\na,1,x\nb,2,x\n")
    assert shop.run().code == 0
    (record,) = (shop.lake / "_state/runs").glob("*.json")

    result = shop("status").document
    (fresh,) = result["tables"]
    assert (fresh["sequence"], fresh["waiting"], fresh["overdue_seconds"], fresh["held"]) == (1, 0, 0, None)
    assert fresh["age_seconds"] > 86400
    ended = json.loads(record.read_text())["ended"]
    assert fresh["last_success"] == ended
    (run,) = result["runs"]
    assert (run["run_id"], run["doing"], run["ended"], run["exit_code"], run["failed"]) == (
        record.stem,
        "run",
        ended,
        0,
        [],
    )

    # Seven hours ago, with a run due every six; since then one snapshot has landed, and one is held.
    earlier = datetime.now(timezone.utc) - timedelta(hours=7)
    record.write_text(json.dumps(json.loads(record.read_text()) | {"ended": earlier.isoformat()}))
    shop.snapshot("20250102_000000", items="id,qty,note\na,1,x\n")
    assert shop.run().code == 4
    shop.snapshot("20250103_000000", items="id,qty,note\na,3,x\nb,2,x\n")
    assert shop("extract").code == 0

    result = shop("status").document
    (stale,) = result["tables"]
    assert (stale["waiting"], stale["held"], stale["last_success"]) == (1, "2025-01-02T00:00:00Z", earlier.isoformat())
    assert 3600 <= stale["overdue_seconds"] < 3700
    assert [(each["doing"], each["exit_code"], each["failed"]) for each in result["runs"]] == [
        ("extract", 0, []),
        ("run", 4, ["ingest items: held"]),
        ("run", 0, []),
    ]
