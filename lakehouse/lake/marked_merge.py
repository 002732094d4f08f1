"""Merges changes into a Delta table from the driver: DuckDB finds and writes rows, and Delta commits them.

Delta's MERGE reads a table twice to find the rows that a few changes touch, and writes in Spark. The driver takes a
fraction of the time (docs/decisions/0027-marked-merge.md). Of a table with deletion vectors, changed rows are marked in
their files; of another one, or of a file of which most rows change, the rows that stay are written anew. The commit and
the vectors are written by Delta's own classes (`delta_transaction.py`). So the commit is that of a MERGE.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema

from lakehouse.lake import delta, delta_transaction, file_stats, local_diff, small_tables, table_rows
from lakehouse.lake.delta_transaction import Transaction, move
from lakehouse.lake.duckdb_sql import WIDE, connect, enable_optimizer, parquet, quote
from lakehouse.lake.file_stats import WrittenFile
from lakehouse.lake.table_rows import TableRows
from lakehouse.storage import temp_dirs
from lakehouse.storage.delta_files import DataFile

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
_MARKED = {"delta.enableDeletionVectors": "true"}
_CHANGE_TYPE = "_change_type"  # of the Change Data Feed
_NUMBER = "_cdc_number"  # of an action
_MARKED_SHARE = 0.5  # of a file's rows: if more are deleted, the rest is written anew


@dataclass
class _Plan:
    """The treatment of the files that have changed rows.

    Attributes:
        removed: The files whose rows are all gone, or written anew.
        marked: The positions of all deleted rows of the other files, by the file.
        copied: The SQL of the rows that are written anew.
        copied_count: Their number.
    """

    removed: list[DataFile] = field(default_factory=list)
    marked: list[tuple[DataFile, pa.Array]] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    copied_count: int = 0


def merge(
    spark: SparkSession,
    address: str,
    actions: pa.Table | pa.RecordBatchReader,
    keys: list[str],
    action: str,
    progress: Mapping[str, Any],
    temp_root: Path,
    mark: bool = False,
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
        temp_root: Where to create a folder for rows on their way, which a killed process leaves to the next one. It
            is on the table's disk.
        mark: Whether the table is to have deletion vectors from now on.

    Returns:
        Whether the rows were written; if not, MERGE has to do it, and nothing was written.
    """
    columns = from_arrow_schema(pa.schema([field for field in actions.schema if field.name != action]))
    found = _find_table(spark, address, keys, columns)
    if found is None:
        return False
    files, rows = found
    is_marked = _MARKED.items() <= files.listed.properties.items()
    with temp_dirs.temp_dir(temp_root) as folder:
        try:
            with _connect(folder, files.listed.size, len(files.schema)) as connection:
                connection.register("incoming", actions)
                # Numbered by a name of ours: DuckDB's `rowid` would be the table's column of that name, if it has one.
                connection.execute(f"CREATE TABLE actions AS SELECT *, row_number() OVER () AS {_NUMBER} FROM incoming")
                _find_rows(connection, rows, keys, action)
                counts = _count_difference(connection, action)
                if counts is None:
                    return False
                plan = _plan_files(connection, files, rows, mark or is_marked)
                written = _write_rows(connection, files.schema, plan, action, folder)
                feed = _write_feed(connection, files.schema, counts, action, folder)
        except (duckdb.Error, *small_tables.UNREADABLE_ERRORS):  # a file that is damaged, or not text: Spark reports it
            return False
        with delta_transaction.begin(spark, address, progress) as transaction:
            if transaction.read_version != files.version:  # there is a newer one by now
                return False
            if mark and not is_marked:
                transaction.set_properties(_MARKED)
            _commit(transaction, Path(address), plan, written, feed, counts)
        return True


def _find_table(
    spark: SparkSession, address: str, keys: list[str], columns: T.StructType
) -> tuple[delta.DataFiles, TableRows] | None:
    """Return the table's files and rows, if this module can write it."""
    if not delta_transaction.can_commit(spark, address):
        return None
    files = delta.data_files(address, with_vectors=True)
    if files is None or files.has_constraints or not files.listed.writer_features <= _WRITABLE_FEATURES:
        return None
    properties = files.listed.properties
    has_feed = properties.get("delta.enableChangeDataFeed") == "true"
    is_restricted = properties.get("delta.appendOnly") == "true" or any(
        field.metadata or not field.nullable for field in files.schema
    )
    # Files have the types of the rows: those of other types would be no files of this table.
    has_columns = {f.name: f.dataType for f in files.schema} == {f.name: f.dataType for f in columns}
    if not has_feed or is_restricted or not has_columns or not local_diff.can_compare(files.schema, keys):
        return None
    rows = table_rows.rows_of(address, files, files.schema)
    return (files, rows) if rows and all(isinstance(file, Path) for file in rows.files) else None


