"""Change sets as they were published: read by today's schema, counted, and folded to what bronze has to hold."""

from __future__ import annotations

import json
from collections import Counter
from functools import reduce

import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse import windows
from lakehouse.changes import CDC_COLUMNS, CHANGED, DELETE
from lakehouse.config import Table
from lakehouse.errors import ConfigError, DataRefused, InfrastructureError
from lakehouse.held import LOCAL_ROWS
from lakehouse.ledger import Entry
from lakehouse.schema import pii
from lakehouse.schema.cast import convert
from lakehouse.schema.table_schema import schema
from lakehouse.snapshot import parquet_files
from lakehouse.snapshot.erase import Person
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage import file_io
from lakehouse.storage.file_io import Place, literal
from lakehouse.storage.paths import Lake

_UNFIT = "_cdc_unfit"
# Bytes of a column's dictionary. Parquet allows 1 MB, 26,000 UUIDs; but what is read once or twice and kept is to be
# small. Bronze is read again and again, and reading values through a large dictionary is slower.
_DICTIONARY = 4 << 20
_TAKEN_OUT = "lakehouse.taken_out"  # in a file's metadata, by operation


def write(rows: DataFrame, path: str, many: int) -> None:
    """Write a change set that nobody sees yet; what an unpublished attempt left there is overwritten.

    Args:
        many: about how many rows it has. Each file has a footer, which of a few rows is most.
    """
    writer = (rows.coalesce(1) if many <= LOCAL_ROWS else rows).write.mode("overwrite")
    writer.option("parquet.dictionary.page.size", str(_DICTIONARY)).parquet(path)


def delivered(spark: SparkSession, lake: Lake, table: Table, entry: Entry) -> list[str]:
    """The columns that a change set has: those that its snapshot's files had.

    Raises:
        ConfigError: `pii` asks for something else than it holds.
    """
    published = _published(spark, lake, entry).schema
    _refuse_other_pii(table, lake, entry, published)
    return published.names


def change_sets(spark: SparkSession, lake: Lake, table: Table, entries: list[Entry]) -> DataFrame:
    """The rows of these change sets by the declared schema; a column added since is null, another type is cast.

    Raises:
        InfrastructureError: one of them cannot be read.
    """
    return _typed(spark, lake, table, entries).drop(_UNFIT)


def erase(spark: SparkSession, lake: Lake, folder: Place, person: Person) -> int:
    """Take a person's rows out of a change set; returns how many there were.

    Each file is put in its own place whole, and says in its metadata what was taken out of it: the ledger goes on
    telling what the change set held when it was published.
    """
    where = [F.col("_metadata.file_name").alias("_cdc_file"), F.col("_metadata.row_index").alias("_cdc_at")]
    rows = spark.read.parquet(literal(folder))
    there = rows.select(*person.texts, "_cdc_operation", *where)
    doomed: dict[str, dict[int, str]] = {}
    for row in person.rows_of(there).collect():
        doomed.setdefault(row["_cdc_file"], {})[row["_cdc_at"]] = row["_cdc_operation"]
    for name, taken in doomed.items():
        with file_io.rewriting(folder / name, lake.here("plain")) as (path, without):
            total = _taken_out_of(path) + Counter(taken.values())
            parquet_files.without(path, without, set(taken), {_TAKEN_OUT: json.dumps(total)})
    return sum(map(len, doomed.values()))


def taken_out(folder: Place) -> Counter[str]:
    """How many rows of each operation were taken out of a change set since it was published."""
    files = [folder / name for name in file_io.names(folder) if name.endswith(".parquet")]
    return sum(file_io.of_each(_taken_out_of, files), Counter[str]())


def _taken_out_of(path: Place) -> Counter[str]:
    with path.open("rb") as file:
        noted = (pq.read_metadata(file).metadata or {}).get(_TAKEN_OUT.encode(), b"{}")
    return Counter(json.loads(noted))


def counted(spark: SparkSession, lake: Lake, table: Table, entry: Entry) -> tuple[DataFrame, Counter[str]]:
    """One change set, of which no row is missing, and how many of each operation were taken out of it.

    Raises:
        InfrastructureError: it does not hold the rows that the ledger says.
    """
    changes = change_sets(spark, lake, table, [entry])
    found = changes.count()
    taken = taken_out(lake.place(entry.path or "")) if found != entry.changes else Counter[str]()
    if found + taken.total() != entry.changes:
        raise _lost(lake, entry, found)
    return changes, taken


def folded(spark: SparkSession, lake: Lake, table: Table, accepted: list[Entry]) -> DataFrame:
    """What bronze has to hold, from the change sets alone: the last one of each key, unless it is a delete.

    Raises:
        DataRefused: a value of it does not fit the schema that was declared since.
        ConfigError: a history is asked for, and change sets that it needs have gone.
    """
    if table.scd == 2:
        _refuse_lost_history(lake, accepted)
        refuse_unfit(spark, lake, table, accepted)
        changes = change_sets(spark, lake, table, [e for e in accepted if e.path])
        return windows.folded(changes, table, schema(table))
    return state(spark, lake, table, accepted).drop(CHANGED)


def state(spark: SparkSession, lake: Lake, table: Table, accepted: list[Entry]) -> DataFrame:
    """The live rows that change sets come to, each as the last of them has it, with its own `_cdc_*` columns.

    To be folded again with those that follow it is as good as they were themselves.

    Raises:
        DataRefused: a value of it does not fit the schema that was declared since.
    """
    refuse_unfit(spark, lake, table, accepted)
    changes = change_sets(spark, lake, table, [e for e in accepted if e.path])
    return _last(changes, table).select(*schema(table).names, *CDC_COLUMNS, CHANGED)


