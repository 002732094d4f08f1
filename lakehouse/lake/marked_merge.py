"""Merges changes into a large Delta table from the driver: changed rows are marked in their files, not rewritten.

Delta's MERGE with deletion vectors reads a table twice to find the rows that a few changes touch, in Spark. The driver
finds them with DuckDB in a fraction of the time (docs/decisions/0027-marked-merge.md). Everything that is written is
written by Delta's own classes: data files and Change Data Feed (`TransactionalWrite.writeFiles`), deletion vectors
(`DeletionVectorStore`) and the commit (`OptimisticTransaction`), which checks for commits made in the meantime. So the
commit is that of a MERGE, and this module owns no part of Delta's format.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from lakehouse.lake import delta, local_diff, small_tables, table_rows
from lakehouse.lake.duckdb_sql import literal, parquet, quote
from lakehouse.lake.table_rows import TableRows
from lakehouse.spark.session import has_jvm, is_local
from lakehouse.storage import temp_dirs

# What MERGE keeps beside rows, such as the ids of row tracking, is left to MERGE.
_WRITABLE_FEATURES = frozenset(
    {
        "appendOnly",
        "invariants",
        "changeDataFeed",
        "checkConstraints",
        "generatedColumns",  # listed for each table of an earlier protocol; a column that is computed has metadata
        "deletionVectors",
        "timestampNtz",
    }
)
_PROPERTIES = ("delta.enableChangeDataFeed", "delta.enableDeletionVectors")
_CHANGE_TYPE = "_change_type"  # of the Change Data Feed; null: a row of the table
_MEMORY_LIMIT = "2GB"  # beyond it DuckDB works on disk


def merge(
    spark: SparkSession,
    address: str,
    actions: pa.Table | pa.RecordBatchReader,
    keys: list[str],
    action: str,
    progress: Mapping[str, Any],
    temp_root: Path,
) -> bool:
    """Insert, update and delete rows of a table, in one commit.

    Args:
        spark: A session that nobody else uses.
        address: The table's address.
        actions: Rows with unique keys and, in the column `action`, I, U or D; an inserted key is not in the table, any
            other is.
        keys: The key columns; null is a value like any other.
        action: The name of the column with the action.
        progress: The metadata that the commit records.
        temp_root: Where to create a folder for rows on their way, which a killed process leaves to the next one.

    Returns:
        Whether the rows were written; if not, MERGE has to do it, and nothing was written.
    """
    found = _find_table(spark, address, keys, [name for name in actions.schema.names if name != action])
    if found is None:
        return False
    files, rows = found
    with temp_dirs.temp_dir(temp_root) as folder:
        changed = folder / "changed.parquet"
        try:
            with _connect(folder) as connection:
                connection.register("incoming", actions)
                connection.execute("CREATE TABLE actions AS SELECT * FROM incoming")
                _find_rows(connection, rows, keys, action)
                counts = _count_difference(connection, action)
                if counts is None:
                    return False
                _write_changed_rows(connection, files.schema.names, action, changed)
                marks = _positions_to_mark(connection, rows)
        except (duckdb.Error, *small_tables.UNREADABLE_ERRORS):  # a file that is damaged, or not text: Spark reports it
            return False
        return _commit(spark, address, files, changed, marks, counts, progress)


def _find_table(
    spark: SparkSession, address: str, keys: list[str], columns: list[str]
) -> tuple[delta.DataFiles, TableRows] | None:
    """Return the table's files and rows, if this module can write it."""
    if not has_jvm(spark) or not is_local(spark) or not delta.is_on_disk(address):
        return None
    files = delta.data_files(address, with_vectors=True)
    if files is None or files.has_constraints or not files.listed.writer_features <= _WRITABLE_FEATURES:
        return None
    properties = files.listed.properties
    is_marked = all(properties.get(name) == "true" for name in _PROPERTIES)
    is_restricted = properties.get("delta.appendOnly") == "true" or any(
        field.metadata or not field.nullable for field in files.schema
    )
    has_columns = sorted(files.schema.names) == sorted(columns)
    if not is_marked or is_restricted or not has_columns or not local_diff.can_compare(files.schema, keys):
        return None
    rows = table_rows.find_rows(address, files.schema, files.version)
    return (files, rows) if rows and all(isinstance(file, Path) for file in rows.files) else None


