"""Reads and writes the events of change feeds: a Parquet folder below `raw/cdc` for each batch, named by the ledger.

A folder has every accepted event as it was received: the declared columns with those that the feed drops, and

    _feed_batch     the batch's sequence in the ledger
    _feed_time      the batch's time
    _feed_newest    the newest time of all batches up to this one in the ledger

So all batches are read by one scan, and an event keeps the facts about its arrival.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.error_mapping import first_line
from lakehouse.errors import DataRefused, InfrastructureError
from lakehouse.lake import change_sets
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.table_ref import TableRef
from lakehouse.schema import pii
from lakehouse.schema.table_schema import received_schema
from lakehouse.spark.faults import read_fault
from lakehouse.spark.session import SPARK_ERRORS, local_frame
from lakehouse.storage.file_io import escape_glob
from lakehouse.text import counted

BATCH, TIME, NEWEST, KIND = "_feed_batch", "_feed_time", "_feed_newest", "_feed_kind"
TRUNCATE, DELETE, UPSERT = "T", "D", "U"
"""The kinds of events, in `KIND`."""

BATCH_FIELDS = (
    T.StructField(BATCH, T.LongType()),
    T.StructField(TIME, T.TimestampType()),
    T.StructField(NEWEST, T.TimestampType()),
)


def event_schema(table: Table) -> T.StructType:
    """Return the columns of the events of a table in raw.

    Args:
        table: The table's configuration.
    """
    return T.StructType([*received_schema(table), *BATCH_FIELDS])


def stamp(events: DataFrame, sequence: int, time: datetime, newest: datetime) -> DataFrame:
    """Return events with the columns of their batch.

    Args:
        events: The events.
        sequence: The batch's sequence in the ledger.
        time: The batch's time.
        newest: The newest time of all batches up to this one.
    """
    values = (F.lit(sequence), F.lit(time), F.lit(newest))
    own = [value.cast(f.dataType).alias(f.name) for value, f in zip(values, BATCH_FIELDS, strict=True)]
    return events.select("*", *own)


def write(table: TableRef, events: DataFrame, path: str, row_count: int) -> None:
    """Write the events of a batch, which nobody reads before the ledger names them.

    Args:
        table: The table.
        events: The accepted events, with the columns of their batch.
        path: Where to write, relative to the lake.
        row_count: About how many there are.
    """
    change_sets.write(table, pii.with_labels(events, table.config), path, row_count)


def read(table: TableRef, entries: list[LedgerEntry]) -> DataFrame:
    """Return the events of batches, with their kind.

    Args:
        table: The table.
        entries: The ledger rows of the batches.

    Raises:
        InfrastructureError: A batch is not there.
    """
    schema = event_schema(table.config)
    if not entries:
        return with_kind(local_frame(table.spark, schema), table.config)
    paths = [escape_glob(table.lake.spark_path(entry.path or "")) for entry in entries]
    try:
        return with_kind(table.spark.read.schema(schema).parquet(*paths), table.config)
    except SPARK_ERRORS as error:
        raise _incomplete_error(table, entries) from error


def require_complete(table: TableRef, entries: list[LedgerEntry]) -> None:
    """Raise if a batch does not have as many events as the ledger reports.

    Args:
        table: The table.
        entries: The ledger rows of the batches.

    Raises:
        InfrastructureError: With the first such batch.
    """
    for entry in entries:
        found, expected = change_sets.count_rows(table, entry), (entry.rows_read or 0) - (entry.quarantined or 0)
        if found != expected:
            raise InfrastructureError(
                f"batch {entry.sequence} of {entry.table} has {counted(found, 'event')}",
                expected=f"{counted(expected, 'event')}, as the ledger reports",
                where=table.lake.spark_path(entry.path or ""),
                next_step=_restore(table),
            )


def with_kind(events: DataFrame, table: Table) -> DataFrame:
    """Return events with their kind: a truncate, a delete or an upsert. A condition that is null is not met.

    Args:
        events: The events.
        table: The table's configuration.
    """
    assert table.feed
    kind = F.when(_is_met(table.feed.truncate_when), TRUNCATE).when(_is_met(table.feed.delete_when), DELETE)
    return events.select("*", kind.otherwise(UPSERT).alias(KIND))


@contextmanager
def conditions_computed(where: str) -> Iterator[None]:
    """Refuse the data if a condition of the feed cannot be computed for an event that the block reads.

    Args:
        where: Where the events are, for the message.

    Raises:
        DataRefused: With the value, as Spark reports it.
    """
    try:
        yield
    except SPARK_ERRORS as error:
        fault = read_fault(error)
        if fault.kind != "data":
            raise
        found = "a condition of the feed cannot be computed for an event"
        raise DataRefused(
            f"{found}: {first_line(error)}",
            kept=f"{found}: {fault.name}",
            expected="`delete_when` and `truncate_when` that can be computed for every event",
            where=where,
            next_step="use try_cast and the like in them",
        ) from error


def _is_met(condition: str | None) -> Column:
    # On its own lines, because the text may end in a comment.
    return F.lit(False) if condition is None else F.coalesce(F.expr(f"(\n{condition}\n)"), F.lit(False))


def _incomplete_error(table: TableRef, entries: list[LedgerEntry]) -> InfrastructureError:
    return InfrastructureError(
        f"the events of {table.name} cannot be read",
        expected=f"those of {counted(len(entries), 'batch', 'batches')}, as the ledger reports",
        where=table.lake.spark_path("raw/cdc"),
        next_step=_restore(table),
    )


def _restore(table: TableRef) -> str:
    return (
        f"restore the folder, or rebuild the table from landing: lakehouse ingest PIPELINE {table.name} --full-refresh"
    )
