"""Reads and writes change sets: Parquet folders below `raw` with the rows that a snapshot inserts, updates or deletes.

A change set keeps the columns and types of the day it was written. It is read by the schema of today: a column that
was declared later is null, and a value of another type is cast, if it stays the same.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import reduce

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.errors import ConfigError, InfrastructureError
from lakehouse.lake import small_tables
from lakehouse.lake.cached_rows import CachedRows
from lakehouse.lake.cdc import CDC_COLUMNS, CHANGED_COLUMNS, MISSING_SINCE
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.table_ref import TableRef
from lakehouse.lake.table_rows import TableRows
from lakehouse.schema import pii
from lakehouse.schema.cast import cast_text
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath, escape_glob
from lakehouse.storage.paths import Lake
from lakehouse.text import counted

CAST_ERRORS = "_cdc_cast_errors"
# In a file's metadata: how many of its rows were erased, by operation. Existing files have this key; do not change it.
ERASED_KEY = "lakehouse.taken_out"

# Bytes of a column's dictionary. Parquet's default is 1 MB, enough for 26,000 UUIDs. A larger one makes files smaller,
# and a change set is read once or twice. Bronze is read often, and a large dictionary would make that slower.
_DICTIONARY_BYTES = 4 << 20
FIELDS = (
    T.StructField("_cdc_operation", T.StringType()),
    T.StructField("_cdc_timestamp", T.TimestampType()),
    T.StructField("_cdc_sequence", T.LongType()),
    T.StructField(CHANGED_COLUMNS, T.ArrayType(T.StringType())),
)
"""The columns of a change set beside the table's own."""
MISSING_FIELD = T.StructField(MISSING_SINCE, T.TimestampType())
"""One more, of a table with `missing`: since when the key is missing after the change, as bronze has it then."""

_FILE_BYTES = 64 << 20
_SPARK_SCHEMA = b"org.apache.spark.sql.parquet.row.metadata"  # in a file's metadata: its columns, as JSON
_RAW_FOLDERS = ("raw/full-load", "raw/cdc")


def fields_of(table: TableRef, keeps_missing: bool) -> T.StructType:
    """Return the columns of a change set.

    Args:
        table: The table.
        keeps_missing: Whether it is made by the rules of `missing` (`LedgerEntry.keeps_missing`).
    """
    return T.StructType([*table.schema, *FIELDS, *([MISSING_FIELD] if keeps_missing else [])])


def write(table: TableRef, rows: DataFrame, path: str, row_count: int) -> None:
    """Write a change set, which nobody reads before the ledger names it. One of an unpublished attempt is overwritten.

    Args:
        table: The table whose change set it is.
        rows: The changed rows, with their `_cdc_*` columns.
        path: Where to write, relative to the lake.
        row_count: About how many rows there are. A few are written by the driver, to one file.
    """
    if row_count <= table.tuning.local_rows:
        _write_in_driver(rows, table.lake.path(path))
        return
    writer = rows.write.mode("overwrite").option("parquet.dictionary.page.size", str(_DICTIONARY_BYTES))
    writer.parquet(table.lake.spark_path(path))


def _write_in_driver(rows: DataFrame, folder: StorePath) -> None:
    write_batches(rows.toArrow().to_batches(), rows.schema, folder)


def write_batches(batches: Iterable[pa.RecordBatch], schema: T.StructType, folder: StorePath) -> None:
    """Write the rows of a change set from the driver, in files of limited size, as Spark would record them.

    Args:
        batches: The rows.
        schema: Their columns.
        folder: The folder of the change set. Files of an unpublished attempt in it are deleted.
    """
    if file_io.list_names(folder):
        file_io.remove(folder)
    fields, rest = small_tables.arrow_schema(schema), iter(batches)
    batch, number = next(rest, None), 0
    while batch is not None or number == 0:
        content = pa.BufferOutputStream()
        with pq.ParquetWriter(
            content,
            fields,
            compression="zstd",
            data_page_version="2.0",
            dictionary_pagesize_limit=_DICTIONARY_BYTES,
            store_schema=False,
        ) as writer:
            while batch is not None and content.tell() < _FILE_BYTES:
                writer.write_batch(batch.cast(fields))
                batch = next(rest, None)
            writer.add_key_value_metadata({_SPARK_SCHEMA: schema.json().encode()})
        name = f"part-{number:05}-{uuid.uuid4()}-c000.zstd.parquet"
        file_io.write_atomically(folder / name, content.getvalue().to_pybytes())
        number += 1


