"""What an erased row leaves in a Delta table's folder: files that no version in use has any more, and until when.

VACUUM removes such files once they are older than the table's `delta.deletedFileRetentionDuration` (7 days unless set);
the log's entries, which hold the least and the greatest value of a file's columns, go after its
`delta.logRetentionDuration` (30 days), when a checkpoint is written.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from lakehouse import delta
from lakehouse.lake import Lake

_FILES, _LOG = "delta.deletedFileRetentionDuration", "delta.logRetentionDuration"
_DEFAULTS = {_FILES: "7 days", _LOG: "30 days"}


def left(spark: SparkSession, lake: Lake, tables: list[str], vacuum: bool) -> list[dict[str, Any]]:
    """What is left in each of these tables that are there.

    Args:
        vacuum: remove first what is old enough.
    """
    there = [table for table in tables if delta.exists(spark, lake.at(table))]
    if vacuum:
        for table in there:
            spark.sql(f"VACUUM {delta.name(lake.at(table))}")
    return [_of(spark, lake, table) for table in there]


def _of(spark: SparkSession, lake: Lake, table: str) -> dict[str, Any]:
    path = lake.at(table)
    in_use = {Path(unquote(urlparse(name).path)).resolve() for name in delta.read(spark, path).inputFiles()}
    files = [p for p in Path(path).rglob("*") if p.suffix in (".parquet", ".bin") and "_delta_log" not in p.parts]
    old = [p for p in files if p.resolve() not in in_use and p.suffix == ".parquet"]
    given = DeltaTable.forPath(spark, path).detail().select("properties").collect()[0].properties
    after = {name: given.get(name, default).removeprefix("interval ") for name, default in _DEFAULTS.items()}
    return {
        "table": table,
        "old_files": len(old),
        "bytes": sum(p.stat().st_size for p in old),
        "vacuum_removes_them_from": _in(spark, after[_FILES]) if old else None,
        "log_forgets_from": _in(spark, after[_LOG]),
    }


def _in(spark: SparkSession, duration: str) -> str:
    """The time after `duration`, as Delta writes it, from now."""
    row = spark.sql("SELECT current_timestamp() + CAST(:duration AS INTERVAL) AS due", {"duration": duration}).collect()
    due: datetime = row[0].due
    return due.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
