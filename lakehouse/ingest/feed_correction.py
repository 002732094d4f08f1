"""Compares a snapshot beside a change feed with bronze (`feed: {corrected_by: ...}`).

The snapshot holds the whole table as it stood at a sequence. Of each key whose newest event is not above that sequence,
it says what the row has to be. A row in which the feed was wrong becomes a correction, which raw keeps beside the
batch's events; a mark keeps the sequence, since events up to it that come later count no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.bronze.feed_sequence import sequence
from lakehouse.config import Table, sequence_names
from lakehouse.config.ddl import quote_identifier
from lakehouse.error_mapping import first_line
from lakehouse.errors import DataRefused
from lakehouse.ingest.context import IngestContext
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.readers.parsed_file import ParsedSnapshot
from lakehouse.ingest.readers.snapshot_reader import KEY_STATE, PROBLEMS, RECEIVED
from lakehouse.lake import feed_events, forgotten_keys
from lakehouse.lake.feed_events import CORRECTED, CORRECTION, DELETE, KIND, MARK, REMOVED, UPSERT
from lakehouse.schema.table_schema import received_schema, stored_schema
from lakehouse.spark.faults import read_fault
from lakehouse.spark.persist import persist_rows
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name
from lakehouse.text import counted

_AT, _LAST, _WANTED, _FOUND, _DIFFERING = "_feed_at", "_feed_last", "_feed_wanted", "_feed_found", "_feed_differing"
_MAX_EXAMPLES = 3


@dataclass(frozen=True)
class Correction:
    """What a snapshot beside a feed changes.

    Attributes:
        rows: The corrections and the mark: the columns in raw, with `CORRECTION`.
        rejected: The rows of the snapshot that cannot be read.
        parsed: The snapshot.
        differing: By column, in how many keys the feed was wrong.
        wrong: Keys with another row; so `lacking`, which the feed did not have, and `extra`, which only the feed had.
        unreadable: Rows whose key cannot be read; any of them may be one of `extra`.
    """

    rows: DataFrame
    rejected: DataFrame
    parsed: ParsedSnapshot
    differing: dict[str, int] = field(default_factory=dict)
    wrong: int = 0
    lacking: int = 0
    extra: int = 0
    unreadable: int = 0
    rejected_count: int = 0

    @property
    def keys(self) -> int:
        """In how many keys the feed was wrong."""
        return self.wrong + self.lacking + self.extra

    def describe(self) -> str:
        """Return in how many keys and in which columns the feed was wrong; empty if it was right."""
        columns = ", ".join(f"{name} {count}" for name, count in self.differing.items() if count)
        parts = [
            f"{self.wrong} with other values ({columns})" if self.wrong else "",
            f"{self.lacking} that it did not have" if self.lacking else "",
            f"{self.extra} that the snapshot does not have" if self.extra else "",
        ]
        found = f"the feed was wrong in {counted(self.keys, 'key')} by the snapshot beside it"
        return f"{found}: {', '.join(filter(None, parts))}" if self.keys else ""


def split_files(table: Table, snapshot: LandedSnapshot) -> tuple[LandedSnapshot, LandedSnapshot | None]:
    """Return a batch with the files of its events, and with those of the snapshot beside them; None without one.

    Args:
        table: The table's configuration.
        snapshot: The landed batch.
    """
    pattern = table.correction_pattern
    if pattern is None:
        return snapshot, None
    full = tuple(file for file in snapshot.files if pattern.find_values(file.name) is not None)
    events = tuple(file for file in snapshot.files if file not in full)
    return replace(snapshot, files=events), replace(snapshot, files=full) if full else None


@contextmanager
def compare_correction(
    context: IngestContext,
    snapshot: LandedSnapshot,
    optional_columns: frozenset[str],
    events: DataFrame,
    current: DataFrame,
) -> Iterator[Correction]:
    """Compare a snapshot beside a feed with the rows that bronze is to have by the events.

    Args:
        context: The table's ingest.
        snapshot: The snapshot, with its files.
        optional_columns: Declared columns that events may lack.
        events: All accepted events with their kind, those of the batch included.
        current: The rows of bronze after the events of the batch.

    Raises:
        DataRefused: The snapshot cannot be read, has two rows of one key, or no sequence.
    """
    config, where = context.config, str(snapshot.folder)
    parsed = _read(context, snapshot, optional_columns)
    with persist_rows(parsed.rows) as rows:
        good, rejected = rows.where(F.size(PROBLEMS) == 0), rows.where(F.size(PROBLEMS) > 0)
        with _sequence_computed(where):
            at = _sequence_of(good, config)
        with persist_rows(at) as at_row:
            with _sequence_computed(where):
                is_superseded = _check_sequence(at_row, events, config, where)
            wanted = good.select(*_quoted(stored_schema(config).names)).distinct()
            _require_unique_keys(good, wanted, context, snapshot)
            excluded = _newer_keys(events, at_row, config).unionByName(_protected_keys(rejected, config))
            compared = _compare(current, wanted, excluded.distinct(), config)
            with persist_rows(compared.limit(0) if is_superseded else compared) as corrections:
                raw = _to_raw(corrections, at_row, config)
                yield _describe(Correction(raw, rejected, parsed), corrections, config)


def _read(context: IngestContext, snapshot: LandedSnapshot, optional_columns: frozenset[str]) -> ParsedSnapshot:
    """Read a snapshot, which may lack the columns that only events have, without the rows of forgotten keys."""
    feed = context.config.feed
    assert feed is not None
    try:
        parsed = snapshot_reader.read(context.read_settings(optional_columns.union(feed.drop)), snapshot)
    except SPARK_ERRORS as error:
        raise snapshot_reader.to_data_refused(error, str(snapshot.folder)) from error
    return replace(parsed, rows=forgotten_keys.drop_forgotten(parsed.rows, context.config, context.forgotten))


def _sequence_of(rows: DataFrame, table: Table) -> DataFrame:
    """Return the sequence of a snapshot, as one row."""
    assert table.feed and table.feed.corrected_by
    text = table.feed.corrected_by.sequence
    return rows.agg(F.expr(f"(\n{text}\n)").cast(table.sequence_type).alias(_AT))


@contextmanager
def _sequence_computed(where: str) -> Iterator[None]:
    """Refuse the snapshot if its sequence cannot be computed in the block, which reads the file."""
    try:
        yield
    except SPARK_ERRORS as error:
        fault = read_fault(error)
        if fault.kind in ("data", "sql"):
            problem, kept = (f"cannot be computed: {text}" for text in (first_line(error), fault.condition))
            raise _no_sequence(problem, where, kept) from error
        raise snapshot_reader.to_data_refused(error, where) from error


def _check_sequence(at: DataFrame, events: DataFrame, table: Table, where: str) -> bool:
    """Return whether another snapshot, or a truncate, has a higher sequence: then a snapshot says nothing.

    Raises:
        DataRefused: The sequence is null.
    """
    last = events.where(F.col(KIND).isin(*feed_events.ABOUT_ALL_KEYS)).agg(F.max(sequence(table)).alias(_LAST))
    is_below = F.coalesce(F.col(_AT) < F.col(_LAST), F.lit(False))
    row = at.crossJoin(last).select(F.col(_AT).isNull(), is_below).first()
    assert row is not None
    if row[0]:
        raise _no_sequence("is null", where)
    return bool(row[1])


def _no_sequence(problem: str, where: str, kept: str | None = None) -> DataRefused:
    found = "the sequence of the snapshot beside the feed"
    return DataRefused(
        f"{found} {problem}",
        kept=f"{found} {kept or problem}",
        expected="`corrected_by: {sequence: ...}`, an aggregate of its columns such as MAX(seq), or a constant",
        where=where,
        next_step="correct `sequence`; the next run takes the batch again",
    )


def _require_unique_keys(
    rows: DataFrame, distinct: DataFrame, context: IngestContext, snapshot: LandedSnapshot
) -> None:
    table, stamp, spark = context.config, snapshot_name(snapshot.time), context.table.spark
    double = distinct.groupBy(*_quoted(table.keys)).count().where("count > 1").drop("count").limit(_MAX_EXAMPLES)
    if not double.isEmpty():
        of_keys = rows.join(F.broadcast(double), on=table.keys, how="left_semi")
        lines = snapshot_reader.example_lines(spark, of_keys.withColumnRenamed(RECEIVED, "row"), table, snapshot)
        raise DataRefused(
            f"the snapshot beside the feed has rows of one key with different content{lines}",
            expected=f"one row for each {', '.join(table.keys)}",
            where=str(snapshot.folder),
            next_step="correct the file in its folder of the source; then"
            f" lakehouse approve {context.pipeline.argument} {context.table.name} {stamp}",
        )


def _newer_keys(events: DataFrame, at: DataFrame, table: Table) -> DataFrame:
    """Return the keys that have an event above the sequence of a snapshot."""
    of_keys = events.where(F.col(KIND).isin(UPSERT, DELETE)).crossJoin(F.broadcast(at))
    return of_keys.where(sequence(table) > F.col(_AT)).select(*_quoted(table.keys))


def _protected_keys(rejected: DataFrame, table: Table) -> DataFrame:
    return rejected.where(F.col(KEY_STATE) == "read").select(*_quoted(table.keys))


def _compare(current: DataFrame, wanted: DataFrame, excluded: DataFrame, table: Table) -> DataFrame:
    """Return the keys in which bronze differs from a snapshot, with both rows and the differing columns."""
    names, keys = stored_schema(table).names, _quoted(table.keys)
    found = current.select(*keys, F.struct(*_quoted(names)).alias(_FOUND))
    after = wanted.select(*keys, F.struct(*_quoted(names)).alias(_WANTED))
    both = found.join(after, on=list(table.keys), how="full").join(excluded, on=list(table.keys), how="left_anti")
    others = [name for name in names if name not in table.keys]
    differing = [F.when(~_of(_FOUND, name).eqNullSafe(_of(_WANTED, name)), F.lit(name)) for name in others]
    is_both = F.col(_FOUND).isNotNull() & F.col(_WANTED).isNotNull()
    columns = F.array_compact(F.array(*differing).cast("array<string>"))
    compared = both.withColumn(_DIFFERING, F.when(is_both, columns))
    return compared.where(~is_both | (F.size(_DIFFERING) > 0))


def _to_raw(corrections: DataFrame, at: DataFrame, table: Table) -> DataFrame:
    """Return corrections, and the mark of the snapshot, as raw keeps them."""
    assert table.feed
    names, stored = sequence_names(table.feed), {*stored_schema(table).names}
    parts = [F.col(_AT)] if len(names) == 1 else [F.col(_AT)[name] for name in names]
    position = dict(zip(table.feed.sequence_by, parts, strict=True))
    fields = received_schema(table)

    def values(of_row: bool) -> list[Column]:
        columns = []
        for f in fields:
            value = F.lit(None)
            if f.name in position:
                value = position[f.name]
            elif of_row and f.name in stored:
                value = F.coalesce(_of(_WANTED, f.name), F.when(F.col(_WANTED).isNull(), _of(_FOUND, f.name)))
            columns.append(value.cast(f.dataType).alias(f.name))
        return columns

    kind = F.when(F.col(_WANTED).isNotNull(), CORRECTED).otherwise(REMOVED).alias(CORRECTION)
    rows = corrections.crossJoin(F.broadcast(at)).select(*values(of_row=True), kind)
    return rows.unionByName(at.select(*values(of_row=False), F.lit(MARK).alias(CORRECTION)))


def _describe(correction: Correction, corrections: DataFrame, table: Table) -> Correction:
    others = [name for name in stored_schema(table).names if name not in table.keys]
    is_lacking, is_extra = F.col(_FOUND).isNull(), F.col(_WANTED).isNull()
    row = corrections.agg(
        F.count_if(~is_lacking & ~is_extra),
        F.count_if(is_lacking),
        F.count_if(is_extra),
        *[F.count_if(F.array_contains(_DIFFERING, name)) for name in others],
    ).first()
    of_rejected = correction.rejected.agg(F.count_if(F.col(KEY_STATE) != "read"), F.count(F.lit(1))).first()
    assert row is not None and of_rejected is not None
    wrong, lacking, extra, *by_column = row
    return replace(
        correction,
        differing=dict(zip(others, by_column, strict=True)),
        wrong=wrong,
        lacking=lacking,
        extra=extra,
        unreadable=of_rejected[0],
        rejected_count=of_rejected[1],
    )


def _of(side: str, name: str) -> Column:
    return F.col(quote_identifier(side, name))


def _quoted(names: list[str]) -> list[str]:
    return [*map(quote_identifier, names)]
