"""Defines the result of comparing a snapshot with the rows before it, by Spark or by the driver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import duckdb
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.bronze import ComputedBatch
from lakehouse.ingest import diff
from lakehouse.ingest.context import IngestContext, StateRows
from lakehouse.ingest.diff import Counts
from lakehouse.ingest.local import LocalRows
from lakehouse.ingest.readers.parsed_file import ParsedSnapshot
from lakehouse.ingest.readers.snapshot_reader import RECEIVED, UNMASKED
from lakehouse.lake import change_sets, small_tables
from lakehouse.lake.cdc import DELETE, INSERT
from lakehouse.lake.hashes import hash_columns
from lakehouse.lake.marked_rows import is_marked
from lakehouse.lake.slices import Slices
from lakehouse.schema import pii
from lakehouse.schema.numbers import LEADING_ZERO, has_numbers
from lakehouse.schema.table_schema import declared_schema
from lakehouse.spark.session import local_frame
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.text import counted


@dataclass(frozen=True)
class Comparison(ABC):
    """A snapshot that can be accepted, compared with the rows before it.

    Attributes:
        context: The table's ingest.
        snapshot: The snapshot, with the files that were read.
        before: The rows before it.
        counts: The counts of the verdicts.
        record_count: The number of records by an independent reader, or None if every line is a record.
        unknown_columns: Columns of the files that the schema does not name.
        missing_columns: Declared columns that none of the files has.
        slices: The slices that the snapshot contains; None if it is the whole table.
    """

    context: IngestContext
    snapshot: LandedSnapshot
    before: StateRows
    counts: Counts
    record_count: int | None
    unknown_columns: tuple[str, ...]
    missing_columns: frozenset[str]
    slices: Slices | None

    def describe_conflicts(self) -> tuple[str, str]:
        """Return what is found about rows that contradict each other, and what is expected, for a message."""
        table, name = self.context.config, self.context.table.name
        conflicts = counted(self.counts.conflicts, f"key of {name} has", f"keys of {name} have")
        expected = f"one row for each {', '.join(table.keys)} (duplicates: {table.duplicates})"
        return f"{conflicts} several rows with different content", expected

    @abstractmethod
    def example_keys(self, limit: int = 3) -> str:
        """Return a few keys whose rows contradict each other, as text for a message."""

    @abstractmethod
    def conflicting_rows(self, limit: int) -> DataFrame:
        """Return the rows of a few keys whose rows contradict each other, as they were received.

        Args:
            limit: The number of keys.

        Returns:
            `row`, and `UNMASKED` if personal columns are masked in `row`.
        """

    @abstractmethod
    def quarantine_rows(self) -> DataFrame:
        """Return the rows that go to quarantine (`diff.quarantine_rows`)."""

    @abstractmethod
    def leading_zero_columns(self) -> tuple[str, ...]:
        """Return the number columns that have a text with a leading zero, which their type does not keep."""

    @abstractmethod
    def change_set(self, sequence: int) -> DataFrame:
        """Return the rows that the snapshot inserts, updates and deletes, with their `_cdc_*` columns.

        Args:
            sequence: The sequence that the change set gets.
        """

    @abstractmethod
    def write_change_set(self, sequence: int, path: str) -> None:
        """Write the change set, without the columns that the snapshot lacks.

        Args:
            sequence: The sequence that it gets.
            path: Where to write, relative to the lake.
        """

    def computed_batch(self) -> ComputedBatch | None:
        """Return the changes in bronze, if they are known already: those of a change feed may be."""
        return None

    def row_signatures(self, column_sets: list[list[str]], one_in: int) -> list[tuple[str, tuple[int | None, ...]]]:
        """Return the operation of each inserted and deleted row with a hash of each set of columns; none of a feed.

        Args:
            column_sets: The columns of each hash; it is None if all of their values are null.
            one_in: 1: return all rows. n: return the rows whose first hash is a multiple of n.
        """
        return []

    def collect_change_set(self, sequence: int, path: str) -> tuple[pa.Table, Callable[[], None]]:
        """Return the rows of the change set in memory, by the columns that the lake stores, with those of `_cdc_*`.

        Args:
            sequence: The sequence that it gets.
            path: Where to write it, relative to the lake.

        Returns:
            The rows, and a function that writes them, in any thread.
        """
        self.write_change_set(sequence, path)
        rows = self.change_set(sequence)
        return rows.toArrow().cast(small_tables.arrow_schema(rows.schema)), lambda: None

    def inserted_rows(self) -> pa.Table | None:
        """Return the inserted rows, by the columns that the lake stores; None if they are Spark's."""
        return None

    def count_before(self) -> int:
        """Return the number of live rows before the snapshot."""
        rows = self.before.frame
        return (rows.where(~is_marked()) if self.before.grace else rows).count()

    def rows_before(self, keys: DataFrame) -> DataFrame:
        """Return the rows before the snapshot that have one of these keys.

        Args:
            keys: Rows with the key columns; few.
        """
        return self.before.frame.join(keys, on=list(self.context.config.keys), how="left_semi")


