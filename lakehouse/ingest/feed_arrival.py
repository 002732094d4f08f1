"""Defines `Arrival`: a batch of a change feed on its way, with what was accepted before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import bronze
from lakehouse.bronze import ComputedBatch, apply_feed, feed, feed_order
from lakehouse.bronze.read import stored_rows
from lakehouse.ingest.context import IngestContext
from lakehouse.lake import delta, feed_events
from lakehouse.lake.feed_events import KIND, TRUNCATE
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.storage.landing import LandedSnapshot


@dataclass(frozen=True)
class Arrival:
    """A batch that is compared with what was accepted before.

    Attributes:
        context: The table's ingest.
        others: The ledger rows of the other batches: not of one of the same time, which this batch replaces.
        batch: Its sequence and time.
        newest: The newest time of all batches up to this one.
        current: The rows of bronze before it; None: those of bronze.
        bronze: The version of bronze that it is compared with.
        overlapping: The others that may have a sequence from its lowest one on (`bronze.feed_order`); None: it is not
            known which.
    """

    context: IngestContext
    others: list[LedgerEntry]
    batch: apply_feed.Batch
    newest: datetime
    current: DataFrame | None
    bronze: apply_feed.BronzeVersion | None
    overlapping: list[LedgerEntry] | None = None

    @property
    def is_replacement(self) -> bool:
        """Whether a batch of its time was accepted before."""
        return len(self.others) < len(self.context.history.accepted)

    @property
    def stored(self) -> DataFrame:
        """The rows of bronze before the batch."""
        return stored_rows(self.context.table) if self.current is None else self.current

    def stamp(self, events: DataFrame) -> DataFrame:
        """Return events with the columns of the batch."""
        return feed_events.stamp(events, self.batch.sequence, self.batch.time, self.newest)

    def with_overlapping(self, events: DataFrame) -> Arrival:
        """Return the batch with the others that overlap it.

        Args:
            events: Those of its events that can be accepted.
        """
        table = self.context.table
        if not self.others:
            return self
        bounds = feed_order.bounds_of_events(events, table.config)
        return replace(self, overlapping=feed_order.overlapping_batches(table, self.others, bounds))

    def compare(self, events: DataFrame, is_corrected: bool = False) -> DataFrame:
        """Return the changes of the batch's events in bronze (`apply_feed.compare_batch`)."""
        needs_all = is_corrected or self.current is not None or feed_events.has_marks(self.others)
        return apply_feed.compare_batch(
            self.context.table,
            self.others,
            events,
            self.batch,
            self.current,
            is_corrected,
            all_keys=self.is_replacement,
            overlapping=None if needs_all or self.is_replacement else self.overlapping,
        )

    def computed_batch(self, compared: DataFrame) -> ComputedBatch | None:
        """Return the changes of the batch for `bronze`; None if they are not a difference from its rows.

        Args:
            compared: The result of `compare`, in the driver's memory.
        """
        if self.current is not None:
            return None
        changes = apply_feed.changed_rows(compared, self.context.table)
        return ComputedBatch(self.batch, self.bronze, changes.toArrow(), changes.schema)

    def accepted_events(self) -> DataFrame | None:
        """Return the accepted events of keys that may have a sequence of this batch; None: none can."""
        entries = self.others if self.overlapping is None else self.overlapping
        if not entries:
            return None
        no_event = (TRUNCATE, *feed_events.FROM_SNAPSHOT)
        return feed_events.read(self.context.table, entries).where(~F.col(KIND).isin(*no_event))


def begin_arrival(context: IngestContext, snapshot: LandedSnapshot) -> Arrival:
    """Return a batch that arrives.

    Args:
        context: The table's ingest.
        snapshot: The landed batch.
    """
    table, history = context.table, context.history
    number = (history.last_accepted.sequence or 0) + 1 if history.last_accepted else 1
    others = [entry for entry in history.accepted if entry.snapshot_time != snapshot.time]
    newest = max([snapshot.time, *(entry.snapshot_time for entry in others)])
    version = delta.current_version(table.spark, table.bronze)
    is_current = bronze.is_current(version, context.config, history)
    current = None if is_current else feed.fold_batches(table, history.accepted)
    batch, base = apply_feed.Batch(number, snapshot.time), apply_feed.version_of(table)
    return Arrival(context, others, batch, newest, current, base)