def delivered_columns(table: TableRef, entry: LedgerEntry) -> list[str]:
    """Return the columns of a change set: those that its snapshot's files had.

    Raises:
        ConfigError: `pii` was changed since the change set was written.
    """
    schema = written_schema(table, entry)
    require_same_pii(table, entry, schema)
    return schema.names


def read_change_sets(table: TableRef, entries: list[LedgerEntry]) -> DataFrame:
    """Return the rows of change sets by the declared schema, with their `_cdc_*` columns.

    They have `_cdc_missing_since` if one of the change sets was made by the rules of `missing`.

    Raises:
        InfrastructureError: A change set cannot be read.
    """
    return read_with_cast_errors(table, entries).drop(CAST_ERRORS)


def read_complete(table: TableRef, entry: LedgerEntry) -> tuple[CachedRows, Counter[str]]:
    """Return the rows of one change set, after counting that none is missing.

    Returns:
        The rows, and how many were erased since the change set was published, by operation.

    Raises:
        InfrastructureError: It does not have the rows that the ledger reports.
    """
    local = _read_in_driver(table, entry) if entry.changed_rows <= table.tuning.driver_rows else None
    changes = local or CachedRows(read_change_sets(table, [entry]))
    row_count = changes.rows.count() if changes.local_rows is None else changes.local_rows.num_rows
    is_complete = row_count == entry.changed_rows
    erased = Counter[str]() if is_complete else count_erased(table.lake.path(entry.path or ""))
    if row_count + erased.total() != entry.changed_rows:
        raise _incomplete_error(table.lake, entry, row_count)
    return changes, erased


def read_with_cast_errors(table: TableRef, entries: list[LedgerEntry]) -> DataFrame:
    """Return the rows of change sets by the declared schema, with the values that do not fit it in `CAST_ERRORS`."""
    keeps_missing = any(entry.keeps_missing for entry in entries)
    return reduce(DataFrame.unionByName, (_read_as_declared(table, entry, keeps_missing) for entry in entries))


def source_columns(table: TableRef, written: T.StructType) -> dict[str, str]:
    """Return the declared columns that a change set has, each with its name there.

    A column is found by its name, in any case; or, if it was given another name since (`names`), by its name in
    the files, which was its own name before.

    Args:
        table: The table, as it is declared now.
        written: The columns that the change set was written with.
    """
    by_lower_name = {name.lower(): name for name in written.names}
    declared = {name.lower() for name in table.schema.names}
    found = {}
    for name in table.schema.names:
        earlier = table.config.name_in_files(name).lower()
        candidates = [name.lower(), *([earlier] if earlier not in declared else [])]
        if other := next((by_lower_name[each] for each in candidates if each in by_lower_name), None):
            found[name] = other
    return found


def _read_as_declared(table: TableRef, entry: LedgerEntry, keeps_missing: bool) -> DataFrame:
    rows, declared = read_as_written(table, entry), table.schema
    since = F.col(MISSING_SINCE) if MISSING_SINCE in rows.columns else F.lit(None).cast("timestamp")
    types, names = {f.name: f.dataType for f in rows.schema}, source_columns(table, rows.schema)
    written = {name: types[other] for name, other in names.items()}
    values: dict[str, Column] = {f.name: F.lit(None).cast(f.dataType) for f in declared}
    values |= {f.name: F.col(quote_identifier(names[f.name])) for f in declared if written.get(f.name) == f.dataType}
    retyped = [f for f in declared if written.get(f.name, f.dataType) != f.dataType]
    errors = []
    for field in retyped:
        before, type_name = F.col(quote_identifier(names[field.name])), field.dataType.simpleString()
        values[field.name] = _cast_or_null(before, written[field.name], field.dataType, table.config.options)
        is_lost = before.isNotNull() & values[field.name].isNull()
        message = F.concat(F.lit(f"{field.name} "), before.cast("string"), F.lit(f" is no {type_name}"))
        errors.append(F.when(is_lost, message))
    return rows.select(
        *[value.alias(name) for name, value in values.items()],
        *CDC_COLUMNS,
        _renamed(F.col(CHANGED_COLUMNS), {other: name for name, other in names.items() if other != name}),
        F.array_compact(F.array(*errors).cast("array<string>")).alias(CAST_ERRORS),
        *([since.alias(MISSING_SINCE)] if keeps_missing else []),
    )