@dataclass(frozen=True)
class SparkComparison(Comparison):
    """A comparison by Spark.

    Attributes:
        parsed: The rows of the snapshot.
        verdicts: The verdict on each key (`diff.verdicts`).
    """

    parsed: ParsedSnapshot
    verdicts: DataFrame

    def example_keys(self, limit: int = 3) -> str:
        return diff.example_keys(self.verdicts, diff.CONFLICT, self.context.config, limit)

    def conflicting_rows(self, limit: int) -> DataFrame:
        table = self.context.config
        keys = self.verdicts.where(F.col(diff.VERDICT) == diff.CONFLICT).select(*table.keys).limit(limit)
        rows = self.parsed.rows.join(keys, on=list(table.keys), how="left_semi")
        unmasked = [column for column in rows.columns if column == UNMASKED]
        return rows.select(F.col(RECEIVED).alias("row"), *unmasked)

    def quarantine_rows(self) -> DataFrame:
        return diff.quarantine_rows(self.parsed.rows, self.verdicts, self.context.config)

    def leading_zero_columns(self) -> tuple[str, ...]:
        table, rows = self.context.config, self.parsed.rows
        numbers = [field.name for field in declared_schema(table) if has_numbers(field.dataType)]
        if table.format == "parquet" or not numbers:  # it has no texts for numbers
            return ()
        received = F.from_json(UNMASKED if UNMASKED in rows.columns else RECEIVED, F.lit("map<string, string>"))
        texts = rows.select(F.map_entries(received).alias("texts"))  # a JSON object may have a name twice
        has_zero = [_has_leading_zero("texts", table.name_in_files(name), table.null_texts(name)) for name in numbers]
        (found,) = texts.agg(*[F.bool_or(flag).alias(f"z{at}") for at, flag in enumerate(has_zero)]).collect()
        return tuple(name for name, flag in zip(numbers, found, strict=True) if flag)

    def row_signatures(self, column_sets: list[list[str]], one_in: int) -> list[tuple[str, tuple[int | None, ...]]]:
        schema, names = self.context.table.schema, [f"h{n}" for n in range(len(column_sets))]
        hashes = []
        for name, columns in zip(names, column_sets, strict=True):
            has_value = F.coalesce(*[F.when(F.col(column).isNotNull(), F.lit(True)) for column in columns])
            value = hash_columns(columns, schema, [name, f"{name}_2"])[0]
            hashes.append(F.when(has_value, value).alias(name))
        changes = self.change_set(1).where(F.col(diff.OPERATION).isin(INSERT, DELETE))
        rows = changes.select(F.col(diff.OPERATION).alias("operation"), *hashes)
        if one_in > 1:
            rows = rows.where(F.pmod(F.col(names[0]), F.lit(one_in)) == 0)
        return [(row[0], tuple(row[1:])) for row in rows.collect()]

    def change_set(self, sequence: int) -> DataFrame:
        table = self.context.config
        rows, before = self.parsed.rows, self.before
        changes = diff.changed_rows(rows, before.frame, self.verdicts, self.counts, table, before.grace)
        return diff.to_change_set(changes, sequence, self.snapshot.time)

    def write_change_set(self, sequence: int, path: str) -> None:
        rows = pii.with_labels(self.change_set(sequence).drop(*self.missing_columns), self.context.config)
        change_sets.write(self.context.table, rows, path, self.counts.changes)


def _has_leading_zero(entries: str, name: str, nulls: tuple[str, ...]) -> Column:
    """Return whether a text of this name, in any case, has a leading zero and does not stand for null."""

    def has_zero(entry: Column) -> Column:
        is_number = ~entry["value"].isin(*nulls) if nulls else F.lit(True)
        return (F.lower(entry["key"]) == name.lower()) & entry["value"].rlike(LEADING_ZERO) & is_number

    return F.exists(entries, has_zero)


@dataclass(frozen=True)
class LocalComparison(Comparison):
    """A comparison in the driver.

    Attributes:
        rows: The rows that were compared.
    """

    rows: LocalRows

    def example_keys(self, limit: int = 3) -> str:
        return ", ".join(str(key) if len(key) > 1 else repr(key[0]) for key in self.rows.example_keys(limit))

    def conflicting_rows(self, limit: int) -> DataFrame:
        rows = [(row,) for row in self.rows.conflicting_rows(limit)]
        return local_frame(self.context.table.spark, "row STRING", rows)

    def quarantine_rows(self) -> DataFrame:
        schema = "row STRING, column STRING, value STRING, reason STRING, rule STRING"
        return local_frame(self.context.table.spark, schema, self.rows.quarantine_rows)

    def leading_zero_columns(self) -> tuple[str, ...]:
        return () if self.context.config.format == "parquet" else self.rows.leading_zero_columns()

    def change_set(self, sequence: int) -> DataFrame:
        rows = self.rows.change_set(sequence, self.snapshot.time).read_all()
        return small_tables.to_frame(self.context.table.spark, rows, self._fields)

    def write_change_set(self, sequence: int, path: str) -> None:
        self._write(self.rows.change_set(sequence, self.snapshot.time), path)

    def collect_change_set(self, sequence: int, path: str) -> tuple[pa.Table, Callable[[], None]]:
        rows = self.rows.change_set(sequence, self.snapshot.time).read_all()
        return rows, lambda: self._write(rows.to_batches(), path)

    def _write(self, batches: Iterable[pa.RecordBatch], path: str) -> None:
        written = T.StructType([f for f in self._fields if f.name not in self.missing_columns])
        folder = self.context.table.lake.path(path)
        change_sets.write_batches((batch.select(written.names) for batch in batches), written, folder)

    def count_before(self) -> int:
        """Return the number of rows before the snapshot."""
        return self.rows.state_count

    def row_signatures(self, column_sets: list[list[str]], one_in: int) -> list[tuple[str, tuple[int | None, ...]]]:
        try:
            return self.rows.row_signatures(column_sets, one_in)
        except duckdb.Error:  # such as for want of memory: the snapshot does not depend on it
            return []

    def inserted_rows(self) -> pa.Table | None:
        """Return the inserted rows, by the columns that the lake stores."""
        return self.rows.change_set(1, self.snapshot.time).read_all().select(self.context.table.schema.names)

    @property
    def _fields(self) -> T.StructType:
        return change_sets.fields_of(self.context.table, keeps_missing=self.before.grace is not None)
