"""Lists the remains of erased rows in the folders of Delta tables: files that only old versions need, and until when.

Rows that a deletion vector marks, the data subject's among them, are still in files of the current version. These files
are rewritten first, so that only old versions need them.
VACUUM removes such files when they are older than the table's `delta.deletedFileRetentionDuration` (7 days by default).
The log's entries have the least and greatest value of each column of a file. They are removed after the table's
`delta.logRetentionDuration` (30 days by default), when a checkpoint is written.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlparse

from pyspark.sql import SparkSession

from lakehouse.lake import delta
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.paths import utc_text_z

_FILE_RETENTION, _LOG_RETENTION = "delta.deletedFileRetentionDuration", "delta.logRetentionDuration"
_DEFAULTS = {_FILE_RETENTION: "7 days", _LOG_RETENTION: "30 days"}


def list_remaining(spark: SparkSession, tables: dict[str, str], vacuum: bool) -> list[dict[str, Any]]:
    """Rewrite files with deleted rows, and return the remains in each of the tables that exist.

    Args:
        spark: The session to read in.
        tables: The tables' addresses, by the names to report them with.
        vacuum: Whether to run VACUUM first.

    Returns:
        For each table a part of the document of `lakehouse forget --json`.
    """
    existing = {table: address for table, address in tables.items() if delta.exists(spark, address)}
    for address in existing.values():
        _purge_deleted_rows(spark, address)
        if vacuum:
            spark.sql(f"VACUUM {delta.sql_name(address)}")
    time_after = functools.cache(functools.partial(_time_after, spark))
    return [_remaining_in(spark, table, address, time_after) for table, address in existing.items()]


def _purge_deleted_rows(spark: SparkSession, address: str) -> None:
    """Rewrite the files of which a deletion vector marks rows: VACUUM never removes a file that has other rows too."""
    files = delta.data_files(address, with_vectors=True)
    if files is None or any(file.has_vector for file in files.listed.files):
        spark.sql(f"REORG TABLE {delta.sql_name(address)} APPLY (PURGE)")


def _remaining_in(spark: SparkSession, table: str, address: str, time_after: Callable[[str], str]) -> dict[str, Any]:
    if files := delta.data_files(address):
        folder: StorePath | None = file_io.store_path(address)
        properties, current = files.listed.properties, [str(file.path) for file in files.listed.files]
    else:
        detail = delta.table(spark, address).detail().select("properties", "location").collect()[0]
        folder, properties = _store_path(detail.location), detail.properties
        current = [str(_store_path(url)) for url in delta.read(spark, address).inputFiles()]
    sizes = None if folder is None else _old_file_sizes(folder, current)
    retention = {name: properties.get(name, default) for name, default in _DEFAULTS.items()}
    due = {name: time_after(duration.removeprefix("interval ")) for name, duration in retention.items()}
    return {
        "table": table,
        "old_files": None if sizes is None else len(sizes),
        "bytes": None if sizes is None else sum(sizes),
        "vacuum_removes_them_from": due[_FILE_RETENTION] if sizes is None or sizes else None,
        "log_forgets_from": due[_LOG_RETENTION],
    }


def _old_file_sizes(folder: StorePath, current: Iterable[str]) -> list[int]:
    """Return the sizes of the files in a table's folder that its current version does not read."""
    names = {path.removeprefix(f"{folder}/") for path in current}
    files = file_io.file_sizes(folder).items()
    return [
        size
        for name, size in files
        if name.endswith(".parquet") and not name.startswith("_delta_log/") and name not in names
    ]


def _store_path(url: str) -> StorePath | None:
    """Return a file or folder that Spark names by its URL; None if its storage cannot be listed."""
    parts = urlparse(url)
    if parts.scheme in ("", "file"):
        return file_io.store_path(unquote(parts.path))
    return (
        file_io.store_path(unquote(f"{parts.scheme}://{parts.netloc}{parts.path}")) if parts.scheme == "s3a" else None
    )


def _time_after(spark: SparkSession, duration: str) -> str:
    """Return the time after a duration from now, which Delta writes as `30 days`."""
    row = spark.sql("SELECT current_timestamp() + CAST(:duration AS INTERVAL) AS due", {"duration": duration}).collect()
    due: datetime = row[0].due
    return utc_text_z(due)
