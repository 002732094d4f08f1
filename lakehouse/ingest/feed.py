"""Reads a batch of a change feed and compares it with bronze. In order:

1. read the events by the declared schema, as the rows of a snapshot are                readers/
2. find their kind (truncate, delete or upsert), and those whose sequence is null       lake/feed_events.py
3. apply `duplicates` to events of one key and sequence, those accepted before included
4. compute the affected keys from all of their events, and compare them with bronze     bronze/feed.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse import bronze
from lakehouse.bronze import apply_feed, feed, feed_difference, feed_rules
from lakehouse.config import FEED_SEQUENCE, Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.ingest.context import IngestContext, StateRows
from lakehouse.ingest.diff import Counts
from lakehouse.ingest.feed_comparison import IS_REJECTED, NULL_SEQUENCE, FeedComparison
from lakehouse.ingest.hashes import hash_columns
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.readers.parsed_file import ParsedSnapshot
from lakehouse.ingest.readers.snapshot_reader import KEY_STATE, PROBLEMS, RECEIVED
from lakehouse.lake import change_sets, delta, feed_events
from lakehouse.lake.cdc import DELETE, INSERT, UPDATE
from lakehouse.lake.feed_events import KIND, TRUNCATE
from lakehouse.lake.merge import ACTION
from lakehouse.schema import mismatch
from lakehouse.schema.table_schema import received_schema
from lakehouse.spark.persist import persist_rows
from lakehouse.spark.session import SPARK_ERRORS, local_frame
from lakehouse.storage.landing import LandedSnapshot

_HASHES = ["_feed_hash_1", "_feed_hash_2"]  # of all columns of an event
_ACCEPTED_HASHES = ["_feed_accepted_1", "_feed_accepted_2"]  # of the accepted event of that key and sequence
_IN_BATCH = "_feed_in_batch"
_PROBLEM_TYPE = T.StructType([T.StructField(name, T.StringType()) for name in ("column", "value", "reason")])
_INTERNAL_FIELDS = (
    T.StructField(PROBLEMS, T.ArrayType(_PROBLEM_TYPE)),
    T.StructField(RECEIVED, T.StringType()),
    T.StructField(KEY_STATE, T.StringType()),
)


@contextmanager
def compare_feed(
    context: IngestContext, snapshot: LandedSnapshot, before: StateRows, optional_columns: frozenset[str]
) -> Iterator[FeedComparison]:
    """Read a batch and compare it with bronze, which is at the ledger's last accepted sequence or behind it.

    Args:
        context: The table's ingest.
        snapshot: The landed batch, with files that can be read.
        before: The live rows of the table.
        optional_columns: Declared columns that the batch may lack.

    Raises:
        DataRefused: The batch cannot be read, or a condition cannot be computed for one of its events.
    """
    table, config, history = context.table, context.config, context.history
    sequence = (history.last_accepted.sequence or 0) + 1 if history.last_accepted else 1
    newest = max([snapshot.time, *(entry.snapshot_time for entry in history.accepted)])
    names = received_schema(config).names
    with ExitStack() as stack:
        parsed = _read_events(context, snapshot, optional_columns)
        read = stack.enter_context(persist_rows(_prepare(parsed.rows, config)))
        row_count = _count_rows(read, snapshot)
        events = stack.enter_context(persist_rows(_with_rejected(read, _conflicts(context, read), config)))
        kept = events.where((F.size(PROBLEMS) == 0) & ~F.col(IS_REJECTED))
        accepted = kept.select(*map(quote_identifier, names), KIND)
        batch = feed_events.stamp(accepted, sequence, snapshot.time, newest)
        version = delta.current_version(table.spark, table.bronze)
        is_current = bronze.is_current(version, config, history)
        current = None if is_current else feed.fold_batches(table, history.accepted)
        compared = apply_feed.compare_batch(table, history.accepted, batch, sequence, snapshot.time, current)
        compared = stack.enter_context(persist_rows(compared))
        counts, by_truncate = _count(context, events, kept, compared, row_count)
        yield FeedComparison(
            context,
            snapshot,
            before,
            counts,
            parsed.record_count,
            parsed.unknown_columns,
            parsed.missing_columns,
            slices=None,
            events=events,
            batch=batch,
            compared=compared,
            deleted_by_truncate=by_truncate,
        )


def undelivered_columns(context: IngestContext) -> frozenset[str]:
    """Return the declared columns that an accepted batch lacked, so that another may lack them, too.

    Of the columns that the feed drops these are those that no batch has had yet: a full load in front of a feed often
    has no column with the kind of an event. Once it was there, its absence would make upserts of deletes.

    Args:
        context: The table's ingest.

    Raises:
        ConfigError: `pii` was changed since a batch was accepted.
    """
    accepted = context.history.accepted
    ends = [accepted[0], accepted[-1]] if accepted else []
    delivered = [frozenset(change_sets.delivered_columns(context.table, entry)) for entry in ends]
    names, own = received_schema(context.config).names, feed_rules.feed_of(context.config)
    of_event = {*own.drop} - {*own.sequence_by, *context.config.keys}
    lacking = {name for name in names if name not in of_event and any(name not in columns for columns in delivered)}
    return frozenset(lacking | {name for name in of_event if not any(name in columns for columns in delivered)})


def acceptance_change(context: IngestContext) -> str:
    """Return the changes of settings by which other events would be accepted than those in raw; or empty.

    Args:
        context: The table's ingest.
    """
    table, history = context.table, context.history
    is_feed = [entry.kind == "feed" for entry in history.accepted]
    if not any(is_feed) and (not is_feed or table.config.feed is None):
        return ""
    if table.config.feed is None:
        return "its `feed` was removed, and its rows come from events"
    if not all(is_feed):
        return "it was given a `feed`, and its rows come from snapshots"
    written = change_sets.written_schema(table, history.accepted[-1])
    own = {field.name for field in feed_events.BATCH_FIELDS}
    columns = T.StructType([field for field in written if field.name not in own])
    if changed := mismatch.schema_mismatches(columns, received_schema(table.config)):
        return f"the schema of its events changed: {'; '.join(changed)}"
    version = delta.current_version(table.spark, table.bronze)
    recorded = json.loads(((version.recorded_progress() if version else None) or {}).get("rule") or "{}")
    now = feed_rules.acceptance_rule(table.config)
    changed = [f"{name} was {recorded[name]}" for name in now if name in recorded and recorded[name] != now[name]]
    return f"the rules of its feed changed: {'; '.join(changed)}" if changed else ""


def _read_events(context: IngestContext, snapshot: LandedSnapshot, optional_columns: frozenset[str]) -> ParsedSnapshot:
    """Return the events of a batch; a batch without a file, or with empty ones only, has none.

    It delivers no column that a batch may lack: the full load of a feed may come after it.
    """
    files = tuple(file for file in snapshot.files if file.size)
    if files:
        return snapshot_reader.read(context.read_settings(optional_columns), replace(snapshot, files=files))
    fields = T.StructType([*received_schema(context.config), *_INTERNAL_FIELDS])
    return ParsedSnapshot(local_frame(context.table.spark, fields), None, (), optional_columns)


def _prepare(rows: DataFrame, table: Table) -> DataFrame:
    """Return events with their kind, their hashes, and the problem that their sequence may be."""
    assert table.feed
    schema = received_schema(table)
    events = feed_events.with_kind(rows, table)
    # A truncate is about all keys, whatever the columns of the key contain.
    others = F.filter(PROBLEMS, lambda p: ~F.coalesce(p["column"], F.lit("")).isin(list(table.keys)))
    problems = F.when(F.col(KIND) == TRUNCATE, others).otherwise(F.col(PROBLEMS))
    missing = F.lit(None).cast("string")
    for name in reversed(table.feed.sequence_by):
        missing = F.when(F.col(quote_identifier(name)).isNull(), F.lit(name)).otherwise(missing)
    problem = F.struct(
        missing.alias("column"), F.lit(None).cast("string").alias("value"), F.lit(NULL_SEQUENCE).alias("reason")
    )
    has_other = F.size(problems) > 0
    return events.select(
        *[F.col(quote_identifier(name)) for name in rows.columns if name != PROBLEMS],
        F.when(~has_other & missing.isNotNull(), F.array(problem)).otherwise(problems).alias(PROBLEMS),
        KIND,
        *hash_columns(schema.names, schema, _HASHES),
    )


def _count_rows(events: DataFrame, snapshot: LandedSnapshot) -> int:
    """Return the number of events; this reads them, and computes the conditions for each."""
    try:
        with feed_events.conditions_computed(str(snapshot.folder)):
            return events.count()
    except SPARK_ERRORS as error:
        raise snapshot_reader.to_data_refused(error, str(snapshot.folder)) from error


# --- events of one key and sequence -----------------------------------------------------------------------------------


def _conflicts(context: IngestContext, events: DataFrame) -> DataFrame:
    """Return the keys and sequences of which a batch has an event that contradicts another, in it or accepted before.

    Returns:
        The columns of key and sequence, and the hashes of the accepted event, which are null if there is none.
    """
    table, schema = context.config, received_schema(context.config)
    identity = [*map(quote_identifier, feed_rules.event_identity(table))]
    order = [F.col(quote_identifier(table.updated_at)).alias("_feed_at")] if table.updated_at else []
    good = events.where((F.size(PROBLEMS) == 0) & (F.col(KIND) != TRUNCATE))
    compared = good.select(*identity, *order, *_HASHES, F.lit(True).alias(_IN_BATCH))
    if context.history.accepted:
        accepted = feed_events.read(context.table, context.history.accepted).where(F.col(KIND) != TRUNCATE)
        accepted = accepted.join(feed.keys_of(good, table), on=list(table.keys), how="left_semi")
        hashes = hash_columns(schema.names, schema, _HASHES)
        compared = compared.unionByName(accepted.select(*identity, *order, *hashes, F.lit(False).alias(_IN_BATCH)))
    if table.duplicates == "latest":
        newest_first = Window.partitionBy(*identity).orderBy(F.desc("_feed_at"))
        compared = compared.withColumn("_feed_rank", F.rank().over(newest_first)).where("_feed_rank = 1")
    of_accepted = [
        F.max(F.when(~F.col(_IN_BATCH), F.col(c))).alias(a) for c, a in zip(_HASHES, _ACCEPTED_HASHES, strict=True)
    ]
    differs = reduce(Column.__or__, [F.min(c) != F.max(c) for c in _HASHES])
    groups = compared.groupBy(*identity).agg(
        differs.alias("_feed_differs"), F.max(_IN_BATCH).alias(_IN_BATCH), *of_accepted
    )
    return groups.where(F.col("_feed_differs") & F.col(_IN_BATCH)).select(*identity, *_ACCEPTED_HASHES)


def _with_rejected(events: DataFrame, conflicts: DataFrame, table: Table) -> DataFrame:
    """Mark the events that contradict another; one that equals the accepted event is not among them."""
    identity = feed_rules.event_identity(table)
    marked = conflicts.withColumn("_feed_conflict", F.lit(True))
    joined = events.join(marked, on=identity, how="left")
    is_accepted = F.lit(True)
    for of_event, of_accepted in zip(_HASHES, _ACCEPTED_HASHES, strict=True):
        is_accepted = is_accepted & F.col(of_event).eqNullSafe(F.col(of_accepted))
    is_rejected = F.coalesce(F.col("_feed_conflict"), F.lit(False)) & ~is_accepted
    is_good = (F.size(PROBLEMS) == 0) & (F.col(KIND) != TRUNCATE)
    return joined.select(*map(quote_identifier, events.columns), (is_rejected & is_good).alias(IS_REJECTED))


# --- counts -----------------------------------------------------------------------------------------------------------


def _truncate_identity() -> list[Column]:
    """Return the columns by which truncates differ; they are null, and so not counted, for other events."""
    is_truncate = (F.size(PROBLEMS) == 0) & (F.col(KIND) == TRUNCATE)
    return [F.when(is_truncate, F.col(name)) for name in _HASHES]


def _count(
    context: IngestContext, events: DataFrame, kept: DataFrame, compared: DataFrame, row_count: int
) -> tuple[Counts, int]:
    """Return the counts of a batch, and how many keys its truncates delete.

    Of the events of a changed key, one decided, and the others lost to it. In a history (scd 2) each may have its
    window, and only those that had been accepted before change nothing.
    """
    table, keys = context.config, [*map(quote_identifier, context.config.keys)]
    identity = feed_rules.event_identity(table)
    of_events = events.agg(
        F.count_if((F.size(PROBLEMS) > 0) | F.col(IS_REJECTED)).alias("quarantined"),
        F.count_if(IS_REJECTED).alias("rejected"),
        F.count_distinct(*_truncate_identity()).alias("truncates"),
    )
    distinct = kept.select(*map(quote_identifier, identity), *_HASHES, KIND).distinct()
    of_keys = distinct.where(F.col(KIND) != TRUNCATE)
    is_repeated = F.lit(False)
    if table.scd == 2 and context.history.accepted:
        accepted = feed_events.read(context.table, context.history.accepted).where(F.col(KIND) != TRUNCATE)
        known = accepted.select(*map(quote_identifier, identity)).distinct()
        of_keys = of_keys.join(known.withColumn("_feed_known", F.lit(True)), on=identity, how="left")
        is_repeated = F.coalesce(F.col("_feed_known"), F.lit(False))
    of_key = of_keys.groupBy(*keys).agg(
        F.count(F.lit(1)).alias("_feed_events"),
        F.count_if(is_repeated).alias("_feed_repeated"),
        F.max(F.when(F.col(KIND) == feed_events.DELETE, feed.sequence(table))).alias("_feed_last_delete"),
        F.max(F.when(F.col(KIND) == feed_events.UPSERT, feed.sequence(table))).alias("_feed_last_upsert"),
    )
    changes = feed_difference.key_changes(compared, table)
    action, event_count = F.col(ACTION), F.coalesce(F.col("_feed_events"), F.lit(0))
    if table.scd == 2:
        unchanged = F.when(action.isNull(), event_count).otherwise(F.coalesce("_feed_repeated", F.lit(0)))
    else:
        unchanged = event_count - F.when(action.isNotNull() & (event_count > 0), 1).otherwise(0)
    # A delete that is older than the row, or than an upsert beside it, deletes nothing: then the truncate does.
    is_last = F.coalesce(F.col("_feed_last_delete") > F.col("_feed_last_upsert"), F.lit(True))
    by_delete = F.coalesce(is_last & (F.col("_feed_last_delete") > F.col(FEED_SEQUENCE)), F.lit(False))
    totals = (
        changes.join(of_key, on=list(table.keys), how="full")
        .agg(
            F.count_if(action == INSERT).alias("inserted"),
            F.count_if(action == UPDATE).alias("updated"),
            F.count_if(action == DELETE).alias("deleted"),
            F.coalesce(F.sum(unchanged), F.lit(0)).alias("unchanged"),
            F.coalesce(F.sum(event_count), F.lit(0)).alias("events"),
            F.count_if((action == DELETE) & ~by_delete).alias("by_truncate"),
        )
        .crossJoin(of_events)
        .collect()[0]
    )
    effective = min(totals.truncates, 1 if totals.by_truncate else 0)
    counts = Counts(
        rows_read=row_count,
        inserted=totals.inserted,
        updated=totals.updated,
        deleted=totals.deleted,
        unchanged=totals.unchanged + totals.truncates - effective,
        quarantined=totals.quarantined,
        duplicates=row_count - totals.quarantined - totals.events - totals.truncates,
        conflicts=totals.rejected if table.duplicates != "quarantine" else 0,
        unreadable_keys=0,
    )
    return counts, totals.by_truncate
