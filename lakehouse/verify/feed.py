"""Checks I1 and the counts of a table with a change feed: bronze against all accepted events, key by key.

The rows come from `feed_fold.py`; none of the functions with which bronze computes them is used here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from lakehouse.config import FEED_SEQUENCE, Table, sequence_names
from lakehouse.lake import delta, feed_events
from lakehouse.lake.cdc import END_AT, START_AT
from lakehouse.lake.feed_events import BATCH, KIND, MARK, NEWEST, TIME, TRUNCATE
from lakehouse.storage.file_io import escape_glob
from lakehouse.text import counted
from lakehouse.verify.check import Check, Claim, format_ranges, is_gone, quoted_column
from lakehouse.verify.checked_table import CheckedTable
from lakehouse.verify.feed_fold import Event, FeedRules, FoldedRow, Sequence, counting_truncates, fold_key

_KEY, _EVENT, _ROW = "_feed_key", "_feed_event", "_feed_row"
_MAX_EXAMPLES, _MAX_FAULTS = 3, 5
_MICROSECOND = timedelta(microseconds=1)


def feed_checks(table: CheckedTable) -> Iterator[Check]:
    """Check that bronze is the fold of all accepted events."""
    claim = Claim("I1", "bronze = the fold of all accepted events", table.name)
    if lag_reason := table.lag_reason:
        yield claim.not_checkable(lag_reason)
        return
    try:
        yield _check_fold(claim, table)
    except Exception as error:
        if not is_gone(error):
            raise
        yield claim.not_checkable("events no longer exist")


def feed_count_checks(table: CheckedTable) -> Iterator[Check]:
    """Check that each batch has the events that the ledger reports: those read, without those in quarantine.

    Those that were erased since are taken off.
    """
    claim = Claim("I5", "events = the ledger", table.name)
    try:
        grouped = _read_events(table).groupBy(BATCH).count().collect()
    except Exception as error:
        if not is_gone(error):
            raise
        yield claim.not_checkable("events no longer exist")
        return
    actual = {row[BATCH]: row["count"] for row in grouped}
    erased = {e.sequence or 0: table.erased_counts[e.path].total() if e.path else 0 for e in table.accepted}
    expected = {e.sequence or 0: feed_events.event_count(e) - erased[e.sequence or 0] for e in table.accepted}
    faults = [
        f"sequence {sequence}: {actual.get(sequence, 0):,} events, but {expected.get(sequence, 0):,} in the ledger"
        for sequence in sorted(actual.keys() | expected.keys())
        if actual.get(sequence, 0) != expected.get(sequence, 0)
    ]
    if faults:
        yield claim.fails("; ".join(faults[:_MAX_FAULTS]))
    else:
        sequences = format_ranges(list(expected))
        total = sum(erased.values())
        less = f", after {counted(total, 'event was', 'events were')} forgotten" if total else ""
        yield claim.holds(f"{counted(sum(actual.values()), 'event')} in sequences {sequences}{less}")


def _read_events(table: CheckedTable) -> DataFrame:
    paths = [escape_glob(table.lake.spark_path(entry.path)) for entry in table.accepted if entry.path]
    events = table.spark.read.schema(feed_events.event_schema(table.config)).parquet(*paths)
    return feed_events.with_kind(events, table.config)


def _check_fold(claim: Claim, table: CheckedTable) -> Check:
    config, feed = table.config, table.config.feed
    assert feed is not None
    values, keys = [c for c in table.schema.names if c not in config.keys], list(config.keys)
    events = _read_events(table)
    marks = _of_all_keys(events, MARK, feed.sequence_by) if feed_events.has_marks(table.accepted) else []
    truncates = _of_all_keys(events, TRUNCATE, feed.sequence_by) if feed.truncate_when is not None else []
    counting = counting_truncates(truncates, marks)
    order = [quoted_column(config.updated_at)] if config.duplicates == "latest" and config.updated_at else []
    of_event = F.struct(
        F.struct(*map(quoted_column, feed.sequence_by)).alias("sequence"),
        F.col(KIND).alias("kind"),
        (F.struct(*map(quoted_column, values)) if values else F.lit(None).cast("string")).alias("values"),
        F.col(BATCH).alias("batch"),
        F.unix_micros(TIME).alias("time"),
        F.unix_micros(NEWEST).alias("newest"),
        *[column.alias("order") for column in order],
    )
    bronze = delta.read(table.spark, table.bronze)
    window = [START_AT, END_AT] if config.scd == 2 else []
    stored = {name.lower() for name in bronze.columns}  # without a column that was declared since
    of_row = F.struct(
        *[
            quoted_column(name) if name.lower() in stored else F.lit(None).alias(name)
            for name in [*values, FEED_SEQUENCE, *window]
        ]
    )
    key = F.struct(*map(quoted_column, keys)).alias(_KEY)
    both = (
        events.where(~F.col(KIND).isin(*feed_events.ABOUT_ALL_KEYS))
        .select(key, of_event.alias(_EVENT))
        .unionByName(bronze.select(key, of_row.alias(_ROW)), allowMissingColumns=True)
        .orderBy(_KEY)
    )
    rules = _rules(config, values)
    row_count = key_count = wrong = 0
    examples: list[str] = []
    for _, group in groupby(both.toLocalIterator(), key=lambda row: _plain(row[_KEY])):
        rows = list(group)
        expected = fold_key(_events(row[_EVENT] for row in rows if row[_EVENT] is not None), counting, rules, marks)
        wanted = sorted((_of_fold(row, sequence_names(feed), config.scd) for row in expected), key=repr)
        found = sorted((_plain(row[_ROW]) for row in rows if row[_ROW] is not None), key=repr)
        key_count, row_count = key_count + 1, row_count + len(found)
        if wanted != found:
            wrong += 1
            if len(examples) < _MAX_EXAMPLES:
                examples.append(f"{_text(_plain(rows[0][_KEY]))}: {_text(wanted)}, but bronze has {_text(found)}")
    if wrong:
        return claim.fails(f"{counted(wrong, 'key')} of {key_count:,} differ; {'; '.join(examples)}")
    return claim.holds(f"{counted(row_count, 'row')} of {counted(key_count, 'key')}")


def _of_all_keys(events: DataFrame, kind: str, sequence_by: list[str]) -> list[tuple[Sequence, int]]:
    """Return the sequence and the batch of each truncate, or of each snapshot beside the feed."""
    rows = events.where(F.col(KIND) == kind).select(BATCH, *map(quoted_column, sequence_by)).distinct()
    return [(tuple(row)[1:], row[BATCH]) for row in rows.collect()]


def _rules(config: Table, values: list[str]) -> FeedRules:
    feed = config.feed
    assert feed is not None
    ignored = feed.ignore_null_updates
    kept = frozenset(values if ignored is True else ignored or ())
    tombstones = None if feed.tombstones is None else feed.tombstones // _MICROSECOND
    if config.scd == 1:
        return FeedRules(None, kept, tombstones)
    excluded = {*(config.history_except or ()), *config.ignore}
    tracked = config.history_for if config.history_for is not None else [n for n in values if n not in excluded]
    return FeedRules(tuple(name for name in tracked if name in values), kept)


def _events(rows: Iterable[Row]) -> list[Event]:
    return [
        Event(
            tuple(row["sequence"]),
            row["kind"],
            row["values"].asDict() if row["values"] is not None else {},
            row["batch"],
            row["time"],
            row["newest"],
            row.asDict().get("order"),
        )
        for row in rows
    ]


def _of_fold(row: FoldedRow, names: list[str], scd: int) -> dict[str, Any]:
    """Return a row as bronze has it."""

    def sequence(values: Sequence | None) -> Any:
        if values is None or len(values) == 1:
            return values[0] if values else None
        return dict(zip(names, values, strict=True))

    found = {**row.values, FEED_SEQUENCE: sequence(row.sequence)}
    if scd == 2:
        found |= {START_AT: sequence(row.start), END_AT: sequence(row.end)}
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    """Return a value of Spark in a form that equals itself: NaN included, and zero without a sign."""
    if isinstance(value, Row):
        return {name: _plain(each) for name, each in value.asDict().items()}
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return "NaN" if value != value else value + 0.0
    return bytes(value) if isinstance(value, bytearray) else value


def _text(value: Any) -> str:
    def other(each: Any) -> str:
        return each.isoformat() if isinstance(each, datetime) else str(each)

    return json.dumps(value, ensure_ascii=False, default=other)
