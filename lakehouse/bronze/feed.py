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

import json
from datetime import timedelta
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.config import FEED_SEQUENCE, Feed, Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.lake import feed_events
from lakehouse.lake.cdc import CDC_COLUMNS, DELETE, END_AT, INSERT, START_AT, UPDATE
from lakehouse.lake.feed_events import BATCH, KIND, NEWEST, TIME, TRUNCATE, UPSERT
from lakehouse.lake.feed_events import DELETE as DELETE_EVENT
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.merge import ACTION
from lakehouse.lake.table_ref import TableRef, bronze_schema
from lakehouse.schema.table_schema import stored_schema

LIVE_BEFORE, LIVE_AFTER = "_feed_live_before", "_feed_live_after"

_LAST_BATCH, _LAST_TIME = "_feed_last_batch", "_feed_last_time"
_IS_EVENT = "_feed_is_event"  # 0 for a truncate, which comes before an event of the same sequence
_RANK, _SEGMENT, _WINDOW, _FIRST, _OPENS = (
    "_feed_rank",
    "_feed_segment",
    "_feed_window",
    "_feed_is_first",
    "_feed_opens",
)


def feed_of(table: Table) -> Feed:
    """Return the feed of a table that has one.

    Args:
        table: The table's configuration.
    """
    assert table.feed is not None
    return table.feed


def feed_rule(table: Table) -> str:
    """Return the settings by which events become rows; each commit of bronze records them.

    Args:
        table: The table's configuration.
    """
    feed = feed_of(table)
    settings = {
        **acceptance_rule(table),
        "delete_when": feed.delete_when,
        "ignore_null_updates": feed.ignore_null_updates,
        "tombstones": _seconds(feed.tombstones) if table.scd == 1 else None,
        "untracked": sorted(set(_values(table)) - set(tracked_columns(table))) if table.scd == 2 else [],
        "stored": sorted(stored_schema(table).names),
        "scd": table.scd,
    }
    return json.dumps(settings, sort_keys=True, ensure_ascii=False)


def acceptance_rule(table: Table) -> dict[str, Any]:
    """Return the settings by which events are accepted: if one changes, all batches have to be taken again.

    Args:
        table: The table's configuration.
    """
    feed = feed_of(table)
    return {
        "keys": sorted(table.keys),
        "sequence_by": feed.sequence_by,
        "truncate_when": feed.truncate_when,
        "latest_by": table.updated_at if table.duplicates == "latest" else None,
    }


def sequence(table: Table, prefix: str = "") -> Column:
    """Return the sequence of an event: the value of its column, or a struct of several.

    Args:
        table: The table's configuration.
        prefix: Before the names of the columns, with a dot.
    """
    names = feed_of(table).sequence_by
    columns = [F.col(f"{prefix}{quote_identifier(name)}").alias(name) for name in names]
    return columns[0] if len(columns) == 1 else F.struct(*columns)


def event_identity(table: Table) -> list[str]:
    """Return the columns by which two events are about the same: the key and the sequence.

    Args:
        table: The table's configuration.
    """
    return [*table.keys, *feed_of(table).sequence_by]


def truncates(events: DataFrame, table: Table) -> DataFrame:
    """Return the sequences of truncates.

    Args:
        events: Events with their kind.
        table: The table's configuration.
    """
    names = [*map(quote_identifier, feed_of(table).sequence_by)]
    return events.where(F.col(KIND) == TRUNCATE).select(*names).distinct()


def has_truncates(table: Table) -> bool:
    """Return whether a feed can have truncates.

    Args:
        table: The table's configuration.
    """
    return feed_of(table).truncate_when is not None


def keys_of(events: DataFrame, table: Table) -> DataFrame:
    """Return the keys of events.

    Args:
        events: Events with their kind.
        table: The table's configuration.
    """
    return events.where(F.col(KIND) != TRUNCATE).select(*map(quote_identifier, table.keys)).distinct()


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
    if table.scd == 1 and not feed_of(table).ignore_null_updates:
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
    truncated = truncates(all_events, table.config) if has_truncates(table.config) else None
    return fold(all_events, truncated, table.config)


def fold(events: DataFrame, truncated: DataFrame | None, table: Table) -> DataFrame:
    """Return the rows that bronze has to have for the keys of some events.

    Args:
        events: All accepted events of these keys, with their kind.
        truncated: The sequences of all truncates; None: there are none.
        table: The table's configuration.

    Returns:
        The columns of bronze; `_cdc_*` are those of the event that a row, or a window, begins with.
    """
    distinct = _distinct_events(events.where(F.col(KIND) != TRUNCATE), table)
    rows = _current_rows(distinct, truncated, table) if table.scd == 1 else _history(distinct, truncated, table)
    return rows.select(*map(quote_identifier, bronze_columns(table)))


def bronze_columns(table: Table) -> list[str]:
    """Return the columns of bronze, in order.

    Args:
        table: The table's configuration.
    """
    return bronze_schema(table).names


