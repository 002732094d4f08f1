"""Finds and erases a data subject's rows in change sets, quarantine and bronze."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse import bronze
from lakehouse.config.ddl import quote_identifier
from lakehouse.forget.data_subject import DataSubject, key_fields, text_of_field
from lakehouse.ingest.readers import parquet_reader
from lakehouse.lake import delta, feed_events
from lakehouse.lake.cached_rows import CachedRows
from lakehouse.lake.change_sets import ERASED_KEY, count_erased_in_file
from lakehouse.lake.merge import MergeTarget, merge_to_match
from lakehouse.lake.quarantine import KEY_PREFIX, KEYS, read_stage
from lakehouse.lake.received_row import member_text
from lakehouse.lake.table_ref import TableRef
from lakehouse.schema.cast import cast_text
from lakehouse.spark.session import local_frame
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath, escape_glob
from lakehouse.storage.paths import Lake

SubjectOperations = dict[str, dict[int, str]]
"""The operations of a data subject's rows in a change set, by file and position in it; of an event, `_EVENT`."""
_EVENT = "event"


def erase_from_change_set(table: TableRef, folder: StorePath, operations: SubjectOperations) -> int:
    """Erase a data subject's rows from a change set, which has not changed since they were found.

    Each file is replaced as a whole. Its metadata counts the rows that were erased, since the ledger goes on reporting
    the rows that the change set had when it was published.

    Args:
        table: The table whose change set it is.
        folder: The change set.
        operations: The rows, as `find_in_change_set` returns them.

    Returns:
        How many rows were erased.
    """
    for name, by_index in operations.items():
        with file_io.atomic_rewrite(folder / name, table.lake.local_path("plain")) as (path, target):
            erased = count_erased_in_file(path) + Counter(by_index.values())
            parquet_reader.copy_without(path, target, set(by_index), {ERASED_KEY: json.dumps(erased)})
    return sum(map(len, operations.values()))


def find_in_change_set(table: TableRef, folder: StorePath, subject: DataSubject) -> SubjectOperations:
    """Return the operations of a data subject's rows in a change set, by file and position; none if it is unfinished.

    Args:
        table: The table whose change set it is.
        folder: The change set.
        subject: The data subject.
    """
    if is_unfinished(folder):
        return {}
    reader, operation = table.spark.read, F.col("_cdc_operation")
    keys = {column: F.col(quote_identifier(column)) for column in subject.key_texts}
    if table.config.feed:  # a batch lacks the columns that its files lacked
        reader, operation = reader.schema(feed_events.event_schema(table.config)), F.lit(_EVENT)
        keys |= {name: feed_events.field_value(field) for name, field in key_fields(table.config).items()}
    rows = reader.parquet(escape_glob(folder)).where(~feed_events.is_truncate(table.config))
    if not table.config.feed and _lacks_column(rows, subject):
        return {}
    position = [F.col("_metadata.file_name").alias("_cdc_file"), F.col("_metadata.row_index").alias("_cdc_index")]
    of_rows = [operation.alias("_cdc_done"), *position]
    found = subject.rows_in(rows.select(*[value.alias(name) for name, value in keys.items()], *of_rows))
    operations: SubjectOperations = {}
    for row in found.drop(*subject.key_texts).collect():  # Python may not hold the key
        operations.setdefault(row["_cdc_file"], {})[row["_cdc_index"]] = row["_cdc_done"]
    return operations


def is_unfinished(change_set: StorePath) -> bool:
    """Return whether a killed run has begun a change set and not finished it."""
    return not any(name.endswith(".parquet") for name in file_io.list_names(change_set))


def erase_from_quarantine(table: TableRef, found: CachedRows) -> int:
    """Erase quarantined rows.

    Args:
        table: The table.
        found: The keys of the rows, as `find_in_quarantine` returns them.

    Returns:
        How many rows were erased.
    """
    address = table.lake.quarantine_table(table.name)
    return _delete(MergeTarget(table.spark, address, KEYS, tuning=table.tuning), found, {"stage": "forget"})


