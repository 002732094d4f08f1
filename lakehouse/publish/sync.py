"""Publishes one table of the lake to PostgreSQL. Entry point: `publish`. Its steps:

1. Read the publish position. If it is the current version of the lake's table, stop: no Spark session is needed.
2. Open a transaction, lock the table and read the position again.
3. Copy the changed rows into the stage, or all rows if the Change Data Feed cannot be used.
4. Delete, update and insert the rows that differ, and write the new publish position.

The first load, a catch-up after a week, a lost change feed, and a rebuilt or restored table all take these steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, SparkSession

from lakehouse.config.column_names import stored_names
from lakehouse.failpoints import failpoint
from lakehouse.lake import delta
from lakehouse.lake.delta import is_feed_unreadable
from lakehouse.lake.marked_rows import live_changes, live_rows
from lakehouse.publish import catalog, copy_rows, types
from lakehouse.publish.catalog import PostgresTable, PublishPosition
from lakehouse.publish.connection import Connection, connect
from lakehouse.publish.statements import TargetTable
from lakehouse.publish.table import (
    apply_stage,
    check_columns,
    check_encoding,
    check_unique_keys,
    has_different_key,
    load_stage,
)
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage.delta_log import TableVersion, commit_id, newest_version
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.paths import Lake
from lakehouse.text import counted

# Bytes of the lake's files in one partition: the driver keeps the text of two partitions at a time.
_MAX_PARTITION_BYTES = 16 << 20


@dataclass(frozen=True)
class Publication:
    """A table of the lake, and the PostgreSQL table that follows it.

    Attributes:
        pipeline: The pipeline's name.
        source: The table in the lake, such as `gold.churn`.
        url: The address of the database; it may contain a password.
        table: The table in PostgreSQL, with or without its schema.
        keys: The columns that identify a row of `source`.
    """

    pipeline: str
    source: str
    url: str = field(repr=False)
    table: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class PublishResult:
    """The result of publishing one table.

    Attributes:
        status: `published` (the changed rows), `compared` (all rows), `current` or `waiting` (nothing to publish yet).
        reason: Why it has this status, as people read it.
        counts: Rows by action: `inserted`, `updated`, `deleted`.
    """

    status: str
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


def publish(
    publication: Publication, lake: Lake, open_session: Callable[[], SparkSession], full_refresh: bool = False
) -> PublishResult:
    """Make a published table equal to the current version of its table in the lake.

    Args:
        publication: The table of the lake and the table in PostgreSQL.
        lake: The lake to read from.
        open_session: Returns a session that only this call uses. Called only if there may be changes.
        full_refresh: Compare all rows, regardless of the publish position.

    Returns:
        The status and the counts of rows.

    Raises:
        ConfigError: The table was not made by this pipeline, or its columns no longer match.
        DataRefused: Two rows share a key, or PostgreSQL does not accept a value.
        InfrastructureError: PostgreSQL cannot be reached. The table is unchanged.
        LakeBusy: Another process is publishing to the table.
    """
    with connect(publication.url) as connection:
        table = catalog.resolve_table(connection, publication.table)
        position = _read_own_position(connection, table, publication)
        if newest_version(_delta_folder(lake, publication.source)) < 0:
            return PublishResult("waiting", f"{publication.source} has no snapshot yet")
        if not full_refresh and position and is_current(lake, position):
            return PublishResult("current")
        spark = open_session()
        version = delta.current_version(spark, lake.table(publication.source))
        assert version is not None
        if not full_refresh and not is_behind(lake, version, position):
            return PublishResult("current")
        _limit_partition_size(spark, version)
        catalog.create_position_table(connection, table)
        with catalog.publish_transaction(connection, table):
            locked_position = _read_own_position(connection, table, publication)
            if locked_position != position:  # another process published while this one waited for the lock
                version = delta.current_version(spark, lake.table(publication.source)) or version
            transfer = _Transfer(connection, spark, lake, publication, version, locked_position)
            result = transfer.run(table, full_refresh)
        failpoint("after_publish_commit", publication.source)
        return result


def is_current(lake: Lake, position: PublishPosition) -> bool:
    """Return whether the newest file of the lake's Delta log is the published version. Needs no Spark session."""
    folder = _delta_folder(lake, position.source)
    if newest_version(folder) != position.version:
        return False
    return position.commit_id == commit_id(folder, position.version) is not None


def has_unread_changes(spark: SparkSession, lake: Lake, position: PublishPosition) -> bool:
    """Return whether the next publish reads the change feed, so that its files must stay.

    A table that will be compared in full needs no change feed.

    Args:
        spark: Any session.
        lake: The lake of the published table.
        position: The publish position that PostgreSQL recorded.
    """
    version = delta.current_version(spark, lake.table(position.source))
    if version is None or _feed_unusable_reason(lake, version, position):
        return False
    return version.has_unread_changes(position.lake_table_id, position.version)