def _renamed(names: Column, new_names: Mapping[str, str]) -> Column:
    """Return an array of column names in which some have their new names."""
    if not new_names:
        return names
    found = F.create_map(*[F.lit(text) for pair in new_names.items() for text in pair])
    return F.transform(names, lambda name: F.coalesce(F.try_element_at(found, name), name)).alias(CHANGED_COLUMNS)


def _cast_or_null(value: Column, from_type: T.DataType, to_type: T.DataType, options: dict[str, str]) -> Column:
    """Return a value as another type, or null if it would not stay the same.

    A number as a day or a time, and a value that Spark cannot cast, are read as their text would be in a file.
    """
    if isinstance(from_type, T.StringType):
        return cast_text(value, to_type, "UTC", options)[0]
    if isinstance(to_type, T.DatetimeType) != isinstance(from_type, T.DatetimeType) and to_type != T.StringType():
        return cast_text(value.cast("string"), to_type, "UTC", options)[0]
    cast = value.try_cast(to_type)
    return F.when(cast.try_cast(from_type).eqNullSafe(value), cast)


def _read_in_driver(table: TableRef, entry: LedgerEntry) -> CachedRows | None:
    """Return the rows of a change set in the driver's memory; None if it was written with other types than today's."""
    fields = fields_of(table, entry.keeps_missing)
    if not _is_as_declared(table, written_schema(table, entry), fields):
        return None
    rows = small_tables.read_files(_files(table.lake.path(entry.path or "")), fields)
    return None if rows is None else CachedRows(small_tables.to_frame(table.spark, rows, fields), rows)


def _is_as_declared(table: TableRef, written: T.StructType, fields: T.StructType) -> bool:
    """Return whether the columns that a change set has are called as today, and have today's types."""
    types = {f.name: f.dataType for f in written}
    has_names = all(name == other for name, other in source_columns(table, written).items())
    return has_names and all(types.get(f.name, f.dataType) == f.dataType for f in fields)


def read_batches(table: TableRef, entry: LedgerEntry) -> pa.RecordBatchReader | None:
    """Return the rows of a change set by the declared schema, with their `_cdc_*` columns, one batch after the other.

    Returns:
        The rows; None if it was written with other types than today's, or if only Spark can read it.
    """
    written, fields = written_schema(table, entry), fields_of(table, entry.keeps_missing)
    if not _is_as_declared(table, written, fields):
        return None
    files = tuple(_files(table.lake.path(entry.path or "")))
    batches = TableRows(frozenset(written.names), files).batches(list(files), fields)
    return pa.RecordBatchReader.from_batches(small_tables.arrow_schema(fields), batches)


def count_rows(table: TableRef, entry: LedgerEntry) -> int:
    """Return the number of rows of a change set, from the metadata of its files."""
    (of_files,) = footers(table, [entry])
    return sum(footer.num_rows for footer in of_files)


def footers(table: TableRef, entries: list[LedgerEntry]) -> list[list[pq.FileMetaData]]:
    """Return the metadata of the files of change sets, a list for each; it is empty if a change set is not there."""
    files = files_of_each(table, entries)
    found = iter(file_io.map_paths(_footer, [file for of_entry in files for file in of_entry]))
    return [[next(found) for _ in of_entry] for of_entry in files]


def _footer(path: StorePath) -> pq.FileMetaData:
    with path.open("rb") as file:
        return pq.read_metadata(file)


