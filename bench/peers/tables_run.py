"""Runs a pipeline of many small tables in one process: cold, with one table changed, and with nothing changed.

python -m peers.tables_run TABLES ROWS FOLDER      prints one JSON document
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from peers.loyalty_run import count_work, spark_work


def write_pipeline(folder: Path, tables: int) -> None:
    """Write a pipeline with a silver model for each table."""
    names = [f"t{n}" for n in range(tables)]
    table = {"format": "csv", "schema": "id BIGINT, qty INT, note STRING", "keys": ["id"]}
    document = {
        "name": "tables",
        "lake": str(folder / "lake"),
        "source": {"type": "files", "path": str(folder / "source")},
        "tables": {name: {"file": f"{name}.csv", **table} for name in names},
        "silver": {name: {"keys": ["id"]} for name in names},
    }
    (folder / "silver").mkdir(parents=True)
    for name in names:
        sql = f"SELECT t.id AS id, upper(t.note) AS note FROM bronze.{name} AS t WHERE t.qty > 0"
        (folder / "silver" / f"{name}.sql").write_text(sql, encoding="utf-8")
    (folder / "pipeline.json").write_text(json.dumps(document), encoding="utf-8")


def write_snapshot(folder: Path, stamp: str, tables: int, rows: int, changed: int) -> None:
    """Write a snapshot in which the first `changed` tables differ from those of any other time."""
    target = folder / "source" / stamp
    target.mkdir(parents=True)
    for n in range(tables):
        note = stamp if n < changed else "same"
        lines = [f"{i},{i % 7},{note if i == 0 else 'x'}" for i in range(rows)]
        (target / f"t{n}.csv").write_text("\n".join(["id,qty,note", *lines]) + "\n", encoding="utf-8")


def measure(tables: int, rows: int, folder: Path) -> dict[str, Any]:
    """Return the seconds and the work of Spark of each run."""
    from lakehouse.cli import main
    from peers import gauges

    os.environ["LAKEHOUSE_ENGINE"] = "off"
    write_pipeline(folder, tables)
    results = {}
    for number, (run, changed) in enumerate({"cold": 0, "warm-up": 1, "one changed": 1, "nothing": 0}.items(), 1):
        if run != "nothing":
            write_snapshot(folder, f"2025010{number}_000000", tables, rows, changed)
        before, began = spark_work(), time.monotonic()
        if code := main(["run", str(folder)]):
            raise SystemExit(code)
        results[run] = {"seconds": time.monotonic() - began} | count_work(before)
    from pyspark.sql import SparkSession

    return {"runs": results, "peak": gauges.process_peak_memory(SparkSession.builder.getOrCreate())}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        table_count, row_count, place = sys.argv[1:]
        document = measure(int(table_count), int(row_count), Path(place))
    print(json.dumps(document))
