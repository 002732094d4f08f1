"""Computes a table from the events of a change feed: DataFrames in and out.

The rows of a key are always computed from all of its events, so neither the order in which batches come nor their
repetition matters:

1. Of equal events, the first that came counts; with `duplicates: latest`, that with the greatest `updated_at`.
2. A truncate is a delete of every key at its sequence; an event of the same sequence stands.
3. scd 1: an upsert is dead if a delete has a higher sequence. It is not if it came later than `tombstones` after that
   delete, in a later batch: the delete had been forgotten. The live upsert with the highest sequence is the row.
   scd 2: each upsert opens a window unless no column with a history changes; the next window or a delete closes it.
4. With `ignore_null_updates`, a null takes the value of the event before, back to the last delete.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.bronze import feed_corrections, feed_rules
from lakehouse.bronze.feed_sequence import sequence
from lakehouse.config import FEED_SEQUENCE, Feed, Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.lake import feed_events
from lakehouse.lake.cdc import END_AT, INSERT, START_AT, UPDATE
from lakehouse.lake.feed_events import (
    ABOUT_ALL_KEYS,
    BATCH,
    DELETE,
    IS_CORRECTION,
    KIND,
    NEWEST,
    TIME,
    TRUNCATE,
    UPSERT,
)
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.table_ref import TableRef, bronze_schema
from lakehouse.schema.table_schema import stored_schema

_LAST_BATCH, _LAST_TIME = "_feed_last_batch", "_feed_last_time"
_IS_EVENT = "_feed_is_event"  # 0 for a truncate, which comes before an event of the same sequence
_RANK, _SEGMENT, _WINDOW, _FIRST, _OPENS = (
    "_feed_rank",
    "_feed_segment",
    "_feed_window",
    "_feed_is_first",
    "_feed_opens",
)


def truncates(events: DataFrame, table: Table) -> DataFrame:
    """Return the sequences of truncates.

    Args:
        events: Events with their kind.
        table: The table's configuration.
    """
    names = [*map(quote_identifier, feed_rules.feed_of(table).sequence_by)]
    return events.where(F.col(KIND) == TRUNCATE).select(*names).distinct()


def keys_of(events: DataFrame, table: Table) -> DataFrame:
    """Return the keys of events.

    Args:
        events: Events with their kind.
        table: The table's configuration.
    """
    return events.where(~F.col(KIND).isin(*ABOUT_ALL_KEYS)).select(*map(quote_identifier, table.keys)).distinct()


def truncated_keys(batch: DataFrame, current: DataFrame, table: Table) -> DataFrame:
    """Return the keys of bronze that the truncates of a batch may affect.

    Args:
        batch: The events of the batch, with their kind.
        current: All rows of bronze.
        table: The table's configuration.
    """
    keys = [*map(quote_identifier, table.keys)]
    last = batch.where(F.col(KIND) == TRUNCATE).agg(F.max(sequence(table)).alias("_feed_truncate"))
    rows = current.crossJoin(F.broadcast(last)).where(F.col("_feed_truncate").isNotNull())
    if table.scd == 1 and not feed_rules.feed_of(table).ignore_null_updates:
        rows = rows.where(F.col(FEED_SEQUENCE) < F.col("_feed_truncate"))
    return rows.select(*keys).distinct()


def fold_batches(table: TableRef, entries: list[LedgerEntry]) -> DataFrame:
    """Return the rows that bronze has to have after some batches.

    Args:
        table: The table.
        entries: The ledger rows of the batches.

    Raises:
        InfrastructureError: The events of a batch are not there.
    """
    all_events = feed_events.read(table, entries)
    of_all = of_all_keys(all_events, table.config, feed_events.has_marks(entries))
    return fold(all_events, *of_all, table.config)


def of_all_keys(events: DataFrame, table: Table, has_marks: bool) -> tuple[DataFrame | None, DataFrame | None]:
    """Return what is about all keys: the truncates, and the marks of snapshots; None: the feed cannot have any.

    Args:
        events: All accepted events, with their kind.
        table: The table's configuration.
        has_marks: Whether snapshots are among them.
    """
    marked = feed_corrections.marks(events, table) if has_marks else None
    if not feed_events.can_truncate(table):
        return None, marked
    return truncates(feed_corrections.without_late(events, marked, table), table), marked


def fold(events: DataFrame, truncated: DataFrame | None, marked: DataFrame | None, table: Table) -> DataFrame:
    """Return the rows that bronze has to have for the keys of some events.

    Args:
        events: All accepted events of these keys, with their kind.
        truncated: The sequences of all truncates; None: there are none.
        marked: The marks of all snapshots beside the feed; None: there are none.
        table: The table's configuration.

    Returns:
        The columns of bronze; `_cdc_*` are those of the event that a row, or a window, begins with.
    """
    of_keys = events.where(~F.col(KIND).isin(*ABOUT_ALL_KEYS))
    distinct = _distinct_events(feed_corrections.without_superseded(of_keys, marked, table), table)
    rows = _current_rows(distinct, truncated, table) if table.scd == 1 else _history(distinct, truncated, table)
    return rows.select(*_quoted(bronze_schema(table).names))


def _distinct_events(events: DataFrame, table: Table) -> DataFrame:
    """Return one event for each key and sequence, with the last batch and time at which it came."""
    same = Window.partitionBy(*_quoted(feed_rules.event_identity(table)))
    latest = [F.desc(quote_identifier(table.updated_at))] if table.duplicates == "latest" and table.updated_at else []
    return (
        events.withColumn(_LAST_BATCH, F.max(BATCH).over(same))
        .withColumn(_LAST_TIME, F.max(TIME).over(same))
        .withColumn(_RANK, F.row_number().over(same.orderBy(*latest, BATCH)))
        .where(F.col(_RANK) == 1)
    )


# --- scd 1 ------------------------------------------------------------------------------------------------------------


def _current_rows(events: DataFrame, truncated: DataFrame | None, table: Table) -> DataFrame:
    if truncated is not None:
        last = truncated.agg(F.max(sequence(table)).alias("_feed_truncate"))
        is_later = F.col("_feed_truncate").isNull() | (sequence(table) >= F.col("_feed_truncate"))
        events = events.crossJoin(F.broadcast(last)).where(is_later)
    newest_first = Window.partitionBy(*_quoted(table.keys)).orderBy(*[F.desc(c) for c in _sequence_columns(table)])
    is_live = (F.col(KIND) == UPSERT) & ~_is_dead(newest_first, feed_rules.feed_of(table))
    live = events.withColumn("_feed_is_live", is_live).where("_feed_is_live")
    all_of_key = newest_first.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    values = {name: F.col(quote_identifier(name)) for name in stored_schema(table).names}
    for name in feed_rules.kept_on_null(table):
        values[name] = F.first(quote_identifier(name), ignorenulls=True).over(all_of_key)
    count = F.count(F.lit(1)).over(all_of_key)
    ranked = live.select(
        *[value.alias(name) for name, value in values.items()],
        F.when(count > 1, UPDATE).otherwise(INSERT).alias("_cdc_operation"),
        F.col(TIME).alias("_cdc_timestamp"),
        F.col(BATCH).alias("_cdc_sequence"),
        sequence(table).alias(FEED_SEQUENCE),
        F.row_number().over(newest_first).alias(_RANK),
    )
    return ranked.where(F.col(_RANK) == 1)


def _is_dead(newest_first: Any, feed: Feed) -> Column:
    """Return whether a delete with a higher sequence counts for an event."""
    above = newest_first.rowsBetween(Window.unboundedPreceding, -1)
    is_delete = F.col(KIND) == DELETE
    last_batch = F.max(F.when(is_delete, F.col(_LAST_BATCH))).over(above)
    if feed.tombstones is None:
        return last_batch.isNotNull()
    # A snapshot changes nothing of a key that was deleted after it, however long ago that came.
    is_known = F.col(IS_CORRECTION) & last_batch.isNotNull()
    last_time = F.max(F.when(is_delete, F.unix_micros(_LAST_TIME))).over(above)
    remembered_since = F.unix_micros(NEWEST) - F.lit(feed.tombstones // timedelta(microseconds=1)).cast("bigint")
    # A delete that came with the event, or after it, always counts.
    return is_known | F.coalesce((last_batch >= F.col(BATCH)) | (last_time >= remembered_since), F.lit(False))


# --- scd 2 ------------------------------------------------------------------------------------------------------------


def _history(events: DataFrame, truncated: DataFrame | None, table: Table) -> DataFrame:
    events = events.withColumn(_IS_EVENT, F.lit(1))
    if truncated is not None:
        of_keys = events.select(*_quoted(table.keys)).distinct().crossJoin(F.broadcast(truncated))
        marks = of_keys.select("*", F.lit(TRUNCATE).alias(KIND), F.lit(0).alias(_IS_EVENT))
        events = events.unionByName(marks, allowMissingColumns=True)
    keys, order = _quoted(table.keys), [*_sequence_columns(table), F.col(_IS_EVENT)]
    is_upsert = F.col(KIND) == UPSERT
    in_order = Window.partitionBy(*keys).orderBy(*order)
    events = events.withColumn(_SEGMENT, F.count_if(~is_upsert).over(in_order))
    in_segment = Window.partitionBy(*keys, _SEGMENT).orderBy(*order)
    for name in feed_rules.kept_on_null(table):
        # The delete that a segment begins with has values, too, and they do not count.
        kept = F.last(F.when(is_upsert, F.col(quote_identifier(name))), ignorenulls=True).over(in_segment)
        events = events.withColumn(name, kept)
    names = feed_rules.tracked_columns(table)
    tracked = F.struct(*_quoted(names)) if names else F.lit(None).cast("boolean")
    previous = F.lag(F.when(is_upsert, F.struct(tracked.alias("values")))).over(in_segment)
    events = events.withColumn(_FIRST, is_upsert & previous.isNull())
    events = events.withColumn(_OPENS, is_upsert & (previous.isNull() | ~previous["values"].eqNullSafe(tracked)))
    events = events.withColumn(_WINDOW, F.count_if(F.col(_OPENS) | ~is_upsert).over(in_order))
    position = F.struct(*[c.alias(f"_{n}") for n, c in enumerate(order)])
    columns = stored_schema(table).names
    windows = events.groupBy(*keys, _WINDOW).agg(
        F.max_by(F.struct(*_quoted(columns)), position).alias("_feed_values"),
        F.min_by(
            F.struct(sequence(table).alias("start"), F.col(KIND), F.col(TIME), F.col(BATCH), F.col(_FIRST)), position
        ).alias("_feed_opened"),
        F.max_by(F.struct(sequence(table).alias("end")), position).alias("_feed_last"),
    )
    end = F.lead("_feed_opened.start").over(Window.partitionBy(*keys).orderBy(_WINDOW))
    return (
        windows.withColumn(END_AT, end)
        .where(F.col("_feed_opened")[KIND] == UPSERT)
        .select(
            *[F.col(quote_identifier("_feed_values", name)).alias(name) for name in columns],
            F.when(F.col("_feed_opened")[_FIRST], INSERT).otherwise(UPDATE).alias("_cdc_operation"),
            F.col("_feed_opened")[TIME].alias("_cdc_timestamp"),
            F.col("_feed_opened")[BATCH].alias("_cdc_sequence"),
            F.col("_feed_last.end").alias(FEED_SEQUENCE),
            F.col("_feed_opened.start").alias(START_AT),
            END_AT,
        )
    )


def _quoted(names: list[str]) -> list[str]:
    return [*map(quote_identifier, names)]


def _sequence_columns(table: Table) -> list[Column]:
    return [F.col(quote_identifier(name)) for name in feed_rules.feed_of(table).sequence_by]
