"""Reads a batch of a change feed and compares it with bronze. In order:

1. read the events by the declared schema, as the rows of a snapshot are                readers/
2. find their kind (truncate, delete or upsert), and those whose sequence is null       lake/feed_events.py
3. apply `duplicates` to events of one key and sequence, those accepted before included
4. compute the affected keys from all of their events, and compare them with bronze     bronze/feed.py
   or, if that is enough, from bronze and the batches that overlap this one             bronze/feed_order.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.bronze import ComputedBatch, apply_feed, feed_rules
from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.ingest.context import IngestContext, StateRows
from lakehouse.ingest.feed_arrival import Arrival, begin_arrival
from lakehouse.ingest.feed_comparison import IS_REJECTED, NULL_SEQUENCE, FeedComparison
from lakehouse.ingest.feed_conflicts import EVENT_HASHES, find_conflicts, mark_rejected
from lakehouse.ingest.feed_correction import Correction, compare_correction, split_files
from lakehouse.ingest.feed_counts import count_batch
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.readers.parsed_file import ParsedSnapshot
from lakehouse.ingest.readers.snapshot_reader import KEY_STATE, PROBLEMS, RECEIVED
from lakehouse.lake import change_sets, delta, feed_events, forgotten_keys, small_tables
from lakehouse.lake.cached_rows import collect_few
from lakehouse.lake.feed_events import KIND, TRUNCATE
from lakehouse.lake.hashes import hash_columns
from lakehouse.lake.table_ref import TableRef
from lakehouse.schema import mismatch
from lakehouse.schema.table_schema import received_schema
from lakehouse.spark.collect import with_nullable_fields
from lakehouse.spark.persist import persist_rows
from lakehouse.spark.session import SPARK_ERRORS, local_frame
from lakehouse.storage.landing import LandedSnapshot

_PROBLEM_TYPE = T.StructType([T.StructField(name, T.StringType()) for name in ("column", "value", "reason")])
_MIN_BYTES_PER_EVENT = 32  # about, in a file as received
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
    config, arrival = context.config, begin_arrival(context, snapshot)
    of_events, full = split_files(config, snapshot)
    at_most = of_events.size // _MIN_BYTES_PER_EVENT
    feed_events.prepare_for(context.table, arrival.others, at_most)
    with ExitStack() as stack:
        parsed = _without_forgotten(context, snapshot, _read_events(context, of_events, optional_columns))
        is_small = at_most <= context.table.tuning.local_rows
        read, row_count = _keep_rows(context.table, parsed.rows, snapshot, is_small, stack)
        arrival = arrival.with_overlapping(read.where(F.size(PROBLEMS) == 0))
        conflicts = stack.enter_context(persist_rows(find_conflicts(arrival, read)))
        has_conflicts = conflicts.count() > 0
        events = mark_rejected(read, conflicts if has_conflicts else None, config)
        if has_conflicts:
            stack.enter_context(persist_rows(events))
        kept = events.where((F.size(PROBLEMS) == 0) & ~F.col(IS_REJECTED))
        names = [*received_schema(config).names, *(field.name for field in config.field_columns)]
        batch = arrival.stamp(kept.select(*map(quote_identifier, names), KIND))
        correction = None
        if full:
            correction = stack.enter_context(_compare_correction(arrival, full, optional_columns, batch))
            batch = batch.unionByName(arrival.stamp(feed_events.with_kind(correction.rows, config)))
        compared, computed = _keep_compared(arrival, batch, full is not None, is_small, stack)
        counts, by_truncate = count_batch(arrival, events, kept, compared, row_count, correction)
        yield FeedComparison(
            context,
            snapshot,
            before,
            counts,
            parsed.record_count if correction is None else None,
            _unknown_columns(parsed, correction),
            parsed.missing_columns & (correction.parsed.missing_columns if correction else parsed.missing_columns),
            slices=None,
            events=_with_rejected_rows(events, correction) if correction else events,
            batch=batch,
            compared=compared,
            deleted_by_truncate=by_truncate,
            correction=correction,
            computed=computed,
        )


def _compare_correction(
    arrival: Arrival, full: LandedSnapshot, optional_columns: frozenset[str], batch: DataFrame
) -> AbstractContextManager[Correction]:
    """Compare the snapshot beside the events of a batch with the rows that bronze is to have by them."""
    context = arrival.context
    after = apply_feed.rows_after(arrival.stored, arrival.compare(batch), context.config)
    events = feed_events.read(context.table, arrival.others).unionByName(batch)
    return compare_correction(context, full, optional_columns, events, after)


def _keep_rows(
    table: TableRef, rows: DataFrame, snapshot: LandedSnapshot, is_small: bool, stack: ExitStack
) -> tuple[DataFrame, int]:
    """Compute the events of a batch once, which computes its conditions for each; return them and their number.

    Few are kept by the driver: a query over its rows has nothing to read and nothing to shuffle.
    """
    if is_small:
        rows = with_nullable_fields(rows)
        with _events_read(snapshot):
            local = collect_few(rows, table.tuning.local_rows)
        if local is not None:  # a packed file may have more than its size suggests
            return small_tables.to_frame(table.spark, local, rows.schema), local.num_rows
    kept = stack.enter_context(persist_rows(rows))
    return kept, _count_rows(kept, snapshot)


def _keep_compared(
    arrival: Arrival, batch: DataFrame, is_corrected: bool, is_small: bool, stack: ExitStack
) -> tuple[DataFrame, ComputedBatch | None]:
    """Compute the changes of a batch in bronze once; return them, and for `bronze` those that the driver has."""
    table, compared = arrival.context.table, arrival.compare(batch, is_corrected)
    if is_small and not is_corrected and not arrival.is_replacement:  # these compare all keys
        compared = with_nullable_fields(compared)
        if (local := collect_few(compared, table.tuning.local_rows)) is not None:
            compared = small_tables.to_frame(table.spark, local, compared.schema)
            return compared, arrival.computed_batch(compared)
    return stack.enter_context(persist_rows(compared)), None


def _unknown_columns(parsed: ParsedSnapshot, correction: Correction | None) -> tuple[str, ...]:
    return tuple(sorted({*parsed.unknown_columns, *(correction.parsed.unknown_columns if correction else ())}))


def _with_rejected_rows(events: DataFrame, correction: Correction) -> DataFrame:
    """Return the events of a batch, with the rows of its snapshot that cannot be read."""
    rejected = correction.rejected.withColumn(KIND, F.lit(feed_events.UPSERT)).withColumn(IS_REJECTED, F.lit(False))
    return events.unionByName(rejected, allowMissingColumns=True)


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
    sources = {column for field in context.config.field_columns for column in field.paths[0][:1]}
    of_event = {*own.drop} - {*own.sequence_by, *context.config.keys, *sources}
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
    own = {field.name for field in feed_events.OWN_FIELDS}
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


def _without_forgotten(context: IngestContext, snapshot: LandedSnapshot, parsed: ParsedSnapshot) -> ParsedSnapshot:
    """Return the events that `_prepare` makes, as if the batch had never had those of forgotten keys.

    A truncate is about all keys, also if it has a forgotten one.
    """
    events, count = _prepare(parsed.rows, context.config), parsed.record_count
    if context.forgotten:
        is_forgotten = forgotten_keys.is_forgotten(context.config, context.forgotten) & (F.col(KIND) != TRUNCATE)
        count = None if count is None else count - _count_rows(events.where(is_forgotten), snapshot)
        events = events.where(~is_forgotten)
    return replace(parsed, rows=events, record_count=count)


def _prepare(rows: DataFrame, table: Table) -> DataFrame:
    """Return events with their kind, their hashes, and the problem that their key or their sequence may be."""
    assert table.feed
    schema = received_schema(table)
    events = feed_events.with_kind(rows, table)
    # A truncate is about all keys, whatever the columns of the key contain.
    others = F.filter(PROBLEMS, lambda p: ~F.coalesce(p["column"], F.lit("")).isin(list(table.keys)))
    problems = F.when(F.col(KIND) == TRUNCATE, others).otherwise(F.col(PROBLEMS))
    paths = dict(zip(table.keys, table.key_paths, strict=True))
    fields = [field.name for field in table.field_columns]
    no_key = _first_null({name: paths[name] for name in fields if name in paths})
    no_key = F.when(F.col(KIND) != TRUNCATE, no_key)
    no_sequence = _first_null({name: name for name in table.feed.sequence_by})
    is_good = F.size(problems) == 0
    found = F.when(no_key.isNotNull(), F.array(_problem(no_key, snapshot_reader.NULL_KEY)))
    found = found.when(no_sequence.isNotNull(), F.array(_problem(no_sequence, NULL_SEQUENCE)))
    received = [name for name in rows.columns if name not in (PROBLEMS, KEY_STATE)]
    return events.select(
        *map(quote_identifier, [*received, *fields]),
        F.when(is_good, F.coalesce(found, problems)).otherwise(problems).alias(PROBLEMS),
        F.when(is_good & no_key.isNotNull(), "null").otherwise(F.col(KEY_STATE)).alias(KEY_STATE),
        KIND,
        *hash_columns(schema.names, schema, EVENT_HASHES),
    )


def _first_null(names: Mapping[str, str]) -> Column:
    """Return what the first of some columns that is null is called; null if none is."""
    first = F.lit(None).cast("string")
    for name, called in reversed([*names.items()]):
        first = F.when(F.col(quote_identifier(name)).isNull(), F.lit(called)).otherwise(first)
    return first


def _problem(column: Column, reason: str) -> Column:
    value = F.lit(None).cast("string")
    return F.struct(column.alias("column"), value.alias("value"), F.lit(reason).alias("reason"))


def _count_rows(events: DataFrame, snapshot: LandedSnapshot) -> int:
    """Return the number of events; this reads them, and computes the conditions for each."""
    with _events_read(snapshot):
        return events.count()


@contextmanager
def _events_read(snapshot: LandedSnapshot) -> Iterator[None]:
    """Refuse the batch if its files cannot be read in the block, or a condition cannot be computed for an event."""
    try:
        with feed_events.conditions_computed(str(snapshot.folder)):
            yield
    except SPARK_ERRORS as error:
        raise snapshot_reader.to_data_refused(error, str(snapshot.folder)) from error