def _distinct_events(events: DataFrame, table: Table) -> DataFrame:
    """Return one event for each key and sequence, with the last batch and time at which it came."""
    same = Window.partitionBy(*_quoted(event_identity(table)))
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
    is_live = (F.col(KIND) == UPSERT) & ~_is_dead(newest_first, feed_of(table))
    live = events.withColumn("_feed_is_live", is_live).where("_feed_is_live")
    all_of_key = newest_first.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    values = {name: F.col(quote_identifier(name)) for name in stored_schema(table).names}
    for name in _kept_on_null(table):
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
    is_delete = F.col(KIND) == DELETE_EVENT
    last_batch = F.max(F.when(is_delete, F.col(_LAST_BATCH))).over(above)
    if feed.tombstones is None:
        return last_batch.isNotNull()
    last_time = F.max(F.when(is_delete, F.unix_micros(_LAST_TIME))).over(above)
    remembered_since = F.unix_micros(NEWEST) - F.lit(feed.tombstones // timedelta(microseconds=1)).cast("bigint")
    # A delete that came with the event, or after it, always counts.
    return F.coalesce((last_batch >= F.col(BATCH)) | (last_time >= remembered_since), F.lit(False))


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds())


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
    for name in _kept_on_null(table):
        # The delete that a segment begins with has values, too, and they do not count.
        kept = F.last(F.when(is_upsert, F.col(quote_identifier(name))), ignorenulls=True).over(in_segment)
        events = events.withColumn(name, kept)
    names = tracked_columns(table)
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


def tracked_columns(table: Table) -> list[str]:
    """Return the columns whose changes open a window of a history.

    Args:
        table: The table's configuration.
    """
    if table.history_for is not None:
        return [name for name in table.history_for if name not in table.keys]
    untracked = {*(table.history_except or ()), *table.ignore}
    return [name for name in _values(table) if name not in untracked]


# --- the difference from bronze ---------------------------------------------------------------------------------------


def compare(
    current: DataFrame, wanted: DataFrame, table: Table, row_keys: list[str], batch: tuple[Column, Column] | None
) -> DataFrame:
    """Return what makes the rows of some keys in bronze equal to the wanted ones.

    Args:
        current: The rows of these keys in bronze.
        wanted: The rows that bronze has to have for them.
        table: The table's configuration.
        row_keys: The columns that identify a row of bronze.
        batch: The sequence and the time of the batch that changes them; None: those of the events.

    Returns:
        The columns of bronze, `ACTION` (I, U, D or null), and whether the row shows its key as live before and after.
        A row that does not change otherwise keeps its `_cdc_*`, as a window does whose end alone changes.
    """
    columns = bronze_columns(table)
    before = current.select(F.struct(*_quoted(columns)).alias("c"))
    after = wanted.select(F.struct(*_quoted(columns)).alias("w"))
    both = before.join(after, on=_all([_equal(key) for key in row_keys]), how="full")
    is_new, is_gone = F.col("c").isNull(), F.col("w").isNull()
    differs = _any([~_equal(name) for name in columns if name not in row_keys and name not in CDC_COLUMNS])
    action = F.when(is_new, INSERT).when(is_gone, DELETE).when(differs, UPDATE)
    values = {name: F.when(is_gone, _side("c", name)).otherwise(_side("w", name)) for name in columns}
    if table.scd == 1 and batch is not None:
        values |= {"_cdc_operation": action, "_cdc_sequence": batch[0], "_cdc_timestamp": batch[1]}
    if table.scd == 2:
        values |= {name: F.coalesce(_side("c", name), _side("w", name)) for name in CDC_COLUMNS}
    return both.select(
        action.alias(ACTION),
        *[value.alias(name) for name, value in values.items()],
        (~is_new & _is_live("c", table)).alias(LIVE_BEFORE),
        (~is_gone & _is_live("w", table)).alias(LIVE_AFTER),
    )


def key_changes(compared: DataFrame, table: Table) -> DataFrame:
    """Return the keys that a comparison changes, with I, U or D in `ACTION` as a reader of live rows sees them.

    `FEED_SEQUENCE` is that of the row that was live before.

    Args:
        compared: The result of `compare`.
        table: The table's configuration.
    """
    of_key = compared.groupBy(*_quoted(table.keys)).agg(
        F.count_if(F.col(ACTION).isNotNull()).alias("_feed_changes"),
        F.max(LIVE_BEFORE).alias(LIVE_BEFORE),
        F.max(LIVE_AFTER).alias(LIVE_AFTER),
        F.max(F.when(F.col(LIVE_BEFORE), F.col(FEED_SEQUENCE))).alias(FEED_SEQUENCE),
    )
    is_inserted, is_deleted = F.col(LIVE_AFTER) & ~F.col(LIVE_BEFORE), F.col(LIVE_BEFORE) & ~F.col(LIVE_AFTER)
    action = F.when(is_inserted, INSERT).when(is_deleted, DELETE).otherwise(UPDATE)
    return of_key.where("_feed_changes > 0").select(*_quoted(table.keys), action.alias(ACTION), FEED_SEQUENCE)


def _side(side: str, name: str) -> Column:
    return F.col(quote_identifier(side, name))


def _equal(name: str) -> Column:
    return _side("c", name).eqNullSafe(_side("w", name))


def _is_live(side: str, table: Table) -> Column:
    return _side(side, END_AT).isNull() if table.scd == 2 else F.lit(True)


def _all(conditions: list[Column]) -> Column:
    return reduce(Column.__and__, conditions, F.lit(True))


def _any(conditions: list[Column]) -> Column:
    return reduce(Column.__or__, conditions, F.lit(False))


def _quoted(names: list[str]) -> list[str]:
    return [*map(quote_identifier, names)]


def _values(table: Table) -> list[str]:
    return [name for name in stored_schema(table).names if name not in table.keys]


def _kept_on_null(table: Table) -> list[str]:
    """Return the columns whose value a null in an update keeps."""
    ignored = feed_of(table).ignore_null_updates
    return _values(table) if ignored is True else list(ignored or ())


def _sequence_columns(table: Table) -> list[Column]:
    return [F.col(quote_identifier(name)) for name in feed_of(table).sequence_by]
