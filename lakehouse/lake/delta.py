"""Delta tables as the stages see them: a version, who made it, what changed since.

A table is called by its address, as `Lake` gives it: a path or, in a catalog, a name of three parts.

Progress is kept in the tables' own commits (`userMetadata`), so that it moves with the data or not at all; there
is no second place that could disagree (docs/decisions/0002-progress-in-the-commit.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.spark.session import isolated_session
from lakehouse.storage import delta_log, file_io
from lakehouse.storage.delta_log import Commit, TableVersion

_USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
_PROGRESS_PROPERTY = "lakehouse.progress"

# Deletion vectors double the time of a small MERGE (docs/decisions/0004-local-session.md), and spare a large table
# the rewriting of every file that holds a changed row.
_DELETION_VECTORS = "delta.enableDeletionVectors"


def table_properties(large: bool) -> dict[str, str]:
    """What a table of ours is created with."""
    return {"delta.enableChangeDataFeed": "true", _DELETION_VECTORS: str(large).lower()}


def is_catalog_name(address: str) -> bool:
    """Whether a table is one of a catalog: paths are absolute, and no name has a slash."""
    return "/" not in address


def exists(spark: SparkSession, address: str) -> bool:
    return (
        spark.catalog.tableExists(sql_name(address))
        if is_catalog_name(address)
        else DeltaTable.isDeltaTable(spark, address)
    )


def table(spark: SparkSession, address: str) -> DeltaTable:
    """The table itself, to be merged into, deleted from, or asked for its history."""
    return (
        DeltaTable.forName(spark, sql_name(address)) if is_catalog_name(address) else DeltaTable.forPath(spark, address)
    )


def create(spark: SparkSession, address: str, rows: DataFrame, properties: dict[str, str], mode: str = "error") -> None:
    """Make a table that holds `rows`.

    Args:
        mode: what becomes of one that is there already: `error`, `overwrite` (its columns, too) or `append`.
    """
    if not is_catalog_name(address):
        writer = rows.write.format("delta").options(**properties).mode(mode)
        (writer.option("overwriteSchema", "true") if mode == "overwrite" else writer).save(address)
        return
    spark.sql(f"CREATE SCHEMA IF NOT EXISTS {sql_name(address.rpartition('.')[0])}")
    named = rows.writeTo(sql_name(address)).using("delta")
    for key, value in properties.items():
        named = named.tableProperty(key, value)
    if mode == "overwrite":
        named.createOrReplace()
    else:
        named.create()


def append(address: str, rows: DataFrame, **options: str) -> None:
    if is_catalog_name(address):
        rows.writeTo(sql_name(address)).options(**options).append()
    else:
        rows.write.format("delta").options(**options).mode("append").save(address)


def drop(spark: SparkSession, address: str) -> None:
    """Remove a table with its files; none there is as well."""
    if is_catalog_name(address):
        spark.sql(f"DROP TABLE IF EXISTS {sql_name(address)}")
    else:
        file_io.remove(file_io.store_path(address))


def current_version(spark: SparkSession, address: str, limit: int = 200) -> TableVersion | None:
    """The table's head, or None if there is no table at `address`.

    Args:
        limit: of commits, where Spark has to be asked for them.
    """
    if not is_catalog_name(address) and (told := delta_log.read_current_version(file_io.store_path(address))):
        return told
    if not exists(spark, address):
        return None
    there = table(isolated_session(spark, 0), address)  # a few rows, whatever the table holds
    rows = there.history(limit).select("version", "operation", "userMetadata").collect()
    commits = tuple(Commit.from_log(r.version, r.operation, r.userMetadata) for r in rows)
    detail = there.detail().select("id", "sizeInBytes").collect()[0]
    return TableVersion(detail.id, commits[0].version, detail.sizeInBytes, commits)


@contextmanager
def commit_metadata(spark: SparkSession, progress: dict[str, Any]) -> Iterator[None]:
    """Commits made inside carry `progress`. `spark` must be a session of the caller's own: the setting is its."""
    spark.conf.set(_USER_METADATA, json.dumps({"lakehouse": progress}, sort_keys=True))
    try:
        yield
    finally:
        spark.conf.unset(_USER_METADATA)


def record_progress(spark: SparkSession, address: str, progress: dict[str, Any]) -> None:
    """Record `progress` where no row had to change: a commit of metadata alone."""
    with commit_metadata(spark, progress):
        spark.sql(f"ALTER TABLE {sql_name(address)} SET TBLPROPERTIES ('{_PROGRESS_PROPERTY}' = 'see userMetadata')")


def enable_deletion_vectors(spark: SparkSession, address: str) -> None:
    """Let a table that has grown mark its deleted rows instead of rewriting files."""
    now = table(spark, address).detail().select("properties").collect()[0].properties
    if now.get(_DELETION_VECTORS) != "true":
        spark.sql(f"ALTER TABLE {sql_name(address)} SET TBLPROPERTIES ('{_DELETION_VECTORS}' = 'true')")


def read(spark: SparkSession, address: str, version: int | None = None) -> DataFrame:
    reader = spark.read.format("delta")
    reader = reader.option("versionAsOf", version) if version is not None else reader
    return reader.table(sql_name(address)) if is_catalog_name(address) else reader.load(address)


def read_stream(spark: SparkSession, address: str) -> DataFrame:
    """The rows that are appended, as a stream."""
    reader = spark.readStream.format("delta")
    return reader.table(sql_name(address)) if is_catalog_name(address) else reader.load(address)


def read_change_feed(spark: SparkSession, address: str, after: int, until: int) -> DataFrame:
    """The Change Data Feed of the versions `after` (excluded) to `until` (included)."""
    feed = spark.read.format("delta").option("readChangeFeed", "true")
    feed = feed.option("startingVersion", after + 1).option("endingVersion", until)
    return feed.table(sql_name(address)) if is_catalog_name(address) else feed.load(address)


def is_before_image(change_type: str = "_change_type") -> Column:
    return F.col(change_type).isin("update_preimage", "delete")


def sql_name(address: str) -> str:
    """A table, or a schema of a catalog, as SQL spells it.

    >>> sql_name("/lake/bronze/items"), sql_name("main.shop_bronze.items")
    ('delta.`/lake/bronze/items`', '`main`.`shop_bronze`.`items`')
    """
    if is_catalog_name(address):
        return ".".join(f"`{part}`" for part in address.split("."))
    return "delta.`" + address.replace("`", "``") + "`"


# Parts of the conditions by which Delta and Spark say that a Change Data Feed is no longer readable.
_UNREADABLE_FEED_ERRORS = (
    "DELTA_MISSING_CHANGE_DATA",
    "DELTA_CHANGE_DATA",
    "DELTA_VERSION_NOT_CONTIGUOUS",
    "DELTA_VERSION_NOT_FOUND",
    "DELTA_TRUNCATED_TRANSACTION_LOG",
    "BEYOND_",
    "NO_RECREATABLE",
    "INVALID_CDC",
    "FILE_NOT_EXIST",
    "FAILED_READ_FILE",  # a column has another type since
    "DELTA_SCHEMA_CHANGE",
    "INCOMPATIBLE_SCHEMA",
    "FileNotFoundException",
)


def is_feed_unreadable(error: Exception) -> bool:
    """Whether a Change Data Feed cannot be read any more: its log, its files, or the right to read so far back."""
    return any(sign in str(error) for sign in _UNREADABLE_FEED_ERRORS)
