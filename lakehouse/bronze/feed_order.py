"""Finds the accepted batches of a change feed that overlap a new one: that have events from its lowest sequence on.

Only their events can contradict one of the new batch. The other ones need not be read at all, if

- no accepted batch overlaps: then bronze has all that matters of each key, its row or its open window; or
- rows are those of single events (scd 1 without `ignore_null_updates`). Whether an event from the lowest new sequence
  on is live depends on events from there on alone. If none of a key is, the row of an older one, which bronze has,
  stays unless the new batch deletes it; or
- of each affected key, the window of the history (scd 2) in which the lowest new sequence is has no event from there
  on. Then its row has the values of the last event before. Earlier windows stay, and later ones have later events.

Where the sequences of a batch are is in the metadata of its files: of several columns, the values of each.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.bronze import feed, feed_rules, scd2
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
_LATEST = datetime(9999, 12, 31, tzinfo=timezone.utc)
_LOWEST, _AT = "_feed_lowest", "_feed_at"


class Bounds(NamedTuple):
    """Sequences between which those of some events are; both are None if there are no events.

    Attributes:
        lowest: None of them is lower.
        highest: None of them is higher.
    """

    lowest: tuple[Any, ...] | None
    highest: tuple[Any, ...] | None

    def reach(self, lowest: tuple[Any, ...] | None) -> bool:
        """Return whether one of these events may have a sequence from this one on; None: there is none."""
        return lowest is not None and self.highest is not None and self.highest >= lowest


def overlapping_batches(table: TableRef, before: list[LedgerEntry], batch: Bounds | None) -> list[LedgerEntry] | None:
    """Return the accepted batches that may have a sequence from the lowest of a batch on; None: it cannot be told.

    Args:
        table: The table.
        before: The ledger rows of the batches before it.
        batch: The bounds of the batch; None: they are not known.
    """
    bounds = bounds_of_batches(table, before) if batch else []
    if batch is None or None in bounds:
        return None
    return [entry for entry, own in zip(before, bounds, strict=True) if own and own.reach(batch.lowest)]


def is_enough(overlapping: list[LedgerEntry] | None, before: list[LedgerEntry], table: Table) -> bool:
    """Return whether a batch is to be applied with bronze and the batches that overlap it.

    If these have most of the events, reading all of them costs less than reading bronze, too.

    Args:
        overlapping: The result of `overlapping_batches`.
        before: The ledger rows of all batches before it.
        table: The table's configuration.
    """
    if not overlapping:
        return overlapping is not None
    few = 2 * sum(map(feed_events.event_count, overlapping)) <= sum(map(feed_events.event_count, before))
    return few and not feed_rules.feed_of(table).ignore_null_updates


class StandIns(NamedTuple):
    """What is read in place of all accepted events when a batch is applied.

    Attributes:
        events: The events of overlapping batches that are not below the batch, and rows of bronze as events.
        rows: The rows of bronze that the batch can change.
    """

    events: DataFrame
    rows: DataFrame


def find_stand_ins(
    table: TableRef,
    before: list[LedgerEntry],
    overlapping: list[LedgerEntry] | None,
    batch: DataFrame,
    number: int,
    rows: DataFrame,
) -> StandIns | None:
    """Return what may be read in place of all accepted events when a batch is applied; None: nothing may.

    Args:
        table: The table.
        before: The ledger rows of all batches before it.
        overlapping: The result of `overlapping_batches`.
        batch: The events of the batch.
        number: Its sequence in the ledger.
        rows: All rows of bronze.
    """
    config, at = table.config, sequence(table.config)
    if overlapping is None or not is_enough(overlapping, before, config):
        return None
    lowest = F.broadcast(batch.agg(F.min(at).alias(_LOWEST)))
    older = rows = rows if config.scd == 1 else _changeable_windows(rows, lowest, has_later=bool(overlapping))
    if config.scd == 2 and overlapping:
        older = rows.crossJoin(lowest).where(F.col(START_AT) < F.col(_LOWEST))
        across = older.where(F.col(FEED_SEQUENCE) >= F.col(_LOWEST))
        if not across.join(affected_keys(batch, rows, config), on=list(config.keys), how="left_semi").isEmpty():
            return None
    of_rows = _rows_as_events(older, number, config)
    dropped = [field for field in batch.schema if field.name not in of_rows.columns]  # bronze has none of these
    of_rows = of_rows.select("*", *[F.lit(None).cast(field.dataType).alias(field.name) for field in dropped])
    if not overlapping:
        return StandIns(of_rows, rows)
    accepted = feed_events.read(table, overlapping).crossJoin(lowest).where(at >= F.col(_LOWEST))
    return StandIns(accepted.drop(_LOWEST).unionByName(of_rows), rows)


def affected_keys(batch: DataFrame, rows: DataFrame, table: Table) -> DataFrame:
    """Return the keys that a batch may affect: those of its events, and those that its truncates may delete.

    Args:
        batch: The events of the batch, with their kind.
        rows: Rows of bronze, all that the batch can change among them.
        table: The table's configuration.
    """
    keys = feed.keys_of(batch, table)
    if not feed_events.can_truncate(table):
        return keys
    return keys.unionByName(feed.truncated_keys(batch, rows, table)).distinct()


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


def bounds_of_batches(table: TableRef, entries: list[LedgerEntry]) -> list[Bounds | None]:
    """Return sequences between which those of each batch are, from the metadata of its files; None: it does not tell.

    Args:
        table: The table.
        entries: The ledger rows of the batches.
    """
    columns = [_paths(name, table.config) for name in feed_rules.feed_of(table.config).sequence_by]
    return [_bounds_of_batch(footers, columns) for footers in change_sets.footers(table, entries)]


def _changeable_windows(rows: DataFrame, lowest: DataFrame, has_later: bool) -> DataFrame:
    """Return the windows of a history that a batch can change: not those that end before its lowest sequence.

    Args:
        rows: All windows.
        lowest: The lowest sequence of the batch.
        has_later: Whether there are events with a higher one; else only open windows end later.
    """
    if not has_later:
        return rows.where(scd2.is_open_window())
    ends_later = scd2.is_open_window() | (F.col(scd2.END) >= F.col(_LOWEST))
    return rows.crossJoin(lowest).where(ends_later).drop(_LOWEST)


def _rows_as_events(rows: DataFrame, number: int, table: Table) -> DataFrame:
    """Return rows of bronze as the events that they come from.

    They count as arrived with the batch of this number: its deletes count for them, whatever `tombstones` is, and
    accepted deletes, which these rows have survived, do not.
    """
    at = F.col(FEED_SEQUENCE)
    if table.scd == 2:
        # The event that opened a window, and the last one in it, if only columns without a history changed since.
        at = F.explode(F.array_distinct(F.array(START_AT, FEED_SEQUENCE)))
    rows = rows.withColumn(_AT, at)
    own = feed_rules.feed_of(table)
    values = {name: F.col(quote_identifier(name)) for name in stored_schema(table).names}
    for name, stored in zip(own.sequence_by, sequence_names(own), strict=True):
        values[name] = F.col(_AT) if len(own.sequence_by) == 1 else F.col(quote_identifier(_AT, stored))
    return rows.select(
        *[value.alias(name) for name, value in values.items()],
        F.lit(number).cast("bigint").alias(BATCH),
        F.col("_cdc_timestamp").alias(TIME),
        F.lit(_LATEST).cast("timestamp").alias(NEWEST),
        F.lit(UPSERT).alias(KIND),
    )


def _parts(value: Any) -> tuple[Any, ...]:
    """Return the parts of a sequence as Arrow gives it: a value, or a dictionary."""
    return tuple(value.values()) if isinstance(value, dict) else (value,)


def _paths(name: str, table: Table) -> list[str]:
    """Return where the files of batches have a part of the sequence: a column, or fields inside columns."""
    fields = {field.name: field.paths for field in table.field_columns}
    return [".".join(path) for path in fields.get(name, ((name,),))]


def _bounds_of_batch(footers: list[pq.FileMetaData], columns: list[list[str]]) -> Bounds | None:
    known = [bounds for footer in footers if (bounds := _bounds_of_file(footer, columns)) is not None]
    if not known or len(known) < len(footers):  # none: the batch is lost
        return None
    lowest, highest = [b.lowest for b in known if b.lowest], [b.highest for b in known if b.highest]
    return Bounds(min(lowest, default=None), max(highest, default=None))


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
