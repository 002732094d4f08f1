"""Writes the files of a small lake without a JVM: two accepted snapshots of one table, `items`."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, write_deltalake

from lakehouse.lake.ledger import SCHEMA
from lakehouse.schema.table_schema import parse_schema
from lakehouse.spark.session import local_rows
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake

FIRST, SECOND = (datetime(2025, 1, day, tzinfo=timezone.utc) for day in (1, 2))
CHANGE_SETS = {FIRST: "raw/full-load/items.parquet", SECOND: "raw/cdc/items_20250102_000000.parquet"}


def write_lake(lake: Lake, folder: Path) -> None:
    """Write a ledger, change sets of two rows each, landed snapshots, and a bronze that is at the second one."""
    fields, rows = parse_schema(SCHEMA), [_entry(1, FIRST), _entry(2, SECOND)]
    _, table = local_rows(fields, [tuple(row[name] for name in fields.names) for row in rows])
    write_deltalake(f"{lake.root}/raw/ledger", table)
    for time, path in CHANGE_SETS.items():
        Path(lake.root, path).mkdir(parents=True)
        pq.write_table(pa.table({"id": ["a", "b"]}), Path(lake.root, path, "part-0.parquet"))
        (folder / "items.csv").write_text("id\na\nb\n")
        landing.land_snapshot(lake, "items", time, [folder / "items.csv"])
    write_bronze(lake, {"stage": "bronze", "sequence": 2})


def write_bronze(lake: Lake, progress: dict[str, Any] | None) -> None:
    """Write a bronze in place of the one that is there, whose commit records this progress."""
    folder = Path(lake.root, "bronze/items")
    shutil.rmtree(folder, ignore_errors=True)
    metadata = {"userMetadata": json.dumps({"lakehouse": progress})} if progress else {}
    write_deltalake(str(folder), pa.table({"id": ["a"]}), commit_properties=CommitProperties(custom_metadata=metadata))
    checksum = {"metadata": {"id": "x"}, "tableSizeBytes": 1}
    (folder / "_delta_log" / f"{0:020}.crc").write_text(json.dumps(checksum))


def _entry(sequence: int, time: datetime) -> dict[str, Any]:
    counts = {"rows_read": 2, "inserted": 2, "updated": 0, "deleted": 0, "unchanged": 0, "quarantined": 0}
    kind = "full-load" if sequence == 1 else "cdc"
    names = {"table": "items", "snapshot_time": time, "fingerprint": "x", "path": CHANGE_SETS[time]}
    decision = {"sequence": sequence, "status": "accepted", "kind": kind, "recorded_at": time, "run_id": "r"}
    return {**names, **decision, **counts, "duplicates": 0, "reason": None}
