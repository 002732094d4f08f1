"""Leaves out events that a snapshot beside a change feed supersedes (`feed: {corrected_by: ...}`).

A snapshot holds the whole table as it stood at a sequence. Raw has the rows in which it differed from bronze, as
corrections, and a mark with its sequence. Of a key at that sequence the snapshot says everything:

- an event that came after the snapshot, and whose sequence is not above its, counts no more;
- of a key with a correction, no event up to that sequence counts, whenever it came.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.bronze.feed_sequence import sequence
from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.lake.feed_events import BATCH, CORRECTED, IS_CORRECTION, KIND, MARK, REMOVED, UPSERT

_MARK, _MARK_BATCH, _LAST = "_feed_mark", "_feed_mark_batch", "_feed_last_correction"


def marks(events: DataFrame, table: Table) -> DataFrame:
    """Return the sequence and the batch of each snapshot beside the feed.

    Args:
        events: Events with their kind.
        table: The table's configuration.
    """
    return events.where(F.col(KIND) == MARK).select(sequence(table).alias(_MARK), F.col(BATCH).alias(_MARK_BATCH))


def without_late(events: DataFrame, marked: DataFrame | None, table: Table) -> DataFrame:
    """Leave out events, corrections and truncates that came after a snapshot which says what they say, or more.

    Args:
        events: Events with their kind.
        marked: The result of `marks`; None: there never was a snapshot.
        table: The table's configuration.
    """
    if marked is None:
        return events
    is_correction, at = F.col(KIND).isin(CORRECTED, REMOVED), sequence(table)
    # Of two snapshots with one sequence, the one that came last counts.
    is_superseded = F.when(is_correction, at < F.col(_MARK)).otherwise(at <= F.col(_MARK))
    came_later = (F.col(BATCH) > F.col(_MARK_BATCH)) & is_superseded
    return events.join(F.broadcast(marked), on=came_later, how="left_anti")


def without_superseded(events: DataFrame, marked: DataFrame | None, table: Table) -> DataFrame:
    """Return the events that count beside snapshots; a row of a snapshot is an upsert in which IS_CORRECTION is true.

    Args:
        events: Events and corrections of some keys, with their kind.
        marked: The result of `marks`; None: there never was a snapshot.
        table: The table's configuration.
    """
    if marked is None:
        return events.withColumn(IS_CORRECTION, F.lit(False))
    is_correction, at = F.col(KIND).isin(CORRECTED, REMOVED), sequence(table)
    counting = without_late(events, marked, table)
    position = F.struct(at.alias("at"), F.col(BATCH).alias("batch"))
    of_key = Window.partitionBy(*map(quote_identifier, table.keys))
    last = counting.withColumn(_LAST, F.max(F.when(is_correction, position)).over(of_key))
    is_last = is_correction & (position == F.col(_LAST))
    kept = last.where(F.col(_LAST).isNull() | is_last | (~is_correction & (at > F.col(f"{_LAST}.at"))))
    is_row = F.col(KIND) == CORRECTED
    kind = F.when(is_row, UPSERT).otherwise(F.col(KIND))
    return kept.where(F.col(KIND) != REMOVED).withColumn(IS_CORRECTION, is_row).withColumn(KIND, kind).drop(_LAST)