def written_schema(table: TableRef, entry: LedgerEntry) -> T.StructType:
    """Return the columns and types that a change set was written with.

    Raises:
        InfrastructureError: It cannot be read.
    """
    try:
        for path in _files(table.lake.path(entry.path or "")):
            schema = (_footer(path).metadata or {}).get(_SPARK_SCHEMA)
            if schema is not None:
                return T.StructType.fromJson(json.loads(schema))
    except (OSError, ValueError):  # Spark reports what is wrong with the file
        pass
    return read_as_written(table, entry).schema


def data_files(table: TableRef, entry: LedgerEntry) -> list[StorePath]:
    """Return the files of a change set."""
    return _files(table.lake.path(entry.path or ""))


def files_of_each(table: TableRef, entries: list[LedgerEntry]) -> list[list[StorePath]]:
    """Return the files of change sets, a list for each; it is empty if a change set is not there."""
    return file_io.map_paths(_files, [table.lake.path(entry.path or "") for entry in entries])


def _files(folder: StorePath) -> list[StorePath]:
    return [folder / name for name in file_io.list_names(folder) if name.endswith(".parquet")]


def read_as_written(table: TableRef, entry: LedgerEntry) -> DataFrame:
    """Return a change set with the columns and types that it was written with.

    Raises:
        InfrastructureError: It cannot be read.
    """
    try:
        return table.spark.read.parquet(escape_glob(table.lake.spark_path(entry.path or "")))
    except SPARK_ERRORS as error:
        raise _incomplete_error(table.lake, entry, 0) from error


def _incomplete_error(lake: Lake, entry: LedgerEntry, row_count: int) -> InfrastructureError:
    return InfrastructureError(
        f"change set {entry.sequence} of {entry.table} has {counted(row_count, 'readable row')}",
        expected=f"{counted(entry.changed_rows, 'row')}, as the ledger reports",
        where=lake.spark_path(entry.path or ""),
        next_step="restore the change set, or rebuild the table from the landed snapshots",
    )


def require_same_pii(table: TableRef, entry: LedgerEntry, schema: T.StructType) -> None:
    """Raise if a change set was written with another `pii` than the table has now.

    Plain values and hashes, or hashes by two keys, cannot be distinguished later; and values that were written plain
    stay plain until they are rewritten.

    Args:
        table: The table, as it is configured now.
        entry: The ledger row of the change set.
        schema: The change set's schema, whose column metadata names the protection.

    Raises:
        ConfigError: With each column that is protected otherwise.
    """
    if mismatches := pii.label_mismatches(schema, table.config):
        raise ConfigError(
            f"pii of {entry.table} changed: {'; '.join(mismatches)}",
            expected=f"the same as in change set {entry.sequence}",
            where=table.lake.spark_path(entry.path or ""),
            next_step=f"to ingest all landed snapshots again: lakehouse ingest PIPELINE {entry.table} --full-refresh",
        )


def count_erased(folder: StorePath) -> Counter[str]:
    """Return how many rows were erased from a change set since it was published, by operation."""
    return sum(file_io.map_paths(count_erased_in_file, _files(folder)), Counter[str]())


def count_erased_in_file(path: StorePath) -> Counter[str]:
    """Return how many rows were erased from one file of a change set, by operation."""
    counts = (_footer(path).metadata or {}).get(ERASED_KEY.encode(), b"{}")
    return Counter(json.loads(counts))


def table_folders(lake: Lake, name: str) -> list[StorePath]:
    """Return the folders of a table's change sets, including those that were never published."""
    of_table = re.compile(rf"{re.escape(name)}_\d{{8}}_\d{{6}}(_\d+)?\.parquet")
    parents = [lake.path(*folder.split("/")) for folder in _RAW_FOLDERS]
    folders = [parent / name for parent in parents for name in file_io.list_names(parent) if of_table.fullmatch(name)]
    return [lake.path("raw", "full-load", f"{name}.parquet"), *folders]


def sizes(lake: Lake) -> dict[str, int]:
    """Return the bytes of every change set, by its path relative to the lake."""
    total = Counter[str]()
    for folder in _RAW_FOLDERS:
        for path, size in file_io.file_sizes(lake.path(*folder.split("/"))).items():
            total[f"{folder}/{path.partition('/')[0]}"] += size
    return dict(total)
