"""Reads and writes Delta tables by their address, which `Lake` gives: a path or, in a catalog, a name of three parts.

The progress of a stage is recorded in the tables' own commits (`userMetadata`), together with the data or not at all.
There is no second place that could disagree (docs/decisions/0002-progress-in-the-commit.md).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.failpoints import failpoint
from lakehouse.spark.session import isolated_session, local_frame
from lakehouse.storage import delta_files, delta_log, file_io
from lakehouse.storage.delta_files import TableFiles
from lakehouse.storage.delta_log import Commit, CommitLog, TableVersion

# Parts of the messages with which Delta and Spark report that a Change Data Feed can no longer be read: its log entries
# or files were removed, it reaches back too far, or the columns changed since. Names in capitals are error classes.
UNREADABLE_FEED_ERRORS = (
    "DELTA_CHANGE_DATA_FEED_INCOMPATIBLE",
    "DELTA_INVALID_CDC_RANGE",
    "DELTA_MISSING_CHANGE_DATA",
    "DELTA_NO_RECREATABLE_HISTORY_FOUND",
    "DELTA_SCHEMA_CHANGE",
    "DELTA_STREAMING_INCOMPATIBLE_SCHEMA_CHANGE",
    "DELTA_TRUNCATED_TRANSACTION_LOG",
    "DELTA_UNSUPPORTED_TIME_TRAVEL_BEYOND_DELETED_FILE_RETENTION_DURATION",
    "DELTA_VERSIONS_NOT_CONTIGUOUS",
    "DELTA_VERSION_NOT_FOUND",
    "FAILED_READ_FILE",
    "FileNotFoundException",
)

_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_.,=+@~/-]*")
_USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
_PROGRESS_PROPERTY = "lakehouse.progress"

# Deletion vectors double the time of a small MERGE (docs/decisions/0004-local-session.md). In a large table they save
# rewriting every file that has a changed row.
_DELETION_VECTORS = "delta.enableDeletionVectors"


def table_properties(large: bool) -> dict[str, str]:
    """Return the properties that a table of the lake is created with.

    Args:
        large: Whether to mark deleted rows instead of rewriting files.
    """
    return {"delta.enableChangeDataFeed": "true", _DELETION_VECTORS: str(large).lower()}


def is_catalog_name(address: str) -> bool:
    """Return whether an address is a name in a catalog. Paths are absolute, and no name has a slash."""
    return "/" not in address


def is_plain_path(address: str) -> bool:
    """Return whether an address is a folder on a disk that delta-rs can open: it takes paths for parts of a URL."""
    return _PLAIN_PATH.fullmatch(address) is not None


def is_on_disk(address: str) -> bool:
    """Return whether a table can be written without Spark's SQL: on Databricks, disks are views of an object store."""
    return is_plain_path(address) and "DATABRICKS_RUNTIME_VERSION" not in os.environ


def sql_name(address: str) -> str:
    """Return a table, or a schema of a catalog, as SQL spells it.

    >>> sql_name("/lake/bronze/items"), sql_name("main.shop_bronze.items")
    ('delta.`/lake/bronze/items`', '`main`.`shop_bronze`.`items`')

    Args:
        address: A path, or a name in a catalog.
    """
    if is_catalog_name(address):
        return quote_identifier(*address.split("."))
    return f"delta.{quote_identifier(address)}"


def is_missing(address: str) -> bool:
    """Return whether a folder has no table; False for a name in a catalog, about which only Spark knows."""
    return not is_catalog_name(address) and delta_log.newest_version(file_io.store_path(address)) < 0


def exists(spark: SparkSession, address: str) -> bool:
    """Return whether there is a table at `address`."""
    if is_catalog_name(address):
        return spark.catalog.tableExists(sql_name(address))
    return delta_log.newest_version(file_io.store_path(address)) >= 0


def table(spark: SparkSession, address: str) -> DeltaTable:
    """Return the table as an object with MERGE, DELETE and its history."""
    if is_catalog_name(address):
        return DeltaTable.forName(spark, sql_name(address))
    return DeltaTable.forPath(spark, address)


# --- read -------------------------------------------------------------------------------------------------------------


def read(spark: SparkSession, address: str, version: int | None = None) -> DataFrame:
    """Return the rows of a table.

    Args:
        spark: The session to read in.
        address: The table's address.
        version: The version to read; None: the current one.
    """
    reader = spark.read.format("delta")
    reader = reader.option("versionAsOf", version) if version is not None else reader
    return reader.table(sql_name(address)) if is_catalog_name(address) else reader.load(address)


def read_or_empty(spark: SparkSession, address: str, schema: str | T.StructType) -> DataFrame:
    """Return the rows of a table, or none with this schema if there is no table."""
    return read(spark, address) if exists(spark, address) else local_frame(spark, schema)


