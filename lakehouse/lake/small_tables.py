"""Reads small Delta tables in the driver with PyArrow, without a Spark query.

A query over a Delta table costs Spark planning and log reading, however few rows there are; over rows in the driver's
memory it takes a fraction of the time (docs/decisions/0023-small-tables.md). Every function returns the rows that
Spark would return, or None if only Spark can read the table. `lakehouse verify` reads with Spark alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from itertools import repeat
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from lakehouse.lake import delta
from lakehouse.lake.cached_rows import CachedRows
from lakehouse.storage import delta_files, file_io
from lakehouse.storage.file_io import StorePath

_FEED_FIELDS = (
    T.StructField("_change_type", T.StringType()),
    T.StructField("_commit_version", T.LongType()),
    T.StructField("_commit_timestamp", T.TimestampType()),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_UTC_TIMES = (pa.timestamp("us", tz="UTC"), pa.timestamp("us", tz="Etc/UTC"))  # the latter is DuckDB's
_ROW_VERSIONS = "delta.rowTracking.materializedRowCommitVersionColumnName"
# In the metadata of a file whose dates and times are by the calendar of Spark 2.
LEGACY_CALENDAR = (b"org.apache.spark.legacyDateTime", b"org.apache.spark.legacyINT96")

# Errors of PyArrow for a file that is not as the table's schema says, and of PySpark for a type that Arrow lacks.
UNREADABLE_ERRORS = (pa.ArrowException, PySparkException, OSError, ValueError, KeyError, TypeError)


def read_rows(address: str, max_bytes: int, version: int | None = None) -> pa.Table | None:
    """Return the rows of a table.

    Args:
        address: The table's address.
        max_bytes: The size of its files up to which it is read.
        version: The version to read; None: the current one.
    """
    files = delta.data_files(address, version)
    return _read_rows(files, max_bytes) if files else None


def read_with_commits(address: str, max_bytes: int, column: str) -> pa.Table | None:
    """Return the rows of a table with the version that added each: 0 for a row older than row tracking.

    Args:
        address: The table's address.
        max_bytes: The size of its files up to which it is read.
        column: The name of the column with the version.
    """
    files = delta.data_files(address)
    if files is None or files.listed.size > max_bytes:
        return None
    # A rewritten row keeps its version in a column that the table's properties name.
    rewritten = files.listed.properties.get(_ROW_VERSIONS)
    extra = [T.StructField(rewritten, T.LongType())] if rewritten else []
    fields = T.StructType([*files.schema, T.StructField(column, T.LongType())])
    parts = []
    try:
        for file in files.listed.files:
            rows = _read_files([file.path], T.StructType([*files.schema, *extra]))
            versions = int_array(repeat(file.commit_version, len(rows)))
            if rewritten:
                versions = pc.coalesce(rows.column(rewritten), versions)
                rows = rows.drop_columns([rewritten])
            parts.append(rows.append_column(column, versions))
    except UNREADABLE_ERRORS:
        return None
    return _concat(parts, arrow_schema(fields))


def read(spark: SparkSession, address: str, max_bytes: int, version: int | None = None) -> DataFrame:
    """Return the rows of a table, read by the driver if it is small, else by Spark.

    Args:
        spark: The session to read in.
        address: The table's address.
        max_bytes: The size up to which the driver reads it.
        version: The version to read; None: the current one.
    """
    files = delta.data_files(address, version)
    rows = _read_rows(files, max_bytes) if files else None
    if files is None or rows is None:
        return delta.read(spark, address, version)
    return to_frame(spark, rows, files.schema)


def read_changes(spark: SparkSession, address: str, after: int, until: int, max_bytes: int) -> CachedRows:
    """Return the Change Data Feed of a table, read by the driver if it is small, else by Spark.

    The driver leaves `_commit_timestamp` null.

    Args:
        spark: The session to read in.
        address: The table's address.
        after: The last version whose changes are left out.
        until: The last version whose changes are included.
        max_bytes: The size of the files with changes up to which the driver reads them.
    """
    files = delta.data_files(address, until)
    changes = None
    if files is not None:
        changes = delta_files.list_change_files(file_io.store_path(address), after, until, files.listed.schema)
    if files is None or changes is None or sum(file.size for file in changes) > max_bytes:
        return CachedRows(delta.read_change_feed(spark, address, after, until))
    fields = files.schema
    feed = T.StructType([*fields, *_FEED_FIELDS])
    parts = []
    try:
        for file in changes:
            read_fields = T.StructType([*fields, _FEED_FIELDS[0]]) if file.is_change_data else fields
            rows = _read_files([file.path], read_fields)
            if not file.is_change_data:
                rows = rows.append_column("_change_type", pa.array(["insert"] * len(rows), pa.string()))
            rows = rows.append_column("_commit_version", pa.array([file.version] * len(rows), pa.int64()))
            parts.append(rows.append_column("_commit_timestamp", pa.nulls(len(rows), pa.timestamp("us", tz="UTC"))))
    except UNREADABLE_ERRORS:
        return CachedRows(delta.read_change_feed(spark, address, after, until))
    empty = arrow_schema(feed).empty_table()
    rows = pa.concat_tables([empty, *parts])
    return CachedRows(to_frame(spark, rows, feed), rows)


def arrow_schema(fields: T.StructType) -> pa.Schema:
    """Return the Arrow types of columns; times are in UTC.

    Args:
        fields: The columns.
    """
    return to_arrow_schema(fields, timezone="UTC")


def to_frame(spark: SparkSession, rows: pa.Table, fields: T.StructType) -> DataFrame:
    """Return rows in the driver's memory as a DataFrame of one partition, so that no query over it needs a shuffle.

    Args:
        spark: The session to create it in.
        rows: The rows.
        fields: Their columns.
    """
    # In one chunk: PySpark takes a table whose first chunk is empty for an empty one, and needs one of an empty table.
    rows = pa.Table.from_batches(rows.combine_chunks().to_batches() or [_empty_batch(rows.schema)], rows.schema)
    return spark.createDataFrame(rows, fields).coalesce(1)


def _empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def read_files(paths: Iterable[StorePath], fields: T.StructType) -> pa.Table | None:
    """Return the rows of Parquet files, or None if only Spark can read them.

    Args:
        paths: The files.
        fields: The columns to return, by their names; one that a file does not have is null.
    """
    try:
        return _read_files(paths, fields)
    except UNREADABLE_ERRORS:
        return None


def _read_rows(files: delta.DataFiles, max_bytes: int) -> pa.Table | None:
    if files.listed.size > max_bytes:
        return None
    return read_files([file.path for file in files.listed.files], files.schema)


def _read_files(paths: Iterable[StorePath], fields: T.StructType) -> pa.Table:
    """Return the rows of Parquet files by a table's columns; a column that a file does not have is null."""
    wanted = arrow_schema(fields)
    return _concat(list(file_io.map_paths(lambda path: _read_file(path, wanted), paths)), wanted)


