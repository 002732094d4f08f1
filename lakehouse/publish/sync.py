"""One published table, brought up to date with its table in the lake. In order:

1. ask PostgreSQL which version it is at; the newest one already? done, without Spark
2. in one transaction, alone: ask again
3. stage what changed since by COPY or, where that cannot be told, the whole table
4. delete, update, insert what differs; and say which version it is at now

The first load, the catch-up after a week, a lost change feed, a table made anew or restored: all of them are this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from lakehouse.lake import delta
from lakehouse.lake.delta import is_feed_unreadable
from lakehouse.publish import catalog, copy_rows, table, types
from lakehouse.publish.catalog import PostgresTable, PublishPosition
from lakehouse.publish.connection import Connection, connect
from lakehouse.publish.statements import TargetTable
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import file_io
from lakehouse.storage.delta_log import TableVersion, commit_id, newest_version
from lakehouse.storage.paths import Lake

# Of the lake's files, in one partition: the driver holds the text of two of them.
_MAX_PARTITION_BYTES = 16 << 20


@dataclass(frozen=True)
class Publication:
    """What is to be published where.

    Attributes:
        table: in PostgreSQL, with or without its schema.
        keys: what tells the rows of `source` apart.
    """

    pipeline: str
    source: str
    url: str = field(repr=False)
    table: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class PublishResult:
    """What became of it: `published`, `compared` (whole), `current` or `waiting`; why; and rows by what was done."""

    status: str
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


def publish(
    publication: Publication, lake: Lake, open_session: Callable[[], SparkSession], full_refresh: bool = False
) -> PublishResult:
    """Make the published table equal to its table in the lake as it is now.

    Args:
        session: gives a session of the caller's own; only asked if something may be new.
        whole: compare all of it, whatever PostgreSQL says.

    Raises:
        ConfigError: the table is not ours, or its columns no longer fit.
        DataRefused: two rows with one key, or a value that PostgreSQL does not have.
        InfrastructureError: PostgreSQL cannot be reached. The table is as it was.
        LakeBusy: somebody else publishes to it.
    """
    path = lake.table(publication.source)
    with connect(publication.url) as connection:
        place = catalog.resolve_table(connection, publication.table)
        at = _read_own_position(connection, place, publication)
        newest = newest_version(_delta_folder(lake, publication.source))
        if newest < 0:
            return PublishResult("waiting", f"{publication.source} has no snapshot yet")
        if not full_refresh and at and is_current(lake, at):
            return PublishResult("current")
        spark = open_session()
        head = delta.current_version(spark, path)
        assert head is not None
        if not full_refresh and not is_behind(lake, head, at):
            return PublishResult("current")
        _limit_partition_size(spark, head)
        catalog.create_position_table(connection, place)
        with catalog.publish_transaction(connection, place):
            locked = _read_own_position(connection, place, publication)
            if locked != at:  # somebody published while the lock was waited for
                head = delta.current_version(spark, path) or head
            return _PublishTransaction(connection, spark, lake, publication, place, head, locked).publish(full_refresh)


def is_current(lake: Lake, position: PublishPosition) -> bool:
    """Whether the lake's table has nothing newer, as far as its log's newest file tells; without Spark."""
    folder = _delta_folder(lake, position.source)
    return (
        newest_version(folder) == position.version
        and position.commit_id == commit_id(folder, position.version) is not None
    )


def has_unread_changes(spark: SparkSession, lake: Lake, position: PublishPosition) -> bool:
    """Whether changes of the lake's table have still to be read; those of one that will be compared whole do not."""
    version = delta.current_version(spark, lake.table(position.source))
    return (
        version is not None
        and not _full_refresh_reason(lake, position, version)
        and version.has_changed_since(position.version)
    )


def is_behind(lake: Lake, version: TableVersion, position: PublishPosition | None) -> bool:
    """Whether the lake's table may have rows that PostgreSQL has not, or the other way round."""
    return (
        position is None
        or bool(_full_refresh_reason(lake, position, version))
        or version.has_changed_since(position.version)
    )


