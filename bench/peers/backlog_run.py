"""Takes many snapshots of one table: by this project at once or one by one, or by hand with `lag()` over all files.

    python -m peers.backlog_run WAY FORMAT SOURCE FOLDER      prints one JSON document

A few small snapshots warm the process up. SOURCE has a folder for each snapshot, or is a git repository.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from functools import reduce
from pathlib import Path
from typing import Any

from peers import backlog_data, gauges, ours, trial

AT_ONCE, ONE_BY_ONE, LAG = "at-once", "one-by-one", "lag"
_WARM_UP_SNAPSHOTS, _WARM_UP_ROWS = 6, 50


def write_pipeline(folder: Path, source: Path, file_format: str, way: str) -> Path:
    """Write a pipeline of one table, which accepts a change of any share."""
    is_git = (source / ".git").exists()
    table = {"file": f"rows.{file_format}", "format": file_format, "schema": backlog_data.SCHEMA, "keys": ["id"]}
    document = {
        "name": "backlog",
        "lake": str(folder / "lake"),
        "source": {"type": "git" if is_git else "files", "path": str(source)},
        "tables": {ours.TABLE: table | {"guard": {"max_deleted": 1.0}}},
        "tuning": {"backlog_snapshots": 0 if way == ONE_BY_ONE else 4},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def take_snapshots(folder: Path, source: Path, file_format: str, way: str) -> dict[str, Any]:
    """Return the seconds of each stage, and the changes that the ledger has."""
    pipeline = write_pipeline(folder, source, file_format, way)
    stages = ("extract", "ingest", "bronze")
    seconds = {stage: trial.time_call(lambda stage=stage: ours.run_stage(pipeline, stage)) for stage in stages}  # type: ignore[misc]
    import polars as pl

    ledger = pl.read_delta(str(folder / "lake/raw/ledger")).filter(pl.col("status") == "accepted")
    changes = {name: int(ledger[name].sum()) for name in ("inserted", "updated", "deleted")}
    return {"seconds": seconds, "snapshots": ledger.height, "changes": changes}


def with_lag(spark: Any, source: Path, file_format: str, out: Path) -> dict[str, Any]:
    """Find the changes by a window over the snapshots of each key, as people write it by hand."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    def work() -> None:
        reader = (
            spark.read.schema(backlog_data.SCHEMA).option("header", True).option("multiLine", file_format == "json")
        )
        files = reader.format(file_format).load(f"{source}/*/rows.{file_format}")
        rows = files.withColumn("snapshot", F.regexp_extract(F.input_file_name(), r"/(\d{8}_\d{6})/", 1)).cache()
        times = rows.select("snapshot").distinct().withColumn("n", F.row_number().over(Window.orderBy("snapshot")))
        numbered = rows.join(F.broadcast(times), "snapshot")
        of_key = Window.partitionBy("id").orderBy("n")
        content = [name for name in backlog_data.COLUMNS if name != "id"]
        was_there = F.coalesce(F.lag("n").over(of_key) == F.col("n") - 1, F.lit(False))
        differs = reduce(lambda a, b: a | b, [~F.col(c).eqNullSafe(F.lag(c).over(of_key)) for c in content])
        last = times.agg(F.max("n")).first()[0]
        is_gone = F.coalesce(F.lead("n").over(of_key) != F.col("n") + 1, F.col("n") < last)
        operation = F.when(~was_there, "I").when(differs, "U")
        judged = numbered.select("*", operation.alias("op"), is_gone.alias("is_gone"))
        present = judged.where("op IS NOT NULL").drop("is_gone")
        gone = judged.where("is_gone").withColumn("op", F.lit("D")).withColumn("n", F.col("n") + 1).drop("is_gone")
        present.unionByName(gone).write.parquet(str(out))

    seconds = trial.time_call(work)
    counts = {row["op"]: row["count"] for row in spark.read.parquet(str(out)).groupBy("op").count().collect()}
    spark.catalog.clearCache()
    names = {"inserted": "I", "updated": "U", "deleted": "D"}
    return {"seconds": {"lag": seconds}, "changes": {name: counts.get(op, 0) for name, op in names.items()}}


def measure(way: str, file_format: str, source: Path, folder: Path) -> dict[str, Any]:
    """Warm the process up, and take the snapshots."""
    os.environ["LAKEHOUSE_ENGINE"] = "off"
    small = folder / "warm-up-source"
    backlog_data.write_folders(small, _WARM_UP_SNAPSHOTS, _WARM_UP_ROWS, file_format)
    spark = trial.start_spark(folder)
    if way == LAG:
        with_lag(spark, small, file_format, folder / "warm-up")
        found = with_lag(spark, source, file_format, folder / "changes")
    else:
        take_snapshots(folder / "warm-up", small, file_format, way)
        found = take_snapshots(folder / "measured", source, file_format, way)
    return found | {"peak": gauges.process_peak_memory(spark)}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        chosen, kind, *places = sys.argv[1:]
        result = measure(chosen, kind, *map(Path, places))
    print(json.dumps(result))
