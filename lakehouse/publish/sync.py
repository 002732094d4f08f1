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
from lakehouse.publish.catalog import Place, Position
from lakehouse.publish.connection import Connection, connected
from lakehouse.publish.statements import Target
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import file_io
from lakehouse.storage.delta_log import TableVersion, commit_id, newest_version
from lakehouse.storage.paths import Lake

# Of the lake's files, in one partition: the driver holds the text of two of them.
_PARTITION_BYTES = 16 << 20


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
class Kept:
    """What became of it: `published`, `compared` (whole), `current` or `waiting`; why; and rows by what was done."""

    how: str
    why: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


def publish(what: Publication, lake: Lake, session: Callable[[], SparkSession], whole: bool = False) -> Kept:
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
    path = lake.table(what.source)
    with connected(what.url) as connection:
        place = catalog.located(connection, what.table)
        at = _position(connection, place, what)
        newest = newest_version(_folder(lake, what.source))
        if newest < 0:
            return Kept("waiting", f"{what.source} has no snapshot yet")
        if not whole and at and is_newest(lake, at):
            return Kept("current")
        spark = session()
        head = delta.current_version(spark, path)
        assert head is not None
        if not whole and not is_behind(lake, head, at):
            return Kept("current")
        _in_small_parts(spark, head)
        catalog.make_record(connection, place)
        with catalog.writing(connection, place):
            locked = _position(connection, place, what)
            if locked != at:  # somebody published while the lock was waited for
                head = delta.current_version(spark, path) or head
            return _Step(connection, spark, lake, what, place, head, locked).done(whole)


def is_newest(lake: Lake, at: Position) -> bool:
    """Whether the lake's table has nothing newer, as far as its log's newest file tells; without Spark."""
    folder = _folder(lake, at.source)
    return newest_version(folder) == at.version and at.commit_id == commit_id(folder, at.version) is not None


def has_to_read(spark: SparkSession, lake: Lake, at: Position) -> bool:
    """Whether changes of the lake's table have still to be read; those of one that will be compared whole do not."""
    head = delta.current_version(spark, lake.table(at.source))
    return head is not None and not _why_whole(lake, at, head) and head.has_changed_since(at.version)


def is_behind(lake: Lake, head: TableVersion, at: Position | None) -> bool:
    """Whether the lake's table may have rows that PostgreSQL has not, or the other way round."""
    return at is None or bool(_why_whole(lake, at, head)) or head.has_changed_since(at.version)


def _folder(lake: Lake, source: str) -> file_io.StorePath:
    return lake.path(*source.split("."))


def _in_small_parts(spark: SparkSession, head: TableVersion) -> None:
    """Have the session make partitions of which the driver can hold two; few rows are put together again."""
    spark.conf.set("spark.sql.files.maxPartitionBytes", str(_PARTITION_BYTES))
    if spark.conf.get("spark.sql.adaptive.enabled") == "true":
        parts = max(int(spark.conf.get("spark.sql.shuffle.partitions") or 1), -(-head.size // _PARTITION_BYTES))
        spark.conf.set("spark.sql.shuffle.partitions", str(parts))


def _position(connection: Connection, place: Place, what: Publication) -> Position | None:
    at = catalog.position(connection, place)
    catalog.require_ours(at, what.pipeline, what.source, place)
    return at


def _why_whole(lake: Lake, at: Position, head: TableVersion) -> str:
    """Why what changed since `at` cannot be told; empty if it can."""
    if at.lake_table_id != head.id or at.version > head.version:
        return f"{at.source} was replaced"
    if at.commit_id is None or at.commit_id != commit_id(_folder(lake, at.source), at.version):
        return f"version {at.version} of {at.source} is no longer in its log, or another one"
    if any(c.operation == "RESTORE" for c in head.commits if c.version > at.version):
        return f"{at.source} was restored"
    return ""


@dataclass(frozen=True)
class _Step:
    """A transaction at work: the table as it is pinned in the lake, and what PostgreSQL is at."""

    connection: Connection
    spark: SparkSession
    lake: Lake
    what: Publication
    place: Place
    head: TableVersion
    at: Position | None

    @property
    def path(self) -> str:
        return self.lake.table(self.what.source)

    def done(self, whole: bool) -> Kept:
        rows, what = delta.read(self.spark, self.path, self.head.version), self.what
        comment = f"{what.source} of {what.pipeline}, kept by `lakehouse publish`: what others write here is lost"
        found = types.columns(rows.schema, what.source, what.keys)
        target = Target(self.place, found, what.keys, comment)
        table.refuse_misfits(self.connection, target, what.source)
        kept = self._staged(target, rows, whole)
        counts = table.make_equal(self.connection, target, kept.how == "compared")
        commit = commit_id(_folder(self.lake, what.source), self.head.version)
        now = Position(what.pipeline, what.source, self.head.id, self.head.version, commit)
        catalog.record(self.connection, self.place, now)
        return replace(kept, counts=counts)

    def _staged(self, target: Target, rows: DataFrame, whole: bool) -> Kept:
        """What changed or, where that cannot be told, everything, in the stage."""
        why = "asked for" if whole else self._why_whole(target)
        if not why:
            assert self.at is not None
            try:
                with self.connection.transaction():
                    count = table.stage(self.connection, target, copy_rows.blocks(self._changes(rows.schema)))
                return Kept("published", f"{count:,} keys changed since version {self.at.version}")
            except SPARK_ERRORS as error:
                if not is_feed_unreadable(error):
                    raise
                why = f"the changes of {self.what.source} are no longer there"
        table.stage(self.connection, target, copy_rows.blocks(copy_rows.of_rows(rows)))
        table.refuse_doubled(self.connection, target, self.what.source)
        return Kept("compared", why)

    def _why_whole(self, target: Target) -> str:
        if self.at is None:
            return "first time"
        if table.has_other_key(self.connection, target):
            return "its key is another one"
        return _why_whole(self.lake, self.at, self.head)

    def _changes(self, fields: T.StructType) -> DataFrame:
        assert self.at is not None
        images = delta.read_change_feed(self.spark, self.path, self.at.version, self.head.version)
        return copy_rows.of_changes(images, fields, self.what.keys)