@dataclass(frozen=True)
class DataFiles:
    """The columns and the data files of one version of a table.

    Attributes:
        version: The version.
        schema: The columns.
        listed: The files, as the log lists them.
    """

    version: int
    schema: T.StructType
    listed: TableFiles

    @property
    def has_constraints(self) -> bool:
        """Whether somebody added a CHECK constraint to the table."""
        return any(name.startswith("delta.constraints.") for name in self.listed.properties)


def data_files(address: str, version: int | None = None, with_vectors: bool = False) -> DataFiles | None:
    """Return the columns and files of a table as its log lists them, or None if only Spark can tell.

    Args:
        address: The table's address.
        version: The version; None: the current one.
        with_vectors: Whether the caller can read deletion vectors.
    """
    if is_catalog_name(address):
        return None
    folder = file_io.store_path(address)
    version = delta_log.newest_version(folder) if version is None else version
    listed = delta_files.list_files(folder, version, with_vectors) if version >= 0 else None
    return DataFiles(version, T.StructType.fromJson(json.loads(listed.schema)), listed) if listed else None


def schema(spark: SparkSession, address: str, version: int | None = None) -> T.StructType:
    """Return the columns of a table.

    Args:
        spark: The session to use if the log's files do not suffice.
        address: The table's address.
        version: The version; None: the current one.
    """
    files = data_files(address, version)
    return files.schema if files else read(spark, address, version).schema


def count_rows(spark: SparkSession, address: str) -> int:
    """Return the number of rows of a table, from its log if that has it."""
    files = data_files(address)
    known = files.listed.row_count if files else None
    return read(spark, address).count() if known is None else known


def read_stream(spark: SparkSession, address: str) -> DataFrame:
    """Return the rows that are appended to a table, as a stream."""
    reader = spark.readStream.format("delta")
    return reader.table(sql_name(address)) if is_catalog_name(address) else reader.load(address)


def read_change_feed(spark: SparkSession, address: str, after: int, until: int) -> DataFrame:
    """Return the Change Data Feed of a table.

    Args:
        spark: The session to read in.
        address: The table's address.
        after: The last version whose changes are left out.
        until: The last version whose changes are included.
    """
    feed = spark.read.format("delta").option("readChangeFeed", "true")
    feed = feed.option("startingVersion", after + 1).option("endingVersion", until)
    return feed.table(sql_name(address)) if is_catalog_name(address) else feed.load(address)


def is_before_image(change_type: str = "_change_type") -> Column:
    """Return the condition that a row of the Change Data Feed shows a row as it was before a change."""
    return F.col(change_type).isin("update_preimage", "delete")


def is_feed_unreadable(error: Exception) -> bool:
    """Return whether an error reports that a Change Data Feed can no longer be read."""
    return any(part in str(error) for part in UNREADABLE_FEED_ERRORS)


def current_version(spark: SparkSession, address: str, limit: int = 200) -> TableVersion | None:
    """Return the current version of a table with its commits, or None if there is no table.

    Args:
        spark: The session to use if the log's files do not suffice.
        address: The table's address.
        limit: How many commits to ask Spark for.
    """
    if not is_catalog_name(address) and (version := delta_log.read_current_version(file_io.store_path(address))):
        return version
    if not exists(spark, address):
        return None
    if files := data_files(address):
        log = CommitLog(file_io.store_path(address) / "_delta_log", files.version)
        return TableVersion(files.listed.id, files.version, files.listed.size, log)
    delta_table = table(
        isolated_session(spark, 0), address
    )  # history and detail have few rows, whatever the table's size
    rows = delta_table.history(limit).select("version", "operation", "userMetadata").collect()
    commits = tuple(Commit.from_log(r.version, r.operation, r.userMetadata) for r in rows)
    detail = delta_table.detail().select("id", "sizeInBytes").collect()[0]
    return TableVersion(detail.id, commits[0].version, detail.sizeInBytes, commits)


# --- write ------------------------------------------------------------------------------------------------------------


def create(
    spark: SparkSession, address: str, rows: DataFrame, properties: Mapping[str, str], mode: str = "error"
) -> None:
    """Create a table from rows.

    Args:
        spark: The session to create it in.
        address: The table's address.
        rows: Its rows.
        properties: Its table properties.
        mode: The treatment of a table that exists: `error`, `overwrite` (columns included) or `append`.
    """
    if mode == "overwrite" and exists(spark, address):
        _support_types(spark, address, rows.schema)
    if not is_catalog_name(address):
        writer = rows.write.format("delta").options(**properties).mode(mode)
        (writer.option("overwriteSchema", "true") if mode == "overwrite" else writer).save(address)
        return
    spark.sql(f"CREATE SCHEMA IF NOT EXISTS {sql_name(address.rpartition('.')[0])}")
    catalog_writer = rows.writeTo(sql_name(address)).using("delta")
    for key, value in properties.items():
        catalog_writer = catalog_writer.tableProperty(key, value)
    if mode == "overwrite":
        catalog_writer.createOrReplace()
    else:
        catalog_writer.create()


