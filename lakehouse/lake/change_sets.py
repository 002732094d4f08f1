"""Change sets as they were published: read by today's schema, counted, and folded to what bronze has to hold."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import reduce

import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.errors import ConfigError, InfrastructureError
from lakehouse.lake.cached_rows import MAX_LOCAL_ROWS
from lakehouse.lake.cdc import CDC_COLUMNS, CHANGED_COLUMNS
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.schema import pii
from lakehouse.schema.cast import cast_text
from lakehouse.schema.table_schema import stored_schema
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath, escape_glob
from lakehouse.storage.paths import Lake

CAST_ERRORS = "_cdc_unfit"
# Bytes of a column's dictionary. Parquet allows 1 MB, 26,000 UUIDs; but what is read once or twice and kept is to be
# small. Bronze is read again and again, and reading values through a large dictionary is slower.
_DICTIONARY_BYTES = 4 << 20
ERASED_KEY = "lakehouse.taken_out"  # in a file's metadata, by operation


def write(rows: DataFrame, path: str, row_count: int) -> None:
    """Write a change set that nobody sees yet; what an unpublished attempt left there is overwritten.

    Args:
        many: about how many rows it has. Each file has a footer, which of a few rows is most.
    """
    writer = (rows.coalesce(1) if row_count <= MAX_LOCAL_ROWS else rows).write.mode("overwrite")
    writer.option("parquet.dictionary.page.size", str(_DICTIONARY_BYTES)).parquet(path)


def delivered_columns(spark: SparkSession, lake: Lake, table: Table, entry: LedgerEntry) -> list[str]:
    """The columns that a change set has: those that its snapshot's files had.

    Raises:
        ConfigError: `pii` asks for something else than it holds.
    """
    published = read_as_written(spark, lake, entry).schema
    require_same_pii(table, lake, entry, published)
    return published.names


def read_change_sets(spark: SparkSession, lake: Lake, table: Table, entries: list[LedgerEntry]) -> DataFrame:
    """The rows of these change sets by the declared schema; a column added since is null, another type is cast.

    Raises:
        InfrastructureError: one of them cannot be read.
    """
    return read_with_cast_errors(spark, lake, table, entries).drop(CAST_ERRORS)


def count_erased(folder: StorePath) -> Counter[str]:
    """How many rows of each operation were taken out of a change set since it was published."""
    files = [folder / name for name in file_io.list_names(folder) if name.endswith(".parquet")]
    return sum(file_io.map_paths(count_erased_in_file, files), Counter[str]())


def count_erased_in_file(path: StorePath) -> Counter[str]:
    with path.open("rb") as file:
        noted = (pq.read_metadata(file).metadata or {}).get(ERASED_KEY.encode(), b"{}")
    return Counter(json.loads(noted))


def read_complete(spark: SparkSession, lake: Lake, table: Table, entry: LedgerEntry) -> tuple[DataFrame, Counter[str]]:
    """One change set, of which no row is missing, and how many of each operation were taken out of it.

    Raises:
        InfrastructureError: it does not hold the rows that the ledger says.
    """
    changes = read_change_sets(spark, lake, table, [entry])
    found = changes.count()
    taken = count_erased(lake.path(entry.path or "")) if found != entry.changed_rows else Counter[str]()
    if found + taken.total() != entry.changed_rows:
        raise _incomplete_error(lake, entry, found)
    return changes, taken


def require_same_pii(table: Table, lake: Lake, entry: LedgerEntry, schema: T.StructType) -> None:
    """Plain values and hashes, or hashes by two keys, cannot be told apart later; and what was written plain stays so
    until it is written anew."""
    if others := pii.label_mismatches(schema, table):
        raise ConfigError(
            f"pii of {entry.table} changed: {'; '.join(others)}",
            expected=f"what change set {entry.sequence} was written with",
            where=lake.spark_path(entry.path or ""),
            next_step=f"to take all that landed again: lakehouse ingest PIPELINE {entry.table} --full-refresh",
        )


def read_with_cast_errors(spark: SparkSession, lake: Lake, table: Table, entries: list[LedgerEntry]) -> DataFrame:
    return reduce(DataFrame.unionByName, (_read_as_declared(spark, lake, table, entry) for entry in entries))


def _read_as_declared(spark: SparkSession, lake: Lake, table: Table, entry: LedgerEntry) -> DataFrame:
    """A change set by the declared schema, and which of its values are not of the declared type."""
    rows, declared = read_as_written(spark, lake, entry), stored_schema(table)
    there = {f.name: f.dataType for f in rows.schema}
    values: dict[str, Column] = {f.name: F.lit(None).cast(f.dataType) for f in declared}
    values |= {f.name: F.col(f.name) for f in declared if there.get(f.name) == f.dataType}
    others = [f for f in declared if there.get(f.name, f.dataType) != f.dataType]
    values |= {f.name: _cast_or_null(f.dataType, F.col(f.name), there[f.name], table) for f in others}
    unfit = [
        F.when(
            F.col(f.name).isNotNull() & values[f.name].isNull(),
            F.concat(F.lit(f"{f.name} "), F.col(f.name).cast("string"), F.lit(f" is no {f.dataType.simpleString()}")),
        )
        for f in others
    ]
    told = F.array_compact(F.array(*unfit).cast("array<string>")).alias(CAST_ERRORS)
    return rows.select(*[value.alias(name) for name, value in values.items()], *CDC_COLUMNS, CHANGED_COLUMNS, told)


def _cast_or_null(to_type: T.DataType, value: Column, from_type: T.DataType, table: Table) -> Column:
    """A value as another type, null where it would not stay the same."""
    if isinstance(from_type, T.StringType):
        return cast_text(value, to_type, "UTC", table.options)[0]
    now = value.try_cast(to_type)
    return F.when(now.try_cast(from_type).eqNullSafe(value), now)


def read_as_written(spark: SparkSession, lake: Lake, entry: LedgerEntry) -> DataFrame:
    """A change set as it was written."""
    try:
        return spark.read.parquet(escape_glob(lake.spark_path(entry.path or "")))
    except SPARK_ERRORS as error:
        raise _incomplete_error(lake, entry, 0) from error


def _incomplete_error(lake: Lake, entry: LedgerEntry, found: int) -> InfrastructureError:
    return InfrastructureError(
        f"change set {entry.sequence} of {entry.table} holds {found} rows that can be read",
        expected=f"{entry.changed_rows} rows, as the ledger says",
        where=lake.spark_path(entry.path or ""),
        next_step="restore the change set, or rebuild the table from what landed",
    )


def table_folders(lake: Lake, name: str) -> list[StorePath]:
    """The folders of a table's change sets, those among them that were never published."""
    of_table = re.compile(rf"{re.escape(name)}_\d{{8}}_\d{{6}}(_\d+)?\.parquet")
    folders = [lake.path("raw", kind) for kind in ("full-load", "cdc")]
    others = [folder / there for folder in folders for there in file_io.list_names(folder) if of_table.fullmatch(there)]
    return [lake.path("raw", "full-load", f"{name}.parquet"), *others]


_RAW_FOLDERS = ("raw/full-load", "raw/cdc")


def sizes(lake: Lake) -> dict[str, int]:
    """Bytes of every change set, by its path relative to the lake."""
    found: dict[str, int] = {}
    for folder in _RAW_FOLDERS:
        for path, size in file_io.file_sizes(lake.path(*folder.split("/"))).items():
            name = f"{folder}/{path.partition('/')[0]}"
            found[name] = found.get(name, 0) + size
    return found