def find_in_quarantine(table: TableRef, time_zone: str, subject: DataSubject) -> CachedRows | None:
    """Return the keys of the quarantined rows that have a data subject's key, and of unreadable ones that name it.

    It is None if there is no quarantine. A key inside a column is unreadable, too, if it is not there.

    Args:
        table: The table.
        time_zone: The zone of timestamps that name none.
        subject: The data subject.
    """
    spark, address = table.spark, table.lake.quarantine_table(table.name)
    if not delta.exists(spark, address):
        return None
    rows = delta.read(spark, address).where(F.col("stage") == "ingest")
    types = {f.name: f.dataType for f in table.schema}
    fields = key_fields(table.config)

    def text_of(column: str) -> Column:
        # By the column's name in files or, for rows that are older than the setting `names`, by its own.
        return F.coalesce(*map(member_text, (table.config.name_in_files(column), column)))

    key_columns = []
    for number, column in enumerate(subject.key_texts):
        if field := fields.get(column):
            text = text_of_field(field, {source: text_of(source) for source in field.sources})
        else:
            text = text_of(column)
        value = cast_text(text, types[column], time_zone, table.config.options)[0]
        key_columns.append(value.alias(f"{KEY_PREFIX}{number}"))
    key = subject.stored_key.toDF(*[f"{KEY_PREFIX}{number}" for number in range(len(key_columns))])
    with_key = rows.select(*KEYS, "row", "column", *key_columns)
    readable = with_key.join(F.broadcast(key), on=key.columns, how="left_semi").select(*KEYS)
    is_unreadable = F.col("column").isNull()
    if fields:
        is_unreadable |= reduce(Column.__and__, [F.col(quote_identifier(name)).isNull() for name in key.columns])
    unreadable = with_key.where(is_unreadable).select(*KEYS, "row").toLocalIterator()
    naming = [tuple(row)[:-1] for row in unreadable if subject.is_named_in(row["row"] or "")]
    return _collect(readable.unionByName(spark.createDataFrame(naming, readable.schema)).distinct())


def erase_resolved(spark: SparkSession, lake: Lake, models: list[str]) -> int:
    """Erase the quarantined rows of models that are resolved: it is unknown whose they were.

    Args:
        spark: A session that nobody else uses.
        lake: The lake.
        models: The models, as `silver.clientes`.

    Returns:
        How many rows were erased.
    """
    erased = 0
    for stage, _, name in (model.partition(".") for model in models):
        if delta.exists(spark, address := lake.quarantine_table(name)):
            resolved = read_stage(spark, lake, name, stage).where("resolved").select(*KEYS)
            erased += _delete(MergeTarget(spark, address, KEYS), _collect(resolved), {"stage": "forget"})
    return erased


def erase_from_bronze(table: TableRef, subject: DataSubject) -> int:
    """Erase a data subject's rows, or windows, from a bronze that is at the ledger's last sequence.

    The commit records that sequence, and that it applies no change set.

    Args:
        table: The table.
        subject: The data subject.

    Returns:
        How many rows were erased.
    """
    version = delta.current_version(table.spark, table.bronze)
    progress, erased = version.recorded_progress() if version else None, find_in_bronze(table, subject)
    if progress is None or erased is None:
        return 0
    target = MergeTarget(table.spark, table.bronze, bronze.row_keys(table.config), tuning=table.tuning)
    return _delete(target, erased, progress | {"forgot": True})


def find_in_bronze(table: TableRef, subject: DataSubject) -> CachedRows | None:
    """Return the keys of a data subject's rows, or windows, in bronze; None if there is no bronze.

    Args:
        table: The table.
        subject: The data subject.
    """
    if not delta.exists(table.spark, table.bronze):
        return None
    rows = delta.read(table.spark, table.bronze)
    if _lacks_column(rows, subject):
        return None
    return _collect(subject.rows_in(rows).select(*map(quote_identifier, bronze.row_keys(table.config))))


def _lacks_column(rows: DataFrame, subject: DataSubject) -> bool:
    """Return whether rows are older than a column by which rows without a key are found, so that none has its value."""
    return not {column.lower() for column in subject.key_texts} <= {name.lower() for name in rows.columns}


def _collect(keys: DataFrame) -> CachedRows:
    """Return keys in the driver. They are few: so it writes a small table itself."""
    local = keys.toArrow()
    return CachedRows(keys.sparkSession.createDataFrame(local, keys.schema), local)


def _delete(target: MergeTarget, keys: CachedRows, progress: Mapping[str, Any]) -> int:
    """Delete rows by their keys, which `_collect` has returned."""
    if keys.is_empty:
        return 0
    schema = delta.schema(target.spark, target.address)
    none = local_frame(target.spark, schema)
    # The driver finds rows by plain values only: not by the start of a window of a sequence of several columns.
    nested = {field.name.lower() for field in schema if isinstance(field.dataType, T.StructType)}
    is_plain = nested.isdisjoint(key.lower() for key in target.keys)
    return merge_to_match(target, CachedRows(none, none.toArrow()), progress, keys, expect_few=is_plain).deleted
