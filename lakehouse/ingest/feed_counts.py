"""Counts the events of a batch of a change feed, and the keys that it changes."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.bronze import feed_difference, feed_rules
from lakehouse.bronze.feed_sequence import sequence
from lakehouse.config import FEED_SEQUENCE, Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.ingest.diff import Counts
from lakehouse.ingest.feed_arrival import Arrival
from lakehouse.ingest.feed_comparison import IS_REJECTED
from lakehouse.ingest.feed_conflicts import EVENT_HASHES
from lakehouse.ingest.feed_correction import Correction
from lakehouse.ingest.readers.snapshot_reader import PROBLEMS
from lakehouse.lake import feed_events
from lakehouse.lake.cdc import DELETE, INSERT, UPDATE
from lakehouse.lake.feed_events import KIND, TRUNCATE
from lakehouse.lake.merge import ACTION


def count_batch(
    arrival: Arrival,
    events: DataFrame,
    kept: DataFrame,
    compared: DataFrame,
    row_count: int,
    correction: Correction | None,
) -> tuple[Counts, int]:
    """Return the counts of a batch, and how many keys its truncates delete.

    Of the events of a changed key, one decided, and the others lost to it. In a history (scd 2) each may have its
    window, and only those that had been accepted before change nothing.
    """
    table = arrival.context.config
    of_events = events.agg(
        F.count_if((F.size(PROBLEMS) > 0) | F.col(IS_REJECTED)).alias("quarantined"),
        F.count_if(IS_REJECTED).alias("rejected"),
        F.count_distinct(*_truncate_identity()).alias("truncates"),
    )
    changes = feed_difference.key_changes(compared, table)
    of_keys = changes.join(_events_by_key(arrival, kept), on=list(table.keys), how="full")
    totals = of_keys.agg(*_key_counts(table)).crossJoin(of_events).collect()[0]
    # Of a batch that is taken again, a key that only its first version had is deleted by neither.
    by_truncate = max(0, totals.by_truncate - (correction.extra if correction else 0)) if totals.truncates else 0
    effective = min(totals.truncates, 1 if by_truncate else 0)
    rejected_beside = correction.rejected_count if correction else 0  # of the snapshot beside the events
    row_count += rejected_beside
    quarantined = totals.quarantined + rejected_beside
    counts = Counts(
        rows_read=row_count,
        inserted=totals.inserted,
        updated=totals.updated,
        deleted=totals.deleted,
        unchanged=totals.unchanged + totals.truncates - effective,
        quarantined=quarantined,
        duplicates=row_count - quarantined - totals.events - totals.truncates,
        conflicts=totals.rejected if table.duplicates != "quarantine" else 0,
        unreadable_keys=0,
    )
    return counts, by_truncate


def _events_by_key(arrival: Arrival, kept: DataFrame) -> DataFrame:
    """Return how many different events each key has, how many of them were accepted before, and its last sequences."""
    table = arrival.context.config
    identity = feed_rules.event_identity(table)
    distinct = kept.select(*map(quote_identifier, identity), *EVENT_HASHES, KIND).distinct()
    of_keys = distinct.where(F.col(KIND) != TRUNCATE)
    is_repeated = F.lit(False)
    accepted = arrival.accepted_events() if table.scd == 2 else None
    if accepted is not None:
        known = accepted.select(*map(quote_identifier, identity)).distinct()
        of_keys = of_keys.join(known.withColumn("_feed_known", F.lit(True)), on=identity, how="left")
        is_repeated = F.coalesce(F.col("_feed_known"), F.lit(False))
    return of_keys.groupBy(*map(quote_identifier, table.keys)).agg(
        F.count(F.lit(1)).alias("_feed_events"),
        F.count_if(is_repeated).alias("_feed_repeated"),
        F.max(F.when(F.col(KIND) == feed_events.DELETE, sequence(table))).alias("_feed_last_delete"),
        F.max(F.when(F.col(KIND) == feed_events.UPSERT, sequence(table))).alias("_feed_last_upsert"),
    )


def _key_counts(table: Table) -> list[Column]:
    """Return the counts over the changed keys, each with its figures of `_events_by_key`, null if it has no event."""
    action, event_count = F.col(ACTION), F.coalesce(F.col("_feed_events"), F.lit(0))
    if table.scd == 2:
        unchanged = F.when(action.isNull(), event_count).otherwise(F.coalesce("_feed_repeated", F.lit(0)))
    else:
        unchanged = event_count - F.when(action.isNotNull() & (event_count > 0), 1).otherwise(0)
    # A delete that is older than the row, or than an upsert beside it, deletes nothing: then the truncate does.
    is_last = F.coalesce(F.col("_feed_last_delete") > F.col("_feed_last_upsert"), F.lit(True))
    by_delete = F.coalesce(is_last & (F.col("_feed_last_delete") > F.col(FEED_SEQUENCE)), F.lit(False))
    return [
        F.count_if(action == INSERT).alias("inserted"),
        F.count_if(action == UPDATE).alias("updated"),
        F.count_if(action == DELETE).alias("deleted"),
        F.coalesce(F.sum(unchanged), F.lit(0)).alias("unchanged"),
        F.coalesce(F.sum(event_count), F.lit(0)).alias("events"),
        F.count_if((action == DELETE) & ~by_delete).alias("by_truncate"),
    ]


def _truncate_identity() -> list[Column]:
    """Return the columns by which truncates differ; they are null, and so not counted, for other events."""
    is_truncate = (F.size(PROBLEMS) == 0) & (F.col(KIND) == TRUNCATE)
    return [F.when(is_truncate, F.col(name)) for name in EVENT_HASHES]