def is_behind(lake: Lake, version: TableVersion, position: PublishPosition | None) -> bool:
    """Return whether the rows in PostgreSQL may differ from those in the lake.

    Args:
        lake: The lake of the published table.
        version: The current version of the lake's table.
        position: The publish position that PostgreSQL recorded; None if nothing was published.
    """
    if position is None or _feed_unusable_reason(lake, version, position):
        return True
    return version.has_unread_changes(position.lake_table_id, position.version)


def _delta_folder(lake: Lake, source: str) -> StorePath:
    return lake.path(*source.split("."))


def _read_own_position(
    connection: Connection, table: PostgresTable, publication: Publication
) -> PublishPosition | None:
    position = catalog.read_position(connection, table)
    catalog.check_source(position, publication.pipeline, publication.source, table)
    return position


def _limit_partition_size(spark: SparkSession, version: TableVersion) -> None:
    """Make partitions so small that the driver can keep two; Spark coalesces them again if there are few rows."""
    spark.conf.set("spark.sql.files.maxPartitionBytes", str(_MAX_PARTITION_BYTES))
    if spark.conf.get("spark.sql.adaptive.enabled") == "true":
        partitions = max(
            int(spark.conf.get("spark.sql.shuffle.partitions") or 1), -(-version.size // _MAX_PARTITION_BYTES)
        )
        spark.conf.set("spark.sql.shuffle.partitions", str(partitions))


def _feed_unusable_reason(lake: Lake, version: TableVersion, position: PublishPosition) -> str:
    """Return why the changes since `position` cannot be taken from the change feed; empty if they can."""
    source = position.source
    if position.lake_table_id != version.id or position.version > version.version:
        return f"{source} was replaced"
    if position.commit_id is None or position.commit_id != commit_id(_delta_folder(lake, source), position.version):
        return f"version {position.version} of {source} is no longer in its log, or is a different one"
    if any(c.operation == "RESTORE" for c in version.commits if c.version > position.version):
        return f"{source} was restored"
    # The feed skips a missing commit without an error.
    return _unreadable_feed_reason(source) if version.has_missing_commits_since(position.version) else ""


def _unreadable_feed_reason(source: str) -> str:
    return f"the change feed of {source} can no longer be read"


@dataclass(frozen=True)
class _Transfer:
    """One publish transaction: the pinned version of the lake's table, and the locked publish position."""

    connection: Connection
    spark: SparkSession
    lake: Lake
    publication: Publication
    version: TableVersion
    position: PublishPosition | None

    def run(self, table: PostgresTable, full_refresh: bool) -> PublishResult:
        """Stage the rows, apply them to the table and write the new position."""
        publication, version = self.publication, self.version
        rows = delta.read(self.spark, self.lake.table(publication.source), version.version)
        rows = live_rows(publication.source, rows)
        keys = tuple(stored_names(publication.keys, rows.columns))
        target = TargetTable(
            table,
            types.postgres_columns(rows.schema, publication.source, keys),
            keys,
            f"{publication.source} of {publication.pipeline}, written by `lakehouse publish`: other changes are lost",
        )
        check_encoding(self.connection, target, publication.source)
        check_columns(self.connection, target, publication.source)
        status, reason = self._load_stage(target, rows, full_refresh)
        failpoint("after_publish_staged", publication.source)
        counts = apply_stage(self.connection, target, is_complete=status == "compared")
        failpoint("after_publish_applied", publication.source)
        commit = commit_id(_delta_folder(self.lake, publication.source), version.version)
        position = PublishPosition(publication.pipeline, publication.source, version.id, version.version, commit)
        catalog.write_position(self.connection, table, position)
        failpoint("before_publish_commit", publication.source)
        return PublishResult(status, reason, counts)

    def _load_stage(self, target: TargetTable, rows: DataFrame, full_refresh: bool) -> tuple[str, str]:
        """Stage the changed rows, or all rows if the change feed cannot be used; return the status and its reason."""
        reason = "full refresh requested" if full_refresh else self._comparison_reason(target)
        if not reason:
            assert self.position is not None
            try:
                path, read_version = self.lake.table(self.publication.source), self.position.version
                images = delta.read_change_feed(self.spark, path, read_version, self.version.version)
                images = live_changes(self.publication.source, images)
                lines = copy_rows.change_lines(images, rows.schema, target.keys)
                with self.connection.transaction():
                    count = load_stage(self.connection, target, copy_rows.read_blocks(lines))
                return "published", f"{counted(count, 'key')} changed since version {self.position.version}"
            except SPARK_ERRORS as error:
                if not is_feed_unreadable(error):
                    raise
                reason = _unreadable_feed_reason(self.publication.source)
        load_stage(self.connection, target, copy_rows.read_blocks(copy_rows.row_lines(rows)))
        check_unique_keys(self.connection, target, self.publication.source)
        return "compared", reason

    def _comparison_reason(self, target: TargetTable) -> str:
        if self.position is None:
            return "first publish"
        if has_different_key(self.connection, target):
            return "its key columns changed"
        return _feed_unusable_reason(self.lake, self.version, self.position)