def _refuse_lost_history(lake: Lake, accepted: list[Entry]) -> None:
    if base := next((e for e in accepted if e.is_state), None):
        raise ConfigError(
            f"no history of {base.table} can be built: its change sets up to {base.sequence} were dropped",
            expected="`scd: 1`, where `retention: {change_sets: ...}` was at work",
            where=lake.at(base.path or ""),
            next_step=f"if all that landed is still there: lakehouse ingest PIPELINE {base.table} --full-refresh",
        )


def _refuse_other_pii(table: Table, lake: Lake, entry: Entry, published: T.StructType) -> None:
    """Plain values and hashes, or hashes by two keys, cannot be told apart later; and what was written plain stays so
    until it is written anew."""
    if others := pii.other_labels(published, table):
        raise ConfigError(
            f"pii of {entry.table} changed: {'; '.join(others)}",
            expected=f"what change set {entry.sequence} was written with",
            where=lake.at(entry.path or ""),
            next_step=f"to take all that landed again: lakehouse ingest PIPELINE {entry.table} --full-refresh",
        )


def refuse_unfit(spark: SparkSession, lake: Lake, table: Table, accepted: list[Entry]) -> None:
    """See that what bronze has to hold fits the declared types, where change sets were written with others.

    Raises:
        DataRefused: values that are not of the type; to cast them would make them null in silence.
        ConfigError: `pii` asks for something else than they hold.
    """
    kinds = {f.name: f.dataType for f in schema(table)}
    entries = [e for e in accepted if e.path]
    published = [_published(spark, lake, e).schema for e in entries]
    for entry, there in zip(entries, published, strict=True):
        _refuse_other_pii(table, lake, entry, there)
    if all(f.dataType == kinds[f.name] for there in published for f in there if f.name in kinds):
        return
    changes = _typed(spark, lake, table, entries)
    rows = _last(changes, table) if table.scd == 1 else changes.where(F.col("_cdc_operation") != DELETE)
    unfit = rows.where(F.size(_UNFIT) > 0)
    if (
        wrong := unfit.select(F.explode(_UNFIT).alias("text"))
        .groupBy("text")
        .count()
        .orderBy("text")
        .limit(3)
        .collect()
    ):
        raise DataRefused(
            f"{unfit.count()} rows do not fit the schema: {'; '.join(row.text for row in wrong)}",
            expected="values of the declared types in every row that bronze is to hold",
            where=f"{lake.at('raw')}, change sets of {entries[0].table}",
            next_step="keep the column's type and cast it in silver, or take a mended snapshot with the old type first",
        )


def _last(changes: DataFrame, table: Table) -> DataFrame:
    """The last change of each key, where that is no delete."""
    last = Window.partitionBy(*table.keys).orderBy(F.desc("_cdc_sequence"))
    newest = changes.withColumn("_cdc_rank", F.row_number().over(last)).where("_cdc_rank = 1")
    return newest.where(F.col("_cdc_operation") != DELETE)


def _typed(spark: SparkSession, lake: Lake, table: Table, entries: list[Entry]) -> DataFrame:
    return reduce(DataFrame.unionByName, (_change_set(spark, lake, table, entry) for entry in entries))


def _change_set(spark: SparkSession, lake: Lake, table: Table, entry: Entry) -> DataFrame:
    """A change set by the declared schema, and which of its values are not of the declared type."""
    rows, declared = _published(spark, lake, entry), schema(table)
    there = {f.name: f.dataType for f in rows.schema}
    values: dict[str, Column] = {f.name: F.lit(None).cast(f.dataType) for f in declared}
    values |= {f.name: F.col(f.name) for f in declared if there.get(f.name) == f.dataType}
    others = [f for f in declared if there.get(f.name, f.dataType) != f.dataType]
    values |= {f.name: _as(f.dataType, F.col(f.name), there[f.name], table) for f in others}
    unfit = [
        F.when(
            F.col(f.name).isNotNull() & values[f.name].isNull(),
            F.concat(F.lit(f"{f.name} "), F.col(f.name).cast("string"), F.lit(f" is no {f.dataType.simpleString()}")),
        )
        for f in others
    ]
    told = F.array_compact(F.array(*unfit).cast("array<string>")).alias(_UNFIT)
    return rows.select(*[value.alias(name) for name, value in values.items()], *CDC_COLUMNS, CHANGED, told)


def _as(kind: T.DataType, value: Column, was: T.DataType, table: Table) -> Column:
    """A value as another type, null where it would not stay the same."""
    if isinstance(was, T.StringType):
        return convert(value, kind, "UTC", table.options)[0]
    now = value.try_cast(kind)
    return F.when(now.try_cast(was).eqNullSafe(value), now)


def _published(spark: SparkSession, lake: Lake, entry: Entry) -> DataFrame:
    """A change set as it was written."""
    try:
        return spark.read.parquet(literal(lake.at(entry.path or "")))
    except SPARK_ERRORS as error:
        raise _lost(lake, entry, 0) from error


def _lost(lake: Lake, entry: Entry, found: int) -> InfrastructureError:
    return InfrastructureError(
        f"change set {entry.sequence} of {entry.table} holds {found} rows that can be read",
        expected=f"{entry.changes} rows, as the ledger says",
        where=lake.at(entry.path or ""),
        next_step="restore the change set, or rebuild the table from what landed",
    )
