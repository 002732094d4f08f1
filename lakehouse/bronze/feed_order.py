"""Recognises a batch of a change feed that is in order: the sequence of each event is above all accepted before.

No accepted event is read for such a batch: none can contradict one of its own, and of those of a key only its row in
bronze matters, or its open window. What it needs to know about the accepted events is their highest sequence, which
the metadata of their files has: of several columns, the highest value of each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.bronze import feed_rules, scd2
from lakehouse.bronze.feed_sequence import sequence
from lakehouse.config import FEED_SEQUENCE, Table, sequence_names
from lakehouse.config.ddl import quote_identifier
from lakehouse.lake import change_sets, feed_events
from lakehouse.lake.cdc import START_AT
from lakehouse.lake.feed_events import BATCH, KIND, NEWEST, TIME, UPSERT
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.table_ref import TableRef
from lakehouse.schema.table_schema import stored_schema

_UNORDERED = {"FLOAT", "DOUBLE", "INT96"}  # physical types whose statistics leave out NaN, or are not in order


class Bounds(NamedTuple):
    """Sequences between which those of some events are; both are None if there are no events.

    Attributes:
        lowest: None of them is lower.
        highest: None of them is higher.
    """

    lowest: tuple[Any, ...] | None
    highest: tuple[Any, ...] | None

    def are_above(self, others: Bounds) -> bool:
        """Return whether each of these events has a higher sequence than each of the others."""
        return self.lowest is None or others.highest is None or others.highest < self.lowest


def bounds_of_accepted(table: TableRef, before: list[LedgerEntry]) -> Bounds | None:
    """Return the bounds of what was accepted before a batch; None: whether it is in order cannot be told.

    That is so for the first batch, and after a snapshot beside the feed, whose mark supersedes events.

    Args:
        table: The table, whose bronze is at the last of these batches.
        before: The ledger rows of the batches before it.
    """
    return None if not before or feed_events.has_marks(before) else bounds_of_batches(table, before)


def bounds_of_events(events: DataFrame, table: Table) -> Bounds | None:
    """Return the lowest and the highest sequence of events; None: Python does not have these values.

    Args:
        events: The events; a sequence that is null does not count.
        table: The table's configuration.
    """
    is_whole = F.lit(True)
    for name in feed_rules.feed_of(table).sequence_by:
        is_whole = is_whole & F.col(quote_identifier(name)).isNotNull()
    at = sequence(table)
    found = events.where(is_whole).agg(F.min(at).alias("lowest"), F.max(at).alias("highest")).toArrow()
    try:
        (bounds,) = found.to_pylist()
    except (OverflowError, ValueError):  # a time outside of the years 1 to 9999
        return None
    lowest, highest = (None if bounds[name] is None else _parts(bounds[name]) for name in ("lowest", "highest"))
    return Bounds(lowest, highest)


def bounds_of_batches(table: TableRef, entries: list[LedgerEntry]) -> Bounds | None:
    """Return sequences between which those of batches are, from the metadata of their files; None: these do not tell.

    Args:
        table: The table.
        entries: The ledger rows of the batches.
    """
    columns = [_paths(name, table.config) for name in feed_rules.feed_of(table.config).sequence_by]
    found: list[Bounds] = []
    for footers in change_sets.footers(table, entries):
        known = [bounds for footer in footers if (bounds := _bounds_of_file(footer, columns)) is not None]
        if not known or len(known) < len(footers):  # none: the batch is lost
            return None
        found += known
    lowest, highest = [b.lowest for b in found if b.lowest], [b.highest for b in found if b.highest]
    return Bounds(min(lowest, default=None), max(highest, default=None))


def changeable_rows(rows: DataFrame, table: Table) -> DataFrame:
    """Return the rows of bronze that a batch which is in order can change: not the closed windows of a history.

    Args:
        rows: Rows of bronze.
        table: The table's configuration.
    """
    return rows.where(scd2.is_open_window()) if table.scd == 2 else rows


def rows_as_events(rows: DataFrame, table: Table) -> DataFrame:
    """Return rows of bronze as the accepted events that matter for a batch which is in order.

    Args:
        rows: The rows that such a batch can change (`changeable_rows`), with all columns of bronze.
        table: The table's configuration.
    """
    if table.scd == 1:
        return _as_events(rows, FEED_SEQUENCE, table)
    # The event that opened a window, and the last one in it, if only columns without a history changed since.
    has_later = F.col(START_AT) != F.col(FEED_SEQUENCE)
    return _as_events(rows, START_AT, table).unionByName(_as_events(rows.where(has_later), FEED_SEQUENCE, table))


def _as_events(rows: DataFrame, at: str, table: Table) -> DataFrame:
    """Return rows as upserts whose sequence is in column `at`, and which came before every batch."""
    feed = feed_rules.feed_of(table)
    values = {name: F.col(quote_identifier(name)) for name in stored_schema(table).names}
    for name, stored in zip(feed.sequence_by, sequence_names(feed), strict=True):
        values[name] = F.col(at) if len(feed.sequence_by) == 1 else F.col(quote_identifier(at, stored))
    return rows.select(
        *[value.alias(name) for name, value in values.items()],
        F.lit(0).cast("bigint").alias(BATCH),
        *[F.col("_cdc_timestamp").alias(name) for name in (TIME, NEWEST)],
        F.lit(UPSERT).alias(KIND),
    )


def _parts(value: Any) -> tuple[Any, ...]:
    """Return the parts of a sequence as Arrow gives it: a value, or a dictionary."""
    return tuple(value.values()) if isinstance(value, dict) else (value,)


def _paths(name: str, table: Table) -> list[str]:
    """Return where the files of batches have a part of the sequence: a column, or fields inside columns."""
    fields = {field.name: field.paths for field in table.field_columns}
    return [".".join(path) for path in fields.get(name, ((name,),))]


def _bounds_of_file(footer: pq.FileMetaData, columns: list[list[str]]) -> Bounds | None:
    """Return bounds by the statistics of a file; None: they do not tell.

    Args:
        footer: The file's metadata.
        columns: Where each part of the sequence is.
    """
    if footer.num_rows == 0:
        return Bounds(None, None)
    try:
        parts = [_bounds_of_part(footer, paths) for paths in columns]
    except (OverflowError, TypeError, ValueError):  # values that Python does not have, or that it does not compare
        return None
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return Bounds(tuple(low for low, _ in known), tuple(high for _, high in known))


def _bounds_of_part(footer: pq.FileMetaData, paths: list[str]) -> tuple[Any, Any] | None:
    """Return the lowest and the highest value of the columns at some paths; None: the statistics do not tell."""
    places = [number for number in range(footer.num_columns) if footer.schema.column(number).path in paths]
    lowest, highest = [], []
    for row_group in map(footer.row_group, range(footer.num_row_groups)):
        for chunk in map(row_group.column, places):
            if chunk.physical_type in _UNORDERED or (statistics := chunk.statistics) is None:
                return None
            if statistics.null_count == row_group.num_rows:
                continue
            if not statistics.has_min_max:
                return None
            lowest.append(statistics.min)
            highest.append(statistics.max)
    return (min(lowest), max(highest)) if lowest else None