def _delta_folder(lake: Lake, source: str) -> file_io.StorePath:
    return lake.path(*source.split("."))


def _limit_partition_size(spark: SparkSession, version: TableVersion) -> None:
    """Have the session make partitions of which the driver can hold two; few rows are put together again."""
    spark.conf.set("spark.sql.files.maxPartitionBytes", str(_MAX_PARTITION_BYTES))
    if spark.conf.get("spark.sql.adaptive.enabled") == "true":
        parts = max(int(spark.conf.get("spark.sql.shuffle.partitions") or 1), -(-version.size // _MAX_PARTITION_BYTES))
        spark.conf.set("spark.sql.shuffle.partitions", str(parts))


def _read_own_position(
    connection: Connection, table: PostgresTable, publication: Publication
) -> PublishPosition | None:
    at = catalog.read_position(connection, table)
    catalog.check_source(at, publication.pipeline, publication.source, table)
    return at


def _full_refresh_reason(lake: Lake, position: PublishPosition, version: TableVersion) -> str:
    """Why what changed since `at` cannot be told; empty if it can."""
    if position.lake_table_id != version.id or position.version > version.version:
        return f"{position.source} was replaced"
    if position.commit_id is None or position.commit_id != commit_id(
        _delta_folder(lake, position.source), position.version
    ):
        return f"version {position.version} of {position.source} is no longer in its log, or another one"
    if any(c.operation == "RESTORE" for c in version.commits if c.version > position.version):
        return f"{position.source} was restored"
    return ""


@dataclass(frozen=True)
class _PublishTransaction:
    """A transaction at work: the table as it is pinned in the lake, and what PostgreSQL is at."""

    connection: Connection
    spark: SparkSession
    lake: Lake
    publication: Publication
    table: PostgresTable
    version: TableVersion
    position: PublishPosition | None

    @property
    def path(self) -> str:
        return self.lake.table(self.publication.source)

    def publish(self, full_refresh: bool) -> PublishResult:
        rows, what = delta.read(self.spark, self.path, self.version.version), self.publication
        comment = f"{what.source} of {what.pipeline}, kept by `lakehouse publish`: what others write here is lost"
        found = types.postgres_columns(rows.schema, what.source, what.keys)
        target = TargetTable(self.table, found, what.keys, comment)
        table.check_columns(self.connection, target, what.source)
        kept = self._stage_rows(target, rows, full_refresh)
        counts = table.apply_stage(self.connection, target, kept.status == "compared")
        commit = commit_id(_delta_folder(self.lake, what.source), self.version.version)
        now = PublishPosition(what.pipeline, what.source, self.version.id, self.version.version, commit)
        catalog.write_position(self.connection, self.table, now)
        return replace(kept, counts=counts)

    def _stage_rows(self, target: TargetTable, rows: DataFrame, full_refresh: bool) -> PublishResult:
        """What changed or, where that cannot be told, everything, in the stage."""
        why = "asked for" if full_refresh else self._reason_for_full_refresh(target)
        if not why:
            assert self.position is not None
            try:
                with self.connection.transaction():
                    count = table.load_stage(
                        self.connection, target, copy_rows.read_blocks(self._changed_lines(rows.schema))
                    )
                return PublishResult("published", f"{count:,} keys changed since version {self.position.version}")
            except SPARK_ERRORS as error:
                if not is_feed_unreadable(error):
                    raise
                why = f"the changes of {self.publication.source} are no longer there"
        table.load_stage(self.connection, target, copy_rows.read_blocks(copy_rows.row_lines(rows)))
        table.check_unique_keys(self.connection, target, self.publication.source)
        return PublishResult("compared", why)

    def _reason_for_full_refresh(self, target: TargetTable) -> str:
        if self.position is None:
            return "first time"
        if table.has_different_key(self.connection, target):
            return "its key is another one"
        return _full_refresh_reason(self.lake, self.position, self.version)

    def _changed_lines(self, schema: T.StructType) -> DataFrame:
        assert self.position is not None
        images = delta.read_change_feed(self.spark, self.path, self.position.version, self.version.version)
        return copy_rows.change_lines(images, schema, self.publication.keys)
