"""Loads a table and takes one change on a cluster, whose executors do all the work on rows.

python -m peers.cluster_run MASTER ROWS SHARE MEMORY FOLDER      prints one JSON document
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from peers import gauges, ours, sized_data
from peers.sized_run import timed, write_pipeline

_COLUMNS = 6
_METRICS = {"execution": "OnHeapExecutionMemory", "heap": "JVMHeapMemory"}


def start_spark(master: str, memory: str) -> SparkSession:
    """Return a session of the cluster, with this project's settings."""
    from lakehouse.spark.session import default_settings

    settings = default_settings() | {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "2g",
        "spark.executor.memory": memory,
        "spark.executor.cores": "1",
        "spark.executor.metrics.pollingInterval": "100",
        "spark.ui.enabled": "false",
    }
    builder = SparkSession.builder.master(master).appName("bench")
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def executor_peaks(spark: SparkSession) -> dict[str, int]:
    """Return the greatest peak of any executor, by kind of memory."""
    executors = spark.sparkContext._jsc.sc().statusStore().executorList(False)
    found = [executors.apply(n) for n in range(executors.size())]
    peaks = [e.peakMemoryMetrics().get() for e in found if e.id() != "driver" and e.peakMemoryMetrics().isDefined()]
    return {kind: max(p.getMetricValue(name) for p in peaks) for kind, name in _METRICS.items()}


def content(spark: SparkSession, path: str, kind: str) -> tuple[int, int]:
    """Return the number of the rows and the sum of their hashes."""
    columns = list(sized_data.column_types(_COLUMNS))
    values = F.xxhash64(*columns).cast("decimal(38,0)")
    row = spark.read.format(kind).load(path).agg(F.count("*"), F.sum(values)).collect()[0]
    return int(row[0]), int(row[1])


def measure(master: str, rows: int, share: float, memory: str, folder: Path) -> dict[str, Any]:
    """Return the seconds of each stage, the peaks of the executors, and whether bronze has the snapshot's rows."""
    files = {stamp: folder / f"{stamp}/rows.csv" for stamp in (ours.FIRST, ours.SECOND)}
    for (stamp, file), changed in zip(files.items(), (0.0, share), strict=True):
        sized_data.write_snapshot(file, rows, _COLUMNS, changed)
        files[stamp] = file
    expected = sized_data.state_file(files[ours.SECOND])
    spark = start_spark(master, memory)
    lake, seconds = write_pipeline(folder / "lake", "csv", _COLUMNS), {}
    os.environ["LAKEHOUSE_ENGINE"] = "off"
    for stamp, file in files.items():
        ours.land_file(lake, file, stamp)
        for stage in ("ingest", "bronze"):
            seconds[f"{stage} {'first' if stamp == ours.FIRST else 'change'}"] = timed(
                lambda stage=stage: ours.run_stage(lake, stage)  # type: ignore[misc]
            )
    peaks, shuffled = executor_peaks(spark), gauges.shuffled_bytes(spark)
    is_equal = content(spark, str(ours.bronze_path(lake)), "delta") == content(spark, str(expected), "parquet")
    return {"seconds": seconds, "peaks": peaks, "shuffled": shuffled, "is_equal": is_equal}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        url, row_count, changed_share, executor_memory, place = sys.argv[1:]
        document = measure(url, int(row_count), float(changed_share), executor_memory, Path(place))
    print(json.dumps(document))
