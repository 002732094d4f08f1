"""Runs the loyalty pipeline for snapshots in one process: this project, or the script by hand.

    python -m peers.loyalty_run WAY FOLDER SNAPSHOT [FOLDER SNAPSHOT ...]      prints one JSON document

FOLDER/loyalty is the lake of a snapshot. The document has the seconds and the work of Spark of each run, and the
seconds of this process that belong to none of them: copying the snapshot, and counting.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

OURS, TUNED, DEFAULT = "ours", "script-tuned", "script-default"
WAYS = {OURS: "**ours**", TUNED: "script, our settings", DEFAULT: "script, Spark's settings"}


def run_way(way: str, folder: Path, snapshot: Path) -> None:
    """Bring the lake in a folder up to date with a snapshot, the newest one in the folder's source."""
    if way == OURS:
        from lakehouse.cli import main

        if code := main(["run", "conf/loyalty"]):
            raise SystemExit(code)
        return
    from peers import loyalty_script as script

    spark = script.tuned_session(folder, snapshot) if way == TUNED else script.default_session()
    script.update_lake(spark, folder / "loyalty", snapshot)


def spark_work() -> Any:
    """Return what Spark has executed in this process; None if there was no Spark, which counting must not import."""
    if "pyspark" not in sys.modules:
        return None
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    from peers import gauges

    return gauges.spark_work(SparkSession.builder.getOrCreate()) if SparkContext._active_spark_context else None


def count_work(before: Any) -> dict[str, int]:
    after = spark_work()
    if after is None:
        return dict.fromkeys(("executions", "jobs", "stages", "tasks"), 0)
    from peers import gauges

    return after.counts_since(before or gauges.NO_WORK)  # type: ignore[no-any-return]


def measure_runs(way: str, runs: list[tuple[Path, Path]]) -> dict[str, Any]:
    """Run a way for each snapshot, in the lake of its folder."""
    results, aside = [], 0.0
    for folder, snapshot in runs:
        began, source = time.monotonic(), folder / "source"
        os.environ |= {"LAKE_ROOT": str(folder), "LOYALTY_SOURCE": str(source)}
        if not (source / snapshot.name).exists():
            shutil.copytree(snapshot, source / snapshot.name)
        before = spark_work()
        started = time.monotonic()
        run_way(way, folder, snapshot)
        ended = time.monotonic()
        results.append({"seconds": ended - started} | count_work(before))
        aside += started - began + time.monotonic() - ended
    return {"runs": results, "aside": aside}


def gold_differences(expected: Path, *others: Path) -> list[str]:
    """Return a line for each gold table of another lake whose rows differ."""
    import polars as pl

    lines = []
    for table in sorted((expected / "gold").iterdir()):
        ours = pl.read_delta(str(table))
        for other in others:
            theirs = pl.read_delta(str(other / "gold" / table.name))
            if not theirs.sort(theirs.columns).equals(ours.select(theirs.columns).sort(theirs.columns)):
                lines.append(f"{other}: gold.{table.name} differs: {theirs.height:,} rows, expected {ours.height:,}")
    return lines


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        way, *paths = sys.argv[1:]
        pairs = zip(paths[::2], paths[1::2], strict=True)
        document = measure_runs(way, [(Path(folder), Path(snapshot)) for folder, snapshot in pairs])
    print(json.dumps(document))
