"""The fast path of `ingest` for large CSV files: only lines that the last accepted snapshot had not are read.

The two landed files are held against each other line by line (`snapshot/line_diff.py`), and the ordinary functions see
what is left: lines that are new, and the rows of bronze that these, or lines that are gone, concern. Nothing is kept
between runs but, after a snapshot with faults, its *restless* lines: those that are not a good row, the only one of
its key. They are read every time.

Sound only while equal lines mean equal rows (no record spans lines; header and configuration as they were), while a
line is the only one of its key, and while bronze holds what the last accepted file had. Each is checked; in doubt there
is no fast path. docs/decisions/0006-known-lines.md says more.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest import diff
from lakehouse.ingest.fast_path.csv_layout import CsvLayout
from lakehouse.ingest.fast_path.line_diff import LineDifferences, diff_lines, may_contain_keys
from lakehouse.ingest.prepare_files import readable_snapshot
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.readers.fields import ParsedSnapshot
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.schema import table_schema
from lakehouse.spark.session import SMALL_DATA_BYTES, isolated_session
from lakehouse.storage import temp_dirs
from lakehouse.storage.file_io import escape_glob
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake, write_json

MIN_BYTES = SMALL_DATA_BYTES  # below, everything is read anew: it takes no longer
_LINE = "line"
_COMPRESSION_RATIO = 4  # by which Parquet makes lines smaller, at least
_MAX_FAULTY_LINES = 100_000
_MAX_LOCAL_KEYS = 100_000  # keys that the driver looks for itself


@dataclass(frozen=True)
class ChangedLines:
    """What is left to compare.

    Attributes:
        read: the lines that are new, but for how they were received.
        received: the same with that; parsed again, which is seldom asked for.
        state: the rows of bronze that these, or lines that are gone, concern.
        same: rows of the snapshot that are in bronze as they stand.
        texts: the new lines.
        is_sure: whether no new line has the key of one that both files have; else `Lines.overlooked` is to be asked.
    """

    parsed: ParsedSnapshot
    received_rows: DataFrame
    state: DataFrame
    unchanged_count: int
    lines: DataFrame
    is_verified: bool


@dataclass(frozen=True)
class FastPath:
    """The lines of one table's files."""

    spark: SparkSession
    lake: Lake
    name: str
    table: Table
    time_zone: str

    @contextmanager
    def find_changes(
        self, before: LandedSnapshot | None, last: LedgerEntry | None, snapshot: LandedSnapshot, state: DataFrame
    ) -> Iterator[ChangedLines | None]:
        """What of a snapshot has to be compared with bronze's `state`; None: all of it, there is no fast path.

        Args:
            before: the files of the last accepted snapshot, read by today's configuration as they were then.
            last: its row in the ledger; `state` is bronze with it.
        """
        with ExitStack() as held:
            yield self._find_changes(before, last, snapshot, state, held) if before and last else None

    def _find_changes(
        self, before: LandedSnapshot, last: LedgerEntry, snapshot: LandedSnapshot, state: DataFrame, stack: ExitStack
    ) -> ChangedLines | None:
        layout = self._layout(snapshot)
        if layout is None or not _is_intact(before):
            return None
        try:
            old = stack.enter_context(readable_snapshot(self.lake, self.table, before))
        except DataRefused:
            return None  # damaged since
        found = self._diff_files(
            old, last, snapshot, layout, stack.enter_context(temp_dirs.temp_dir(self.lake.local_path("plain")))
        )
        return self._changed_lines(*found, old, snapshot, state, stack) if found else None

    def has_overlooked_rows(self, changes: ChangedLines, verdicts: DataFrame, state: DataFrame) -> bool:
        """Whether bronze has another row for a key whose verdict is that it is new."""
        if changes.is_verified:
            return False
        keys = diff.new_keys(verdicts, self.table)
        few = keys.limit(_MAX_LOCAL_KEYS + 1).toArrow()
        if few.num_rows <= _MAX_LOCAL_KEYS and not may_contain_keys(state.inputFiles(), few):
            return False
        return not state.join(F.broadcast(keys), on=self.table.keys, how="left_semi").isEmpty()

    def save_faulty_lines(
        self, snapshot: LandedSnapshot, entry: LedgerEntry, verdicts: DataFrame, changes: ChangedLines | None
    ) -> None:
        """Keep the restless lines of a snapshot that is about to be accepted as `entry`."""
        shutil.rmtree(self._folder(), ignore_errors=True)
        layout = self._layout(snapshot)
        if layout is None or not _fault_count(entry):
            return
        texts = (
            changes.lines
            if changes
            else self.spark.read.text([escape_glob(path) for path in snapshot.paths]).toDF(_LINE)
        )
        lines = self._faulty_lines(texts, layout, diff.faulty_keys(verdicts, self.table))
        path = self._folder() / "lines"
        lines.limit(_MAX_FAULTY_LINES + 1).coalesce(1).write.parquet(str(path))
        if self.spark.read.parquet(escape_glob(path)).count() <= _MAX_FAULTY_LINES:
            write_json(self._folder() / "of.json", _entry_id(entry))

    def _layout(self, snapshot: LandedSnapshot) -> CsvLayout | None:
        """How the files' lines become fields; None where that takes more than the line itself, or is not worth it."""
        if self.table.format != "csv" or snapshot.size < MIN_BYTES or self.lake.is_on_s3:
            return None
        return CsvLayout.from_files(self.table, table_schema.stored_schema(self.table), snapshot)

    def _diff_files(
        self, old: LandedSnapshot, last: LedgerEntry, snapshot: LandedSnapshot, layout: CsvLayout, folder: Path
    ) -> tuple[LineDifferences, int] | None:
        """The lines that differ, and how many rows are in both files; None where lines do not tell."""
        then, restless = self._layout(old), self._saved_faulty_lines(last)
        if then is None or then.header != layout.header or (restless is None and _fault_count(last)):
            return None
        lines = diff_lines(_local_files(old), _local_files(snapshot), layout.header, restless, folder)
        if lines is None:
            return None
        same = (last.rows_read or 0) - lines.faulty_count - lines.removed_count
        is_whole = lines.common_count in (None, same)  # else a line was not the row that it was taken for
        return (lines, same) if is_whole and lines.removed_count <= same else None

    def _changed_lines(
        self,
        differences: LineDifferences,
        unchanged_count: int,
        old: LandedSnapshot,
        snapshot: LandedSnapshot,
        state: DataFrame,
        stack: ExitStack,
    ) -> ChangedLines | None:
        """The rows of both sides; None where a new line is seen already to have the key of one that both files have."""
        spark = isolated_session(self.spark, differences.size * _COMPRESSION_RATIO)
        parquet = spark.read.schema(f"{_LINE} STRING").parquet
        texts, lost = (parquet(escape_glob(path)) for path in (differences.added_file, differences.removed_file))
        read = snapshot_reader.read_lines(spark, self.table, snapshot, self.time_zone, texts)
        received = read.rows
        read = replace(
            read, rows=_cache_rows(received.drop(snapshot_reader.RECEIVED), stack)
        )  # parsed once, asked for three times
        were = snapshot_reader.read_lines(spark, self.table, old, self.time_zone, lost).rows.select(
            *state.columns, snapshot_reader.KEY_STATE
        )
        were = _cache_rows(were, stack)
        if not differences.faulty_count and not self.table.ignore:
            return ChangedLines(read, received, were.select(*state.columns), unchanged_count, texts, is_verified=False)
        # Bronze has other rows than these lines make.
        ours, theirs = self._readable_keys(were), self._readable_keys(read.rows)
        touched = F.broadcast(ours.unionByName(theirs).distinct())
        rows = _cache_rows(state.join(touched, on=self.table.keys, how="left_semi"), stack)
        doubled = not rows.join(ours, on=self.table.keys, how="left_anti").isEmpty()
        return None if doubled else ChangedLines(read, received, rows, unchanged_count, texts, is_verified=True)

    def _readable_keys(self, rows: DataFrame) -> DataFrame:
        return rows.where(F.col(snapshot_reader.KEY_STATE) == "read").select(*self.table.keys)

    def _faulty_lines(self, texts: DataFrame, layout: CsvLayout, faulty_keys: DataFrame) -> DataFrame:
        """The lines that are no row, or not the only one of their key."""
        text, keys = F.col(_LINE), self.table.keys
        values = layout.column_values(text, keys, self.time_zone)
        rows = texts.where(~layout.is_header(text) & ~layout.is_blank(text))
        keyed = rows.select(_LINE, layout.is_complete(text).alias("_whole"), *[v.alias(k) for k, v in values.items()])
        marked = keyed.join(faulty_keys.withColumn("_unsettled", F.lit(True)), on=keys, how="left")
        lost = reduce(Column.__or__, [F.col(k).isNull() for k in keys], ~F.col("_whole"))
        return marked.where(lost | F.col("_unsettled").isNotNull()).select(_LINE)

    def _saved_faulty_lines(self, last: LedgerEntry) -> Path | None:
        """The restless lines of the last accepted snapshot, if they were kept."""
        try:
            of = json.loads((self._folder() / "of.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if of != _entry_id(last):
            return None
        return next((self._folder() / "lines").glob("*.parquet"), None)

    def _folder(self) -> Path:
        return self.lake.local_path("lines", self.name)


def _cache_rows(rows: DataFrame, stack: ExitStack) -> DataFrame:
    """Rows that are computed once, for as long as the block lasts."""
    stack.callback(rows.persist(StorageLevel.MEMORY_AND_DISK).unpersist)
    return rows


def _fault_count(entry: LedgerEntry) -> int:
    return (entry.quarantined or 0) + (entry.duplicates or 0)


def _local_files(snapshot: LandedSnapshot) -> list[Path]:
    """The files on this machine's disk: of a lake on S3 none, and there is no fast path."""
    return [path for path in snapshot.paths if isinstance(path, Path)]


def _is_intact(snapshot: LandedSnapshot) -> bool:
    """Whether the files are there as they landed."""
    sizes = [path.stat().st_size if path.is_file() else None for path in _local_files(snapshot)]
    return sizes == [file.size for file in snapshot.files] and all(file.as_received for file in snapshot.files)


def _entry_id(entry: LedgerEntry) -> list[int | str | None]:
    """Which row of the ledger this is."""
    return [entry.sequence, entry.fingerprint, entry.run_id]
