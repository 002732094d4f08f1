"""Finds events of one key and sequence that contradict each other, those accepted before included."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.bronze import feed, feed_rules
from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.ingest.feed_arrival import Arrival
from lakehouse.ingest.feed_comparison import IS_REJECTED
from lakehouse.ingest.readers.snapshot_reader import PROBLEMS
from lakehouse.lake.feed_events import KIND, TRUNCATE
from lakehouse.lake.hashes import hash_columns
from lakehouse.schema.table_schema import received_schema

EVENT_HASHES = ["_feed_hash_1", "_feed_hash_2"]  # of all columns of an event
_ACCEPTED_HASHES = ["_feed_accepted_1", "_feed_accepted_2"]  # of the accepted event of that key and sequence
_IN_BATCH = "_feed_in_batch"


def find_conflicts(arrival: Arrival, events: DataFrame) -> DataFrame:
    """Return the keys and sequences of which a batch has an event that contradicts another, in it or accepted before.

    Args:
        arrival: The batch.
        events: Its events, with their kind, problems and `EVENT_HASHES`.

    Returns:
        The columns of key and sequence, and the hashes of the accepted event, which are null if there is none.
    """
    table, schema = arrival.context.config, received_schema(arrival.context.config)
    identity = [*map(quote_identifier, feed_rules.event_identity(table))]
    order = [F.col(quote_identifier(table.updated_at)).alias("_feed_at")] if table.updated_at else []
    good = events.where((F.size(PROBLEMS) == 0) & (F.col(KIND) != TRUNCATE))
    compared = good.select(*identity, *order, *EVENT_HASHES, F.lit(True).alias(_IN_BATCH))
    accepted = arrival.accepted_events()
    if accepted is not None:
        accepted = accepted.join(feed.keys_of(good, table), on=list(table.keys), how="left_semi")
        hashes = hash_columns(schema.names, schema, EVENT_HASHES)
        compared = compared.unionByName(accepted.select(*identity, *order, *hashes, F.lit(False).alias(_IN_BATCH)))
    if table.duplicates == "latest":
        newest_first = Window.partitionBy(*identity).orderBy(F.desc("_feed_at"))
        compared = compared.withColumn("_feed_rank", F.rank().over(newest_first)).where("_feed_rank = 1")
    of_accepted = [
        F.max(F.when(~F.col(_IN_BATCH), F.col(c))).alias(a) for c, a in zip(EVENT_HASHES, _ACCEPTED_HASHES, strict=True)
    ]
    differs = reduce(Column.__or__, [F.min(c) != F.max(c) for c in EVENT_HASHES])
    groups = compared.groupBy(*identity).agg(
        differs.alias("_feed_differs"), F.max(_IN_BATCH).alias(_IN_BATCH), *of_accepted
    )
    return groups.where(F.col("_feed_differs") & F.col(_IN_BATCH)).select(*identity, *_ACCEPTED_HASHES)


def mark_rejected(events: DataFrame, conflicts: DataFrame | None, table: Table) -> DataFrame:
    """Mark the events of a batch that contradict another; one that equals the accepted event is not among them.

    Args:
        events: The events of `find_conflicts`.
        conflicts: Its result; None: there are no conflicts.
        table: The table's configuration.
    """
    if conflicts is None:
        return events.withColumn(IS_REJECTED, F.lit(False))
    identity = feed_rules.event_identity(table)
    marked = conflicts.withColumn("_feed_conflict", F.lit(True))
    joined = events.join(marked, on=identity, how="left")
    is_accepted = F.lit(True)
    for of_event, of_accepted in zip(EVENT_HASHES, _ACCEPTED_HASHES, strict=True):
        is_accepted = is_accepted & F.col(of_event).eqNullSafe(F.col(of_accepted))
    is_rejected = F.coalesce(F.col("_feed_conflict"), F.lit(False)) & ~is_accepted
    is_good = (F.size(PROBLEMS) == 0) & (F.col(KIND) != TRUNCATE)
    return joined.select(*map(quote_identifier, events.columns), (is_rejected & is_good).alias(IS_REJECTED))
