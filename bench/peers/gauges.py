"""What a process used, from outside the code that is measured: memory, bytes shuffled, bytes written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.spark.session import jvm_pid


def peak_memory(pids: Iterable[int | None]) -> int:
    """The most bytes that each process has held in memory since it began, summed."""
    texts = [Path(f"/proc/{pid}/status").read_text(encoding="utf-8") for pid in pids if pid]
    peaks = [line.split()[1] for text in texts for line in text.splitlines() if line.startswith("VmHWM:")]
    return sum(int(peak) for peak in peaks) * 1024


def process_peak_memory(spark: SparkSession | None) -> int:
    return peak_memory([os.getpid(), jvm_pid(spark) if spark else None])


def shuffled_bytes(spark: SparkSession) -> int:
    """Bytes written to shuffles so far, from the store that would feed the UI; it is kept without one, too."""
    return sum(stage.shuffleWriteBytes() for stage in _spark_stages(spark))


def rows_read(spark: SparkSession) -> int:
    """Rows read from tables' files and logs so far. Bytes are not to be had: vectored reads are not counted."""
    return sum(stage.inputRecords() for stage in _spark_stages(spark))


def _spark_stages(spark: SparkSession) -> list[Any]:
    spark.sparkContext._jsc.sc().listenerBus().waitUntilEmpty()
    store, gateway = spark.sparkContext._jsc.sc().statusStore(), spark.sparkContext._gateway
    none = gateway.jvm.java.util.ArrayList()
    stages = store.stageList(none, False, False, gateway.new_array(gateway.jvm.double, 0), none)
    return [stages.apply(n) for n in range(stages.size())]


def dataset_bytes(folder: Path) -> int:
    """Bytes of the data files in a Parquet dataset."""
    return sum(file.stat().st_size for file in folder.rglob("*.parquet") if file.is_file())


def newest_version(table: Path) -> int:
    return max(int(log.stem) for log in (table / "_delta_log").glob("*.json"))


def written_bytes(table: Path, after: int) -> dict[str, int]:
    """Bytes that the commits after a version added to a Delta table, by kind.

    A vector's bytes count once for each file that it marks; a vector in the log itself counts there.
    """
    found = {"data": 0, "cdc": 0, "vectors": 0}
    for version in range(after + 1, newest_version(table) + 1):
        for action in _log_actions(table, version):
            added, change = action.get("add"), action.get("cdc")
            if vector := (added or {}).get("deletionVector"):
                found["vectors"] += vector["sizeInBytes"]
            elif added:
                found["data"] += added["size"]
            if change:
                found["cdc"] += change["size"]
    return found


def average_row_bytes(table: Path) -> float:
    """Average bytes of a row in the files of a table's newest version."""
    files: dict[str, dict[str, Any]] = {}
    for version in range(newest_version(table) + 1):
        for action in _log_actions(table, version):
            if gone := action.get("remove"):
                files.pop(gone["path"], None)
            if added := action.get("add"):
                files[added["path"]] = added
    rows = sum(json.loads(file["stats"])["numRecords"] for file in files.values())
    return sum(int(file["size"]) for file in files.values()) / rows


def _log_actions(table: Path, version: int) -> list[dict[str, Any]]:
    log = table / "_delta_log" / f"{version:020}.json"
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