def _connect(folder: Path, table_bytes: int, column_count: int) -> duckdb.DuckDBPyConnection:
    connection = connect(folder / "spilled", table_bytes)
    connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false; SET enable_progress_bar = false")
    connection.execute("SET python_enable_replacements = false")  # no variable of this module is taken for a table
    enable_optimizer(connection, column_count <= WIDE)
    return connection


def _find_rows(connection: duckdb.DuckDBPyConnection, rows: TableRows, keys: list[str], action: str) -> None:
    """Fill the table `found` with the rows that actions touch, the number of their file and their position in it.

    The rows that are left in file `n` are the view `file_n`.
    """
    actions = connection.table("actions")
    types = {
        name: str(kind)
        for name, kind in zip(actions.columns, actions.types, strict=True)
        if name not in (action, _NUMBER)
    }
    same_key = " AND ".join(f"t.{quote(key)} IS NOT DISTINCT FROM a.{quote(key)}" for key in keys)
    names = ", ".join(f"t.{quote(name)}" for name in types)
    selected = f"a.{_NUMBER}, a.{quote(action)} AS _cdc_kind, {names}"
    of_keys = f"SELECT {_NUMBER}, {quote(action)}, {', '.join(map(quote, keys))} FROM actions"
    connection.execute(
        f"CREATE TABLE found AS SELECT 0 AS _cdc_file, 0::BIGINT AS _cdc_row, {_NUMBER},"
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
            connection.register(f"deleted_{number}", pa.table({"n": deleted}))
            is_left = f" WHERE file_row_number NOT IN (SELECT n FROM deleted_{number})"
        connection.execute(
            f"CREATE VIEW file_{number} AS SELECT {columns}, file_row_number AS _cdc_row FROM {source}{is_left}"
        )
        of_file = f"SELECT {number} AS _cdc_file, t._cdc_row, {selected} FROM file_{number} t"
        connection.execute(f"INSERT INTO found {of_file} JOIN ({of_keys}) a ON {same_key}")


def _count_difference(connection: duckdb.DuckDBPyConnection, action: str) -> dict[str, int] | None:
    """Return the number of actions of each kind, or None if they are not the difference from the table.

    That is so if each updated or deleted key has one row, and no inserted one has any.
    """
    kinds = f"SELECT {quote(action)} AS kind, count(*) AS n FROM actions GROUP BY 1"
    found = f"SELECT _cdc_kind AS kind, count(*) AS n, count(DISTINCT {_NUMBER}) AS keys FROM found GROUP BY 1"
    query = f"SELECT kind, a.n, coalesce(f.n, 0), coalesce(keys, 0) FROM ({kinds}) a LEFT JOIN ({found}) f USING (kind)"
    rows = connection.execute(query).fetchall()
    is_difference = all(n == there == (0 if kind == "I" else count) for kind, count, n, there in rows)
    return {kind: count for kind, count, *_ in rows} if is_difference else None


def _plan_files(
    connection: duckdb.DuckDBPyConnection, files: delta.DataFiles, rows: TableRows, has_vectors: bool
) -> _Plan:
    """Decide for each file with changed rows whether they are marked in it, or the others written anew."""
    plan = _Plan()
    columns = ", ".join(map(quote, files.schema.names))
    changed = dict(connection.execute("SELECT _cdc_file, count(*) FROM found GROUP BY 1").fetchall())
    for number, file in enumerate(files.listed.files):
        if number not in changed:
            continue
        deleted = rows.deleted_positions(file.path)
        in_file, deleted_count = pq.read_metadata(file.path).num_rows, 0 if deleted is None else len(deleted)
        of_file = f"SELECT _cdc_row FROM found WHERE _cdc_file = {number}"
        left = in_file - deleted_count - changed[number]
        # Delta gives no vector to a file whose rows the log does not count, as those of a writer without statistics.
        is_counted = "numRecords" in json.loads(file.action["add"].get("stats") or "{}")
        if has_vectors and is_counted and left and in_file - left <= _MARKED_SHARE * in_file:
            positions = connection.sql(of_file).to_arrow_table().column(0)
            plan.marked.append((file, pa.concat_arrays([*([] if deleted is None else [deleted]), *positions.chunks])))
            continue
        plan.removed.append(file)
        if left:
            plan.copied.append(f"SELECT {columns} FROM file_{number} WHERE _cdc_row NOT IN ({of_file})")
            plan.copied_count += left
    return plan


def _write_rows(
    connection: duckdb.DuckDBPyConnection, fields: T.StructType, plan: _Plan, action: str, folder: Path
) -> list[WrittenFile]:
    """Write the new rows of the table, and those that are written anew."""
    new_rows = f"SELECT {', '.join(map(quote, fields.names))} FROM actions WHERE {quote(action)} <> 'D'"
    return file_stats.write_files(connection, " UNION ALL ".join([*plan.copied, new_rows]), fields, folder / "rows")


def _write_feed(
    connection: duckdb.DuckDBPyConnection,
    fields: T.StructType,
    counts: Mapping[str, int],
    action: str,
    folder: Path,
) -> list[WrittenFile]:
    """Write the rows of the Change Data Feed with their type. If rows are only added, new files are the feed."""
    if counts.keys() <= {"I"}:
        return []
    columns, kind = ", ".join(map(quote, fields.names)), quote(action)
    of_change = f"CASE {kind} WHEN 'I' THEN 'insert' ELSE 'update_postimage' END"
    before = "CASE _cdc_kind WHEN 'D' THEN 'delete' ELSE 'update_preimage' END"
    query = (
        f"SELECT {columns}, {of_change} AS {_CHANGE_TYPE} FROM actions WHERE {kind} <> 'D'"
        f" UNION ALL SELECT {columns}, {before} FROM found"
    )
    return file_stats.write_files(connection, query, fields, folder / "feed")


# --- with Delta's classes ---------------------------------------------------------------------------------------------


def _commit(
    transaction: Transaction,
    table: Path,
    plan: _Plan,
    written: list[WrittenFile],
    feed: list[WrittenFile],
    counts: Mapping[str, int],
) -> None:
    """Move the written files to the table and commit them."""
    transaction.fail_on_other_commits()
    actions = [transaction.action(file.action).remove() for file in plan.removed]
    actions += _mark_rows(transaction, plan.marked)
    for file in written:
        actions.append(transaction.added_file(move(file, table, "part"), file.size, file.stats))
    for file in feed:
        actions.append(transaction.change_data_file(move(file, table, "cdc", "_change_data"), file.size))
    transaction.set_metrics(
        {
            "operationNumSourceRows": sum(counts.values()),
            "numTargetRowsInserted": counts.get("I", 0),
            "numTargetRowsUpdated": counts.get("U", 0),
            "numTargetRowsDeleted": counts.get("D", 0),
            "numTargetRowsCopied": plan.copied_count,
        }
    )
    transaction.commit(actions, transaction.merge_operation)


def _mark_rows(transaction: Transaction, marks: list[tuple[DataFile, pa.Array]]) -> list[Any]:
    """Write the deletion vectors of files to one file, and return the actions that give them to the table's files."""
    if not marks:
        return []
    jvm, classes, log = transaction.jvm, transaction.classes, transaction.log
    hadoop_conf = log.newDeltaHadoopConf()
    store = transaction.singleton(classes.storage.dv, "DeletionVectorStore").createInstance(hadoop_conf)
    folder = classes.util.PathWithFileSystem.withConf(log.dataPath(), hadoop_conf)
    identifier = jvm.java.util.UUID.fromString(str(uuid.uuid4()))
    writer = store.createWriter(store.generateFileNameInTable(folder, identifier, ""))
    actions: list[Any] = []
    try:
        for file, positions in marks:
            vector = _bitmap(jvm, positions)
            offset = jvm.scala.Some(writer.write(vector).offset())
            describe = classes.actions.DeletionVectorDescriptor.onDiskWithRelativePath
            descriptor = describe(identifier, "", len(vector), len(positions), offset, jvm.scala.Option.empty())
            marked = transaction.action(file.action).removeRows(descriptor, True, True)
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
