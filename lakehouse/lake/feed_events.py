"""Reads and writes the events of change feeds: a Parquet folder below `raw/cdc` for each batch, named by the ledger.

A folder has every accepted event as it was received: the declared columns with those that the feed drops, and

    _feed_batch     the batch's sequence in the ledger
    _feed_time      the batch's time
    _feed_newest    the newest time of all batches up to this one in the ledger
    _feed_correction   of a row that a snapshot beside the feed gave: M, C or R; else null

So all batches are read by one scan, and an event keeps the facts about its arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.config.field_columns import FieldColumn
from lakehouse.error_mapping import first_line
from lakehouse.errors import DataRefused, InfrastructureError
from lakehouse.lake import change_sets, small_tables
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.table_ref import TableRef
from lakehouse.schema import pii
from lakehouse.schema.table_schema import received_schema
from lakehouse.spark import session
from lakehouse.spark.faults import read_fault
from lakehouse.spark.session import SPARK_ERRORS, local_frame
from lakehouse.storage.file_io import escape_glob
from lakehouse.text import counted

BATCH, TIME, NEWEST, KIND = "_feed_batch", "_feed_time", "_feed_newest", "_feed_kind"
CORRECTION, IS_CORRECTION = "_feed_correction", "_feed_is_correction"
TRUNCATE, DELETE, UPSERT = "T", "D", "U"
MARK, CORRECTED, REMOVED = "M", "C", "R"
"""The kinds of events, in `KIND`; the last three come from a snapshot beside the feed, which raw has in `CORRECTION`:
its sequence, a row in which the feed was wrong, and a key that it does not have.
"""
_MANY_EVENTS, _BYTES_PER_EVENT = 30_000, 100  # from here on, Spark's generated code is faster than its interpreter
ABOUT_ALL_KEYS = (TRUNCATE, MARK)
FROM_SNAPSHOT = (MARK, CORRECTED, REMOVED)

BATCH_FIELDS = (
    T.StructField(BATCH, T.LongType()),
    T.StructField(TIME, T.TimestampType()),
    T.StructField(NEWEST, T.TimestampType()),
)
OWN_FIELDS = (*BATCH_FIELDS, T.StructField(CORRECTION, T.StringType()))
"""The columns that raw adds to those of an event."""


def event_schema(table: Table) -> T.StructType:
    """Return the columns of the events of a table in raw.

    Args:
        table: The table's configuration.
    """
    return T.StructType([*received_schema(table), *OWN_FIELDS])


def stamp(events: DataFrame, sequence: int, time: datetime, newest: datetime) -> DataFrame:
    """Return events with the columns of their batch; no snapshot is their source unless they have `CORRECTION`.

    Args:
        events: The events.
        sequence: The batch's sequence in the ledger.
        time: The batch's time.
        newest: The newest time of all batches up to this one.
    """
    values = (F.lit(sequence), F.lit(time), F.lit(newest))
    own = [value.cast(f.dataType).alias(f.name) for value, f in zip(values, BATCH_FIELDS, strict=True)]
    is_event = [] if CORRECTION in events.columns else [F.lit(None).cast("string").alias(CORRECTION)]
    return events.select("*", *own, *is_event)


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
    if (local := _read_in_driver(table, entries, schema)) is not None:
        return with_kind(local, table.config)
    paths = [escape_glob(table.lake.spark_path(entry.path or "")) for entry in entries]
    try:
        return with_kind(table.spark.read.schema(schema).parquet(*paths), table.config)
    except SPARK_ERRORS as error:
        raise _incomplete_error(table, entries) from error


def _read_in_driver(table: TableRef, entries: list[LedgerEntry], schema: T.StructType) -> DataFrame | None:
    """Return the events of batches by the driver's reader if they are few: a query over them has nothing to read."""
    if sum(map(event_count, entries)) > min(table.tuning.driver_rows, _MANY_EVENTS):
        return None
    files = change_sets.files_of_each(table, entries)
    if not all(files):  # one is not there: Spark reports it
        return None
    rows = small_tables.read_files([file for of_entry in files for file in of_entry], schema)
    return None if rows is None else small_tables.to_frame(table.spark, rows, schema)


def require_complete(table: TableRef, entries: list[LedgerEntry]) -> None:
    """Raise if a batch does not have as many events as the ledger reports, with those that were erased since.

    Args:
        table: The table.
        entries: The ledger rows of the batches.

    Raises:
        InfrastructureError: With the first such batch.
    """
    for entry in entries:
        found, expected = change_sets.count_rows(table, entry), event_count(entry)
        if found != expected:
            found += change_sets.count_erased(table.lake.path(entry.path or "")).total()
        if found != expected:
            raise InfrastructureError(
                f"batch {entry.sequence} of {entry.table} has {counted(found, 'event')}",
                expected=f"{counted(expected, 'event')}, as the ledger reports",
                where=table.lake.spark_path(entry.path or ""),
                next_step=_restore(table),
            )


def prepare_for(table: TableRef, entries: Iterable[LedgerEntry], event_count: int = 0) -> None:
    """Give the session of a table the settings for the events of batches, of which all of a key are compared.

    Args:
        table: The table, with a session that nobody else uses.
        entries: The ledger rows of the batches.
        event_count: The number of events in a batch that has no ledger row yet.
    """
    events = event_count + sum(entry.rows_read or 0 for entry in entries)
    if events >= _MANY_EVENTS:
        session.prepare_for(table.spark, max(events * _BYTES_PER_EVENT, session.SMALL_DATA_BYTES))


def has_marks(entries: Iterable[LedgerEntry]) -> bool:
    """Return whether a snapshot beside the feed came with one of some batches.

    Args:
        entries: The ledger rows of the batches.
    """
    return any(entry.corrected is not None for entry in entries)


def event_count(entry: LedgerEntry) -> int:
    """Return the number of events that a batch has in raw; a snapshot beside it adds its corrections and a mark.

    Args:
        entry: The ledger row of the batch.
    """
    of_snapshot = 0 if entry.corrected is None else entry.corrected + 1
    return (entry.rows_read or 0) - (entry.quarantined or 0) + of_snapshot


def with_kind(events: DataFrame, table: Table) -> DataFrame:
    """Return events with their kind: a truncate, a delete or an upsert. A condition that is null is not met.

    They get the columns, too, that are fields inside others (`Table.field_columns`).

    Args:
        events: The events.
        table: The table's configuration.
    """
    assert table.feed
    correction = F.col(CORRECTION) if CORRECTION in events.columns else F.lit(None)
    kind = F.when(correction.isNotNull(), correction)
    kind = kind.when(is_truncate(table), TRUNCATE).when(_is_met(table.feed.delete_when), DELETE)
    fields = [field_value(field).alias(field.name) for field in table.field_columns]
    return events.select("*", *fields, kind.otherwise(UPSERT).alias(KIND))


def can_truncate(table: Table) -> bool:
    """Return whether the events of a table can be truncates.

    Args:
        table: The table's configuration.
    """
    return table.feed is not None and table.feed.truncate_when is not None


def is_truncate(table: Table) -> Column:
    """Return the condition that an event is a truncate, which is about all keys, whatever its columns of the key have.

    Args:
        table: The table's configuration.
    """
    return _is_met(table.feed.truncate_when if table.feed else None)


def field_value(field: FieldColumn) -> Column:
    """Return the value of a column that is a field inside another one.

    Args:
        field: The column.
    """
    return F.coalesce(*[F.col(quote_identifier(*path)) for path in field.paths])


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
