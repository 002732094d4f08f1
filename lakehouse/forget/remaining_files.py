"""What an erased row leaves in a Delta table's folder: files that no version in use has any more, and until when.

VACUUM removes such files once they are older than the table's `delta.deletedFileRetentionDuration` (7 days unless set);
the log's entries, which hold the least and the greatest value of a file's columns, go after its
`delta.logRetentionDuration` (30 days), when a checkpoint is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote, urlparse

from pyspark.sql import SparkSession

from lakehouse.lake import delta
from lakehouse.storage import file_io

_FILE_RETENTION, _LOG_RETENTION = "delta.deletedFileRetentionDuration", "delta.logRetentionDuration"
_DEFAULTS = {_FILE_RETENTION: "7 days", _LOG_RETENTION: "30 days"}


def list_remaining(spark: SparkSession, tables: dict[str, str], vacuum: bool) -> list[dict[str, Any]]:
    """What is left in each of these tables that are there.

    Args:
        tables: addresses, by what the tables are called.
        vacuum: remove first what is old enough.
    """
    there = {table: address for table, address in tables.items() if delta.exists(spark, address)}
    if vacuum:
        for address in there.values():
            spark.sql(f"VACUUM {delta.sql_name(address)}")
    return [_remaining_in(spark, table, address) for table, address in there.items()]


def _remaining_in(spark: SparkSession, table: str, address: str) -> dict[str, Any]:
    detail = delta.table(spark, address).detail().select("properties", "location").collect()[0]
    old = _old_file_sizes(delta.read(spark, address).inputFiles(), detail.location)
    after = {name: detail.properties.get(name, default) for name, default in _DEFAULTS.items()}
    due = {name: _time_after(spark, duration.removeprefix("interval ")) for name, duration in after.items()}
    return {
        "table": table,
        "old_files": None if old is None else len(old),
        "bytes": None if old is None else sum(old),
        "vacuum_removes_them_from": due[_FILE_RETENTION] if old is None or old else None,
        "log_forgets_from": due[_LOG_RETENTION],
    }


def _old_file_sizes(in_use: Iterable[str], location: str) -> list[int] | None:
    """The sizes of files below a table's location that its newest version does not read; None where they cannot be
    listed."""
    if urlparse(location).scheme not in ("", "file", "s3a"):
        return None
    root = _store_path(location)
    used = {_store_path(name).removeprefix(f"{root}/") for name in in_use}
    there = {
        name: size for name, size in file_io.file_sizes(file_io.store_path(root)).items() if name.endswith(".parquet")
    }
    return [size for name, size in there.items() if name not in used and not name.startswith("_delta_log/")]


def _store_path(url: str) -> str:
    """A file as `store` calls it."""
    parts = urlparse(url)
    return unquote(parts.path if parts.scheme in ("", "file") else f"{parts.scheme}://{parts.netloc}{parts.path}")


def _time_after(spark: SparkSession, duration: str) -> str:
    """The time after `duration`, as Delta writes it, from now."""
    row = spark.sql("SELECT current_timestamp() + CAST(:duration AS INTERVAL) AS due", {"duration": duration}).collect()
    due: datetime = row[0].due
    return due.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
