"""Commits files that the driver wrote to a Delta table on a disk, by Delta's own transaction.

A write by Spark plans a query and starts jobs, however few rows there are. Here only the commit is Spark's: Delta's
`OptimisticTransaction` checks the protocol and commits made in the meantime, assigns row ids, and writes the checksum
and checkpoints. Its classes are no public interface (docs/decisions/0027-marked-merge.md).
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote as quote_url

from pyspark.sql import SparkSession
from pyspark.sql import types as T

from lakehouse.failpoints import failpoint
from lakehouse.lake import delta
from lakehouse.lake.file_stats import WrittenFile
from lakehouse.spark.session import has_jvm, is_local


def can_commit(spark: SparkSession, address: str) -> bool:
    """Return whether the driver may write a table's files, and its JVM can commit them.

    Args:
        spark: Any session.
        address: The table's address.
    """
    return has_jvm(spark) and is_local(spark) and delta.is_on_disk(address)


def create(
    spark: SparkSession,
    address: str,
    fields: T.StructType,
    properties: Mapping[str, str],
    progress: Mapping[str, Any] | None = None,
    files: Iterable[WrittenFile] = (),
) -> bool:
    """Create a table, in one commit.

    Args:
        spark: A session that nobody else uses.
        address: The table's address, where there is no table.
        fields: Its columns.
        properties: Its properties.
        progress: The metadata that the commit records; None: none.
        files: The files with its rows, which are moved there.

    Returns:
        Whether it was created; if not, Spark has to create it, or somebody else did.
    """
    if not can_commit(spark, address):
        return False
    with begin(spark, address, progress or {}) as transaction:
        if transaction.read_version >= 0:
            return False
        columns = {"schemaString": fields.json(), "partitionColumns": [], "configuration": dict(properties)}
        parquet = {"provider": "parquet", "options": {}}
        now = int(time.time() * 1000)
        transaction.set_metadata({"id": str(uuid.uuid4()), "format": parquet, "createdTime": now, **columns})
        added = [transaction.added_file(move(file, Path(address), "part"), file.size, file.stats) for file in files]
        transaction.commit(added, transaction.append_operation)
    return True


def move(file: WrittenFile, table: Path, kind: str, folder: str = "") -> str:
    """Move a file into a table's folder, under a name of its own.

    Args:
        file: The file.
        table: The table's folder.
        kind: The beginning of its name.
        folder: The folder in that of the table.

    Returns:
        Its name in the table's folder.
    """
    name = f"{kind}-00000-{uuid.uuid4()}.c000.zstd.parquet"
    (table / folder).mkdir(parents=True, exist_ok=True)
    shutil.move(file.path, table / folder / name)
    failpoint("after_file_moved", table)
    return f"{folder}/{name}" if folder else name


@contextmanager
def begin(spark: SparkSession, address: str, progress: Mapping[str, Any]) -> Iterator[Transaction]:
    """Begin a transaction, which is to be committed in this context.

    Args:
        spark: A session that nobody else uses.
        address: The table's address.
        progress: The metadata that the commit records.
    """
    with _active(spark), delta.commit_metadata(spark, progress):
        yield Transaction(spark, address)


class Transaction:
    """A transaction of Delta.

    Attributes:
        jvm: The JVM.
        classes: Delta's package.
        log: The table's `DeltaLog`.
    """

    def __init__(self, spark: SparkSession, address: str) -> None:
        jvm: Any = spark._jvm
        self._spark, self.jvm, self._address = spark, jvm, address
        self.classes = jvm.org.apache.spark.sql.delta
        self.log = self.classes.DeltaLog.forTable(spark._jsparkSession, address)
        self._transaction = self.log.startTransaction()

    @property
    def read_version(self) -> int:
        """The version that the transaction reads; -1 if there is no table."""
        return int(self._transaction.readVersion())

    def fail_on_other_commits(self) -> None:
        """Let a commit that anybody makes in the meantime end this one, if it changes rows."""
        self._transaction.readWholeTable()

    def action(self, document: Mapping[str, Any]) -> Any:
        """Return an action of the log, such as `{"add": {...}}`."""
        return self.singleton(self.classes.actions, "Action").fromJson(json.dumps(document))

    def added_file(self, name: str, size: int, stats: str) -> Any:
        """Return the action that adds a data file to the table.

        Args:
            name: The file's name in the table's folder.
            size: Its bytes.
            stats: Its statistics, in JSON.
        """
        add = {"modificationTime": int(time.time() * 1000), "dataChange": True, "stats": stats}
        return self.action({"add": {"path": quote_url(name), "partitionValues": {}, "size": size, **add}})

    def change_data_file(self, name: str, size: int) -> Any:
        """Return the action that adds a file to the table's Change Data Feed.

        Args:
            name: The file's name in the table's folder.
            size: Its bytes.
        """
        cdc = {"path": quote_url(name), "partitionValues": {}, "size": size, "dataChange": False}
        return self.action({"cdc": cdc})

    def set_metrics(self, metrics: Mapping[str, int]) -> None:
        """Set the metrics that the table's history shows for the commit."""
        found = self.jvm.scala.collection.immutable.HashMap()
        create = self.jvm.org.apache.spark.sql.execution.metric.SQLMetrics.createMetric
        for name, value in metrics.items():
            metric = create(self._spark.sparkContext._jsc.sc(), name)
            metric.set(value)
            found = found.updated(name, metric)
        self._transaction.registerSQLMetrics(self._spark._jsparkSession, found)

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Set the metadata of a new table, as the log has it."""
        self._transaction.updateMetadataForNewTable(self.action({"metaData": metadata}))

    def set_properties(self, properties: Mapping[str, str]) -> None:
        """Set properties of the table, and let its protocol have the features that they need."""
        document = json.loads(self._transaction.metadata().json())
        document["metaData"]["configuration"] |= properties
        self._transaction.updateMetadata(self.action(document), False)

    def commit(self, actions: Iterable[Any], operation: Any) -> None:
        """Commit.

        Args:
            actions: The actions.
            operation: The operation in the table's history: `merge_operation` or `append_operation`.
        """
        failpoint("before_commit", self._address)
        to_scala = self.jvm.scala.jdk.javaapi.CollectionConverters.asScala
        self._transaction.commit(to_scala(list(actions)).toSeq(), operation)
        failpoint("after_commit", self._address)

    @property
    def merge_operation(self) -> Any:
        """The operation of a MERGE."""
        nothing, no_clauses = self.jvm.scala.Option.empty(), self.singleton(self.jvm.scala.collection.immutable, "Nil")
        return getattr(self.classes, "DeltaOperations$Merge")(*[nothing] * 4, *[no_clauses] * 3)

    @property
    def append_operation(self) -> Any:
        """The operation of an append."""
        append, nothing = self.jvm.org.apache.spark.sql.SaveMode.Append, self.jvm.scala.Option.empty()
        return getattr(self.classes, "DeltaOperations$Write")(append, *[nothing] * 8)

    def singleton(self, package: Any, name: str) -> Any:
        """Return an object of Scala that its package has by name."""
        return getattr(getattr(package, f"{name}$"), "MODULE$")


@contextmanager
def _active(spark: SparkSession) -> Iterator[None]:
    """Make a session the active one of this thread: Delta takes settings from that, such as the metadata to record."""
    sessions: Any = spark._get_j_spark_session_class(spark._jvm)
    before = sessions.getActiveSession()
    sessions.setActiveSession(spark._jsparkSession)
    try:
        yield
    finally:
        if before.isDefined():
            sessions.setActiveSession(before.get())
        else:
            sessions.clearActiveSession()
