"""Measures memory, Spark's work, shuffled bytes and written bytes of a process, from outside the measured code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.spark.session import jvm_pid

_RETAINED = 900  # Spark's status stores keep the newest 1,000 executions, jobs and stages, and remove 100 at a time


@dataclass(frozen=True)
class Work:
    """What Spark has executed, by the ids in its status stores, which exist without the UI, too.

    Attributes:
        executions: SQL executions that started a job; those inside another one, as in a MERGE, are part of it. Spark 4
            counts the creation of a temporary view as an execution, too; it starts no job and is left out.
        jobs: All jobs.
        tasks: The completed tasks of each stage that was not skipped.
    """

    executions: frozenset[int]
    jobs: frozenset[int]
    tasks: Mapping[tuple[int, int], int]

    def counts_since(self, before: Work) -> dict[str, int]:
        """Return the numbers of executions, jobs, stages and tasks since an earlier point in time."""
        stages = self.tasks.keys() - before.tasks.keys()
        counts = {
            "executions": len(self.executions - before.executions),
            "jobs": len(self.jobs - before.jobs),
            "stages": len(stages),
        }
        if max(counts.values()) > _RETAINED:
            raise OverflowError(f"Spark may have removed a part of what is counted from its status stores: {counts}")
        return counts | {"tasks": sum(self.tasks[stage] for stage in stages)}


NO_WORK = Work(frozenset(), frozenset(), {})


def spark_work(spark: SparkSession) -> Work:
    """Return what Spark has executed so far."""
    tasks = {(s.stageId(), s.attemptId()): s.numCompleteTasks() for s in _spark_stages(spark)}
    executions = _items(spark._jsparkSession.sharedState().statusStore().executionsList())
    jobs = _items(spark.sparkContext._jsc.sc().statusStore().jobsList(None))
    return Work(
        frozenset(e.rootExecutionId() for e in executions if e.jobs().size()),
        frozenset(job.jobId() for job in jobs),
        {stage: number for stage, number in tasks.items() if number},
    )


def peak_memory(pids: Iterable[int | None]) -> int:
    """Return the sum of the peak memory of the processes, in bytes."""
    texts = [Path(f"/proc/{pid}/status").read_text(encoding="utf-8") for pid in pids if pid]
    peaks = [line.split()[1] for text in texts for line in text.splitlines() if line.startswith("VmHWM:")]
    return sum(int(peak) for peak in peaks) * 1024


def process_peak_memory(spark: SparkSession | None) -> int:
    return peak_memory([os.getpid(), jvm_pid(spark) if spark else None])


def shuffled_bytes(spark: SparkSession) -> int:
    """Return the bytes written to shuffles so far, from Spark's status store, which exists without the UI, too."""
    return sum(stage.shuffleWriteBytes() for stage in _spark_stages(spark))


def rows_read(spark: SparkSession) -> int:
    """Return the rows read from files and logs so far. Bytes are not available: vectored reads are not counted."""
    return sum(stage.inputRecords() for stage in _spark_stages(spark))


def _spark_stages(spark: SparkSession) -> list[Any]:
    spark.sparkContext._jsc.sc().listenerBus().waitUntilEmpty()
    store, gateway = spark.sparkContext._jsc.sc().statusStore(), spark.sparkContext._gateway
    no_filter = gateway.jvm.java.util.ArrayList()
    return _items(store.stageList(no_filter, False, False, gateway.new_array(gateway.jvm.double, 0), no_filter))


def _items(sequence: Any) -> list[Any]:
    return [sequence.apply(n) for n in range(sequence.size())]


def dataset_bytes(folder: Path) -> int:
    """Return the bytes of the data files in a Parquet dataset."""
    return sum(file.stat().st_size for file in folder.rglob("*.parquet") if file.is_file())


def newest_version(table: Path) -> int:
    return max(int(log.stem) for log in (table / "_delta_log").glob("*.json"))


def written_bytes(table: Path, after: int) -> dict[str, int]:
    """Return the bytes that the commits after a version added to a Delta table, by kind.

    The bytes of a deletion vector count once for each file that it marks.
    """
    sizes = {"data": 0, "cdc": 0, "vectors": 0}
    for version in range(after + 1, newest_version(table) + 1):
        for action in _log_actions(table, version):
            added, change = action.get("add"), action.get("cdc")
            if vector := (added or {}).get("deletionVector"):
                sizes["vectors"] += vector["sizeInBytes"]
            elif added:
                sizes["data"] += added["size"]
            if change:
                sizes["cdc"] += change["size"]
    return sizes


def average_row_bytes(table: Path) -> float:
    """Return the average bytes of a row in the files of a table's current version."""
    files: dict[str, dict[str, Any]] = {}
    for version in range(newest_version(table) + 1):
        for action in _log_actions(table, version):
            if removed := action.get("remove"):
                files.pop(removed["path"], None)
            if added := action.get("add"):
                files[added["path"]] = added
    rows = sum(json.loads(file["stats"])["numRecords"] for file in files.values())
    return sum(int(file["size"]) for file in files.values()) / rows


def _log_actions(table: Path, version: int) -> list[dict[str, Any]]:
    log = table / "_delta_log" / f"{version:020}.json"
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