def to_dicts(rows: pa.Table) -> list[dict[str, Any]]:
    """Return rows as `to_pylist` does.

    Args:
        rows: The rows; times are in UTC.
    """
    names = rows.column_names
    return [dict(zip(names, values, strict=True)) for values in zip(*map(python_values, rows.columns), strict=True)]


def python_values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the values of a column as `to_pylist` does; that method would import pandas for times in UTC.

    Args:
        column: The column.
    """
    if column.type not in _UTC_TIMES:
        return list(column.to_pylist())
    micros = column.cast(pa.int64()).to_pylist()
    return [None if each is None else _EPOCH + timedelta(microseconds=each) for each in micros]


def int_array(numbers: Iterable[int]) -> pa.Array:
    """Return numbers as `pa.array` does, which would import pandas: that takes a quarter of a second.

    Args:
        numbers: The numbers.
    """
    values = array("q", numbers)
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def _concat(parts: list[pa.Table], schema: pa.Schema) -> pa.Table:
    # Without rows, a table needs a chunk for PySpark. `empty_table` imports pandas.
    return pa.concat_tables(parts) if any(len(part) for part in parts) else schema.empty_table()


def _read_file(path: StorePath, wanted: pa.Schema) -> pa.Table:
    with path.open("rb") as source:
        rows = open_parquet(source).read()
    return pa.Table.from_arrays(columns_of(rows, wanted), schema=wanted)


def open_parquet(source: IO[bytes]) -> pq.ParquetFile:
    """Open a Parquet file.

    Args:
        source: The file.

    Raises:
        ValueError: Its dates and times are by another calendar.
    """
    file = pq.ParquetFile(source)
    if any(key in (file.metadata.metadata or {}) for key in LEGACY_CALENDAR):
        raise ValueError("dates and times by the calendar of Spark 2")
    return file


def columns_of(rows: pa.Table | pa.RecordBatch, wanted: pa.Schema) -> list[Any]:
    """Return the columns of a schema, whose names may differ in case; one that the rows do not have is null.

    Args:
        rows: The rows.
        wanted: The columns with their types.

    Raises:
        ValueError: A struct has a field that the schema lacks, perhaps because its name differs in case.
    """
    names = {name.lower(): name for name in rows.schema.names}
    columns = []
    for field in wanted:
        if name := names.get(field.name.lower()):
            column = rows.column(name)
            if lacking := _lacking_fields(column.type, field.type):
                raise ValueError(f"fields of {name} that the schema lacks: {', '.join(sorted(lacking))}")
            columns.append(column.cast(field.type))
        else:
            columns.append(pa.nulls(len(rows), field.type))
    return columns


def _lacking_fields(stored: pa.DataType, wanted: pa.DataType) -> set[str]:
    """Return the names of fields of structs, at any depth, that a type has and another lacks: a cast drops them."""
    if not pa.types.is_nested(stored) or not pa.types.is_nested(wanted):
        return set()
    if not pa.types.is_struct(stored):  # an array or a map, whose parts have no names of their own
        parts = zip(_parts(stored), _parts(wanted), strict=False)
        return set().union(*(_lacking_fields(each, other) for each, other in parts))
    types = {part.name: part.type for part in stored.fields}
    others = {part.name: part.type for part in wanted.fields} if pa.types.is_struct(wanted) else {}
    found = {*types} - {*others}
    return found.union(*(_lacking_fields(types[name], others[name]) for name in {*types} & {*others}))


def _parts(nested: pa.DataType) -> list[pa.DataType]:
    return [nested.field(number).type for number in range(nested.num_fields)]