def append(address: str, rows: DataFrame, **options: str) -> None:
    """Append rows to a table, in one commit.

    Args:
        address: The table's address.
        rows: The rows to append.
        options: Of the writer, such as `userMetadata`.
    """
    if is_catalog_name(address):
        rows.writeTo(sql_name(address)).options(**options).append()
    else:
        rows.write.format("delta").options(**options).mode("append").save(address)


def create_or_append(spark: SparkSession, address: str, rows: DataFrame) -> None:
    """Append rows to a table, which is created if there is none."""
    if exists(spark, address):
        append(address, rows)
    else:
        create(spark, address, rows, {})


def drop(spark: SparkSession, address: str) -> None:
    """Remove a table with its files, if there is one."""
    if is_catalog_name(address):
        spark.sql(f"DROP TABLE IF EXISTS {sql_name(address)}")
    else:
        file_io.remove(file_io.store_path(address))


def user_metadata(progress: Mapping[str, Any]) -> str:
    """Return progress as the user metadata of a commit."""
    return json.dumps({"lakehouse": progress}, sort_keys=True)


@contextmanager
def commit_metadata(spark: SparkSession, progress: Mapping[str, Any]) -> Iterator[None]:
    """Record `progress` with every commit that is made in this context.

    Args:
        spark: A session that nobody else uses: the metadata is one of its settings.
        progress: The metadata.
    """
    spark.conf.set(_USER_METADATA, user_metadata(progress))
    try:
        yield
    finally:
        spark.conf.unset(_USER_METADATA)


def optimize(spark: SparkSession, address: str, below: int) -> None:
    """Write the rows of small files to larger ones (OPTIMIZE), in a commit that changes no row.

    Args:
        spark: A session that nobody else uses: the size is one of its settings.
        address: The table's address.
        below: The size in bytes below which a file is rewritten; no other one is, however many of its rows are deleted.
    """
    spark.conf.set("spark.databricks.delta.optimize.minFileSize", below)
    spark.conf.set("spark.databricks.delta.optimize.maxDeletedRowsRatio", 1)
    table(spark, address).optimize().executeCompaction()


def record_progress(spark: SparkSession, address: str, progress: Mapping[str, Any]) -> None:
    """Record progress that changes no row, by a commit of metadata alone."""
    with commit_metadata(spark, progress):
        spark.sql(f"ALTER TABLE {sql_name(address)} SET TBLPROPERTIES ('{_PROGRESS_PROPERTY}' = 'see userMetadata')")
    failpoint("after_progress", address)


def enable_deletion_vectors(spark: SparkSession, address: str) -> None:
    """Let a table mark its deleted rows instead of rewriting files, if it does not yet."""
    if properties(spark, address).get(_DELETION_VECTORS) != "true":
        spark.sql(f"ALTER TABLE {sql_name(address)} SET TBLPROPERTIES ('{_DELETION_VECTORS}' = 'true')")


def properties(spark: SparkSession, address: str) -> Mapping[str, str]:
    """Return the properties of a table, by name."""
    if files := data_files(address, with_vectors=True):
        return files.listed.properties
    found: dict[str, str] = table(spark, address).detail().select("properties").collect()[0].properties
    return found


def _support_types(spark: SparkSession, address: str, fields: Iterable[T.StructField]) -> None:
    """Let a table that exists have columns without a time zone, which Delta allows by itself for a new table only."""
    if not any("timestamp_ntz" in field.dataType.simpleString() for field in fields):
        return
    files = data_files(address, with_vectors=True)
    if files is None or "timestampNtz" not in files.listed.writer_features:
        spark.sql(f"ALTER TABLE {sql_name(address)} SET TBLPROPERTIES ('delta.feature.timestampNtz' = 'supported')")


def add_new_columns(spark: SparkSession, address: str, wanted: T.StructType) -> None:
    """Add the columns that only `wanted` has to a table; they are null in the rows that it has."""
    columns = {name.lower() for name in schema(spark, address).names}
    fields = [field for field in wanted if field.name.lower() not in columns]
    if fields:
        failpoint("before_columns", address)
        _support_types(spark, address, fields)
        added = ", ".join(f"{quote_identifier(field.name)} {field.dataType.simpleString()}" for field in fields)
        spark.sql(f"ALTER TABLE {sql_name(address)} ADD COLUMNS ({added})")
        failpoint("after_columns", address)