def _connect(folder: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": str(folder / "spilled")})
    connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false; SET enable_progress_bar = false")
    connection.execute("SET python_enable_replacements = false")  # no variable of this module is taken for a table
    return connection


def _find_rows(connection: duckdb.DuckDBPyConnection, rows: TableRows, keys: list[str], action: str) -> None:
    """Fill the table `found` with the rows that actions touch, the number of their file and their position in it."""
    actions = connection.table("actions")
    types = {name: str(kind) for name, kind in zip(actions.columns, actions.types, strict=True) if name != action}
    same_key = " AND ".join(f"t.{quote(key)} IS NOT DISTINCT FROM a.{quote(key)}" for key in keys)
    names = ", ".join(f"t.{quote(name)}" for name in types)
    selected = f"a.n AS _cdc_number, a.{quote(action)} AS _cdc_kind, {names}"
    of_keys = f"SELECT rowid AS n, {quote(action)}, {', '.join(map(quote, keys))} FROM actions"
    connection.execute(
        f"CREATE TABLE found AS SELECT 0 AS _cdc_file, 0::BIGINT AS _cdc_row, rowid AS _cdc_number,"
        f" {quote(action)} AS _cdc_kind, {', '.join(map(quote, types))} FROM actions LIMIT 0"
    )
    for number, file in enumerate(rows.files):
        assert isinstance(file, Path)  # see `_find_table`
        in_file = set(pq.read_schema(file).names)
        columns = ", ".join(
            f"CAST({quote(name) if name in in_file else 'NULL'} AS {kind}) AS {quote(name)}"
            for name, kind in types.items()
        )
        source, is_left = parquet([file], "file_row_number = true"), ""
        if (deleted := rows.deleted_positions(file)) is not None:
            connection.register("deleted", pa.table({"n": deleted}))
            is_left = " WHERE file_row_number NOT IN (SELECT n FROM deleted)"
        query = (
            f"SELECT {number} AS _cdc_file, t.file_row_number AS _cdc_row, {selected}"
            f" FROM (SELECT {columns}, file_row_number FROM {source}{is_left}) t JOIN ({of_keys}) a ON {same_key}"
        )
        connection.execute(f"INSERT INTO found {query}")


def _count_difference(connection: duckdb.DuckDBPyConnection, action: str) -> dict[str, int] | None:
    """Return the number of actions of each kind, or None if they are not the difference from the table.

    That is so if each updated or deleted key has one row, and no inserted one has any.
    """
    kinds = f"SELECT {quote(action)} AS kind, count(*) AS n FROM actions GROUP BY 1"
    found = "SELECT _cdc_kind AS kind, count(*) AS n, count(DISTINCT _cdc_number) AS keys FROM found GROUP BY 1"
    query = f"SELECT kind, a.n, coalesce(f.n, 0), coalesce(keys, 0) FROM ({kinds}) a LEFT JOIN ({found}) f USING (kind)"
    rows = connection.execute(query).fetchall()
    is_difference = all(n == there == (0 if kind == "I" else count) for kind, count, n, there in rows)
    return {kind: count for kind, count, *_ in rows} if is_difference else None


def _write_changed_rows(connection: duckdb.DuckDBPyConnection, names: list[str], action: str, file: Path) -> None:
    """Write the new rows of the table, and the rows of its Change Data Feed with their type, to one file."""
    columns, kind = ", ".join(map(quote, names)), quote(action)
    of_change = f"CASE {kind} WHEN 'I' THEN 'insert' ELSE 'update_postimage' END"
    before = "CASE _cdc_kind WHEN 'D' THEN 'delete' ELSE 'update_preimage' END"
    connection.execute(
        f"COPY (SELECT {columns}, NULL::VARCHAR AS {_CHANGE_TYPE} FROM actions WHERE {kind} <> 'D'"
        f" UNION ALL SELECT {columns}, {of_change} FROM actions WHERE {kind} <> 'D'"
        f" UNION ALL SELECT {columns}, {before} FROM found) TO {literal(str(file))} (FORMAT parquet)"
    )


def _positions_to_mark(connection: duckdb.DuckDBPyConnection, rows: TableRows) -> dict[str, pa.Array]:
    """Return the positions of all deleted rows of each file that has newly deleted ones, by the file's name."""
    marks = {}
    for number, file in enumerate(rows.files):
        query = f"SELECT _cdc_row FROM found WHERE _cdc_file = {number}"
        positions = connection.sql(query).to_arrow_table().column(0)
        if len(positions):
            deleted = rows.deleted_positions(file)
            before = [] if deleted is None else [deleted]
            marks[file.name] = pa.concat_arrays([*before, *positions.chunks])
    return marks


# --- with Delta's classes ---------------------------------------------------------------------------------------------


def _commit(
    spark: SparkSession,
    address: str,
    files: delta.DataFiles,
    changed: Path,
    marks: Mapping[str, pa.Array],
    counts: Mapping[str, int],
    progress: Mapping[str, Any],
) -> bool:
    """Write the changed rows and the deletion vectors, and commit them, unless there is a newer version by now."""
    jvm: Any = spark._jvm
    classes, converters = jvm.org.apache.spark.sql.delta, jvm.scala.jdk.javaapi.CollectionConverters
    log = classes.DeltaLog.forTable(spark._jsparkSession, address)
    with _active(spark), delta.commit_metadata(spark, progress):
        transaction = log.startTransaction()
        if transaction.readVersion() != files.version:
            return False
        transaction.readWholeTable()  # any commit in the meantime that changed rows ends this one
        table_files = {unquote(file.path()): file for file in transaction.snapshot().allFiles().collect()}
        fields = T.StructType([*files.schema, T.StructField(_CHANGE_TYPE, T.StringType())])
        frame = spark.read.schema(fields).parquet(str(changed))
        actions = list(converters.asJava(transaction.writeFiles(frame._jdf)))
        actions += _mark_rows(jvm, log, table_files, marks, _row_counts(files))
        nothing, no_clauses = jvm.scala.Option.empty(), _singleton(jvm.scala.collection.immutable, "Nil")
        operation = getattr(classes, "DeltaOperations$Merge")(*[nothing] * 4, *[no_clauses] * 3)
        transaction.registerSQLMetrics(spark._jsparkSession, _metrics(spark, counts))
        transaction.commit(converters.asScala(actions).toSeq(), operation)
    return True


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


def _singleton(package: Any, name: str) -> Any:
    """Return an object of Scala that its package has by name."""
    return getattr(getattr(package, f"{name}$"), "MODULE$")


def _row_counts(files: delta.DataFiles) -> dict[str, int]:
    """Return the number of rows of each file, deleted ones included."""
    return {file.path.name: pq.read_metadata(file.path).num_rows for file in files.listed.files}


def _metrics(spark: SparkSession, counts: Mapping[str, int]) -> Any:
    """Return the metrics that the table's history shows for the commit."""
    jvm: Any = spark._jvm
    values = {
        "operationNumSourceRows": sum(counts.values()),
        "numTargetRowsInserted": counts.get("I", 0),
        "numTargetRowsUpdated": counts.get("U", 0),
        "numTargetRowsDeleted": counts.get("D", 0),
        "numTargetRowsCopied": 0,
    }
    metrics = jvm.scala.collection.immutable.HashMap()
    for name, value in values.items():
        metric = jvm.org.apache.spark.sql.execution.metric.SQLMetrics.createMetric(spark._jsc.sc(), name)
        metric.set(value)
        metrics = metrics.updated(name, metric)
    return metrics


def _mark_rows(
    jvm: Any, log: Any, table_files: Mapping[str, Any], marks: Mapping[str, pa.Array], row_counts: Mapping[str, int]
) -> list[Any]:
    """Write the deletion vectors of files to one file, and return the actions that give them to the table's files."""
    classes = jvm.org.apache.spark.sql.delta
    hadoop_conf = log.newDeltaHadoopConf()
    store = _singleton(classes.storage.dv, "DeletionVectorStore").createInstance(hadoop_conf)
    folder = classes.util.PathWithFileSystem.withConf(log.dataPath(), hadoop_conf)
    identifier = jvm.java.util.UUID.fromString(str(uuid.uuid4()))
    writer = store.createWriter(store.generateFileNameInTable(folder, identifier, ""))
    actions: list[Any] = []
    try:
        for name, positions in marks.items():
            file = table_files[name]
            if len(positions) == row_counts[name]:
                actions.append(file.remove())
                continue
            vector = _bitmap(jvm, positions)
            offset = jvm.scala.Some(writer.write(vector).offset())
            describe = classes.actions.DeletionVectorDescriptor.onDiskWithRelativePath
            descriptor = describe(identifier, "", len(vector), len(positions), offset, jvm.scala.Option.empty())
            marked = file.removeRows(descriptor, True, True)
            actions += [marked._1(), marked._2()]
    finally:
        writer.close()
    return actions


def _bitmap(jvm: Any, positions: pa.Array) -> bytes:
    """Return positions in the form that Delta stores."""
    classes, values = jvm.org.apache.spark.sql.delta.deletionvectors, _long_array(jvm, positions)
    bitmap = classes.RoaringBitmapArray()
    bitmap.addAll(jvm.scala.collection.immutable.ArraySeq.unsafeWrapArray(values))
    bitmap.runOptimize()
    return bytes(bitmap.serializeAsByteArray(classes.RoaringBitmapArrayFormat.Portable()))


def _long_array(jvm: Any, numbers: pa.Array) -> Any:
    """Return numbers as an array of the JVM: in one call, not in one for each number."""
    values = jvm.java.lang.reflect.Array.newInstance(jvm.java.lang.Long.TYPE, len(numbers))
    content = numbers.cast(pa.int64()).to_numpy().astype(">i8").tobytes()
    jvm.java.nio.ByteBuffer.wrap(content).asLongBuffer().get(values)
    return values
