"""Runs a command that may use a warm engine, for tests: engine_program.py PART PIPELINE

It locks the lake and opens the session as every verb does, then runs one part, and prints a JSON document.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pyspark.sql import SparkSession

from lakehouse import logs
from lakehouse.errors import ExitCode
from lakehouse.runner import context
from lakehouse.runner.context import Run
from lakehouse.spark.engine import command as engine_command
from lakehouse.spark.session import jvm_pid

LATE_TABLE = "gold/late"
WRITE_SECONDS = 3.0


def leave_traces(run: Run) -> dict[str, Any]:
    """Report what is left of an earlier command, and leave the same traces."""
    spark, found = run.spark, {}
    session: SparkSession = SparkSession.getActiveSession() or spark
    for name, each in (("isolated", spark), ("base", session)):
        found[name] = {
            "views": sorted(table.name for table in each.catalog.listTables()),
            "setting": each.conf.get("spark.sql.shuffle.partitions"),
            "own_setting": each.conf.get("spark.test.secret", None),
            "current_database": each.catalog.currentDatabase(),
        }
        each.range(3).createOrReplaceTempView(f"left_{name}")
        each.conf.set("spark.sql.shuffle.partitions", "7")
        each.conf.set("spark.test.secret", "s3same")
    context = spark.sparkContext
    found["job_group"] = context.getLocalProperty("spark.jobGroup.id")
    found["persisted"] = context._jsc.getPersistentRDDs().size()
    found["environment"] = context._jvm.java.lang.System.getenv("PGPASSWORD")  # type: ignore[union-attr]
    context.setJobGroup("left", "left")
    spark.range(3).persist().count()
    return found


def kill_during_write(run: Run) -> dict[str, Any]:
    """Kill this process while the JVM works on a write, which it would commit some seconds later."""
    tracker = run.spark.sparkContext.statusTracker()

    def kill_when_it_runs() -> None:
        while not list(tracker.getActiveJobsIds()):
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill_when_it_runs).start()
    sleep = f"reflect('java.lang.Thread', 'sleep', {int(1000 * WRITE_SECONDS)}L)"
    rows = run.spark.range(0, 1, 1, 1).selectExpr("id", f"{sleep} AS slept")
    rows.write.format("delta").save(f"{run.lake.root}/{LATE_TABLE}")
    return {}


def end_with_3(run: Run) -> dict[str, Any]:
    return {"exit_code": int(ExitCode.INFRASTRUCTURE)}


PARTS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "traces": leave_traces,
    "killed": kill_during_write,
    "session": lambda run: {},
    "failed": end_with_3,
}

if __name__ == "__main__":
    with engine_command.command(logs.create_logger("json")) as command:
        run = context.open_run(sys.argv[2])
        with context.lock_lake(run, "run"):
            began = time.monotonic()
            pid = jvm_pid(run.spark)
            connected = time.monotonic() - began
            document = PARTS[sys.argv[1]](run)
        print(json.dumps({"jvm": pid, "seconds": connected} | document))
        command.exit_code = document.get("exit_code", 0)
