"""Defines the result of comparing a batch of a change feed with bronze."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.bronze import ComputedBatch, feed_difference, feed_rules
from lakehouse.config import Guard
from lakehouse.config.ddl import quote_identifier
from lakehouse.ingest.comparison import Comparison
from lakehouse.ingest.feed_correction import Correction
from lakehouse.ingest.readers.snapshot_reader import KEY_STATE, PROBLEMS, RECEIVED, UNMASKED
from lakehouse.ingest.shares import is_more_than
from lakehouse.lake import feed_events
from lakehouse.lake.cdc import CHANGED_COLUMNS, DELETE, END_AT, UPDATE
from lakehouse.lake.feed_events import KIND, TRUNCATE
from lakehouse.lake.hashes import normalize
from lakehouse.lake.merge import ACTION
from lakehouse.text import counted

NULL_SEQUENCE = "null in sequence_by"  # an event's fault
OTHER_EVENT = "another event has the same key and sequence, and other values"  # why a good event goes to quarantine
IS_REJECTED = "_feed_is_rejected"
_BEFORE, _AFTER = "_feed_before", "_feed_after"  # the live row of a key


@dataclass(frozen=True)
class FeedComparison(Comparison):
    """A batch of a feed that can be accepted, compared with bronze.

    Attributes:
        events: All events of the batch: the columns in raw, `PROBLEMS`, `RECEIVED`, `KEY_STATE`, `KIND` and, for an
            event that another one contradicts, `IS_REJECTED`.
        batch: The accepted events, with their kind and the columns of their batch.
        compared: Their changes in bronze (`bronze.feed_difference.compare`).
        deleted_by_truncate: How many keys a truncate of the batch deletes.
        correction: What the snapshot beside the events changes; None: there is none.
        computed: The rows of bronze that change, if the driver has them.
    """

    events: DataFrame
    batch: DataFrame
    compared: DataFrame
    deleted_by_truncate: int
    correction: Correction | None = None
    computed: ComputedBatch | None = None

    def hold_reason(self, guard: Guard) -> str | None:
        """Return why the batch has to be approved, or None.

        Args:
            guard: The limits to apply.
        """
        reasons = []
        extra, unreadable = (self.correction.extra, self.correction.unreadable) if self.correction else (0, 0)
        for count, cause in ((self.deleted_by_truncate, "a truncate"), (extra, "the snapshot beside the feed")):
            if count and is_more_than(count, guard.max_deleted, live := self.count_before()):
                found = f"{count} of {live} rows deleted by {cause}"
                reasons.append(f"{found}, more than max_deleted {guard.max_deleted:g}")
        if extra and unreadable:
            rows = counted(unreadable, "row")
            reasons.append(f"{rows} of the snapshot whose key cannot be read, beside {counted(extra, 'row')} deleted")
        if is_more_than(self.counts.quarantined, guard.max_quarantined, self.counts.rows_read):
            found = f"{self.counts.quarantined} of {self.counts.rows_read} events quarantined"
            reasons.append(f"{found}, more than max_quarantined {guard.max_quarantined:g}")
        return "; ".join(reasons) or None

    def describe_conflicts(self) -> tuple[str, str]:
        table, events = self.context.config, counted(self.counts.conflicts, "event")
        found = f"{events} of {self.context.table.name} beside another one of the same key and sequence"
        or_later = f", or another {table.updated_at}" if table.duplicates == "latest" else ""  # a tie
        one = f"one event for each {', '.join(feed_rules.event_identity(table))}{or_later}"
        return found, f"{one} (duplicates: {table.duplicates}); events that were accepted before count"

    def example_keys(self, limit: int = 3) -> str:
        keys = [*map(quote_identifier, self.context.config.keys)]
        rows = self.events.where(IS_REJECTED).select(*keys).distinct().limit(limit).collect()
        return ", ".join(str(tuple(row)) if len(row) > 1 else repr(row[0]) for row in rows)

    def conflicting_rows(self, limit: int) -> DataFrame:
        return self.events.where(IS_REJECTED).limit(limit).select(F.col(RECEIVED).alias("row"), *self._unmasked)

    def quarantine_rows(self) -> DataFrame:
        table, first = self.context.config, F.get(PROBLEMS, F.lit(0))
        is_null_key = (F.col(KIND) != TRUNCATE) & (F.col(KEY_STATE) == "null")
        reasons = F.transform(PROBLEMS, lambda p: F.concat_ws(": ", p["column"], p["reason"]))
        malformed = self.events.where(F.size(PROBLEMS) > 0).select(
            F.col(RECEIVED).alias("row"),
            first["column"].alias("column"),
            first["value"].alias("value"),
            F.array_join(reasons, "; ").alias("reason"),
            F.when(is_null_key, "null_key")
            .when(first["reason"] == NULL_SEQUENCE, "null_sequence")
            .otherwise("malformed")
            .alias("rule"),
            *self._unmasked,
        )
        identity = feed_rules.event_identity(table)
        rejected = self.events.where(IS_REJECTED).select(
            F.col(RECEIVED).alias("row"),
            F.lit(", ".join(identity)).alias("column"),
            F.to_json(F.struct(*map(quote_identifier, identity))).alias("value"),
            F.lit(OTHER_EVENT).alias("reason"),
            F.lit("duplicate_key").alias("rule"),
            *self._unmasked,
        )
        return malformed.unionByName(rejected)

    @property
    def _unmasked(self) -> list[str]:
        return [column for column in self.events.columns if column == UNMASKED]

    def leading_zero_columns(self) -> tuple[str, ...]:
        """Return no columns: a feed comes from a database, which has types of its own."""
        return ()

    def change_set(self, sequence: int) -> DataFrame:
        """Return the live rows that the batch inserts, updates and deletes, as `diff` shows them."""
        table, schema = self.context.config, self.context.table.schema
        keys, names = list(table.keys), [*map(quote_identifier, schema.names)]
        before = self.before.frame.select(*map(quote_identifier, keys), F.struct(*names).alias(_BEFORE))
        is_live = F.col(END_AT).isNull() if table.scd == 2 else F.lit(True)
        after = self.compared.where(is_live & ~F.col(ACTION).eqNullSafe(DELETE))
        after = after.select(*map(quote_identifier, keys), F.struct(*names).alias(_AFTER))
        changes = feed_difference.key_changes(self.compared, table)
        joined = changes.join(after, on=keys, how="left").join(before, on=keys, how="left")
        differing = [F.when(_differs(field), field.name) for field in schema if field.name not in keys]
        changed = F.array_compact(F.array(*differing).cast("array<string>"))
        values = [
            F.coalesce(_of(_AFTER, name), _of(_BEFORE, name)).alias(name) for name in schema.names if name not in keys
        ]
        rows = joined.where(F.col(_AFTER).isNotNull() | F.col(_BEFORE).isNotNull()).select(
            *map(quote_identifier, keys),
            *values,
            F.col(ACTION).alias("_cdc_operation"),
            F.lit(self.snapshot.time).cast("timestamp").alias("_cdc_timestamp"),
            F.lit(sequence).cast("bigint").alias("_cdc_sequence"),
            F.when(F.col(ACTION) == UPDATE, changed).alias(CHANGED_COLUMNS),
        )
        own = ["_cdc_operation", "_cdc_timestamp", "_cdc_sequence", CHANGED_COLUMNS]
        return rows.select(*names, *own)

    def computed_batch(self) -> ComputedBatch | None:
        """Return the rows of bronze that change, if the driver has them."""
        return self.computed

    def write_change_set(self, sequence: int, path: str) -> None:
        """Write the accepted events, which carry the sequence already."""
        count = self.counts.rows_read - self.counts.quarantined + (self.correction.keys if self.correction else 0)
        derived = [KIND, *(field.name for field in self.context.config.field_columns)]
        if self.correction is None:
            derived.append(feed_events.CORRECTION)
        feed_events.write(self.context.table, self.batch.drop(*derived, *self.missing_columns), path, count)


def _of(side: str, name: str) -> Column:
    return F.col(quote_identifier(side, name))


def _differs(field: T.StructField) -> Column:
    after, before = (normalize(_of(side, field.name), field.dataType) for side in (_AFTER, _BEFORE))
    return ~after.eqNullSafe(before)
