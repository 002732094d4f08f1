"""Finds the lines of a CSV snapshot that the last accepted one does not have, and the rows of bronze that they affect.

The two landed files are compared line by line, and the ordinary functions get only the rest: new lines, and the rows of
bronze that new or removed lines affect. Nothing is kept between runs, except the *faulty* lines of a snapshot: those
that are not a good row, or not the only one of their key. They are parsed every time.

This is correct only while equal lines mean equal rows (no record spans lines; header and configuration are unchanged),
each line is the only one of its key, and bronze has what the last accepted file had. Each condition is checked, and in
doubt all rows are compared. docs/decisions/0006-known-lines.md has the details.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.errors import DataRefused
from lakehouse.ingest import diff
from lakehouse.ingest.fast_path.csv_layout import CsvLayout
from lakehouse.ingest.fast_path.line_diff import LineDifferences, diff_lines, may_contain_keys
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.readers.parsed_file import ParsedSnapshot, ReadSettings
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.table_ref import TableRef
from lakehouse.spark.persist import persist_rows
from lakehouse.spark.session import isolated_session
from lakehouse.storage import temp_dirs
from lakehouse.storage.file_io import escape_glob
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import write_json
from lakehouse.storage.prepare_files import readable_snapshot

_LINE = "line"
_COMPRESSION_RATIO = 4  # Parquet files of lines are smaller than the lines at least by this factor
_MAX_FAULTY_LINES = 100_000
_MAX_LOCAL_KEYS = 100_000  # up to this many keys are looked up by the driver


@dataclass(frozen=True)
class ChangedLines:
    """The part of a snapshot that has to be compared.

    Attributes:
        parsed: The rows of the new lines, without `RECEIVED`.
        received_rows: The same rows with `RECEIVED`; they are parsed again, as they are rarely needed.
        state: The rows of bronze that new or removed lines affect.
        unchanged_count: The number of other rows of the snapshot, which bronze has unchanged.
        lines: The new lines.
        is_verified: Whether no new line has the key of a line that both files have. If not,
            `FastPath.has_overlooked_rows` checks that.
    """

    parsed: ParsedSnapshot
    received_rows: DataFrame
    state: DataFrame
    unchanged_count: int
    lines: DataFrame
    is_verified: bool


@dataclass(frozen=True)
class FastPath:
    """The line-by-line comparison of one table's snapshots.

    Attributes:
        table: The table.
        settings: The reader's settings.
    """

    table: TableRef
    settings: ReadSettings

    def find_changes(
        self, last: LedgerEntry, before: LandedSnapshot, snapshot: LandedSnapshot, state: DataFrame, stack: ExitStack
    ) -> ChangedLines | None:
        """Return the part of a snapshot that has to be compared; None if all of it has to be.

        Args:
            last: The ledger row of the last accepted snapshot.
            before: That snapshot as landed; it is read with the same configuration as then.
            snapshot: The snapshot to compare, with files that Spark can read.
            state: The rows of bronze with the last accepted snapshot.
            stack: Releases cached rows and files when the comparison ends.
        """
        layout = self._layout(snapshot)
        if layout is None or not _is_intact(before):
            return None
        try:
            old = stack.enter_context(readable_snapshot(self.table.lake, self.table.config, before))
        except DataRefused:
            return None  # it was damaged since
        differences = self._diff_files(last, old, snapshot, layout, stack)
        if differences is None:
            return None
        unchanged_count = (last.rows_read or 0) - differences.faulty_count - differences.removed_count
        has_counted_all = differences.common_count in (None, unchanged_count)
        if not has_counted_all or differences.removed_count > unchanged_count:
            return None  # a line was not the row that it was counted as

        spark = isolated_session(self.table.spark, differences.size * _COMPRESSION_RATIO)
        settings = replace(self.settings, spark=spark)
        new_lines, removed_lines = (
            spark.read.schema(f"{_LINE} STRING").parquet(escape_glob(file))
            for file in (differences.added_file, differences.removed_file)
        )
        received = snapshot_reader.read_lines(settings, snapshot, new_lines)
        new_rows = stack.enter_context(persist_rows(received.rows.drop(snapshot_reader.RECEIVED)))  # used three times
        removed = snapshot_reader.read_lines(settings, old, removed_lines).rows
        removed = stack.enter_context(persist_rows(removed.select(*state.columns, snapshot_reader.KEY_STATE)))
        changes = ChangedLines(
            parsed=replace(received, rows=new_rows),
            received_rows=received.rows,
            state=removed.select(*state.columns),
            unchanged_count=unchanged_count,
            lines=new_lines,
            is_verified=False,
        )
        has_other_rows = differences.faulty_count or self.table.config.ignore  # bronze has not just the removed lines
        return self._with_bronze_rows(changes, removed, state, stack) if has_other_rows else changes

    def has_overlooked_rows(self, changes: ChangedLines, verdicts: DataFrame, state: DataFrame) -> bool:
        """Return whether bronze has a row for a key that the verdicts take for new.

        Args:
            changes: The changed lines.
            verdicts: The verdicts of their rows.
            state: All rows of bronze.
        """
        if changes.is_verified:
            return False
        new_keys = diff.new_keys(verdicts, self.table.config)
        local_keys = new_keys.limit(_MAX_LOCAL_KEYS + 1).toArrow()
        files = state.inputFiles()  # none if the driver has read bronze
        if files and local_keys.num_rows <= _MAX_LOCAL_KEYS and not may_contain_keys(files, local_keys):
            return False
        return not state.join(F.broadcast(new_keys), on=self.table.config.keys, how="left_semi").isEmpty()

    def save_faulty_lines(
        self, snapshot: LandedSnapshot, entry: LedgerEntry, verdicts: DataFrame, changes: ChangedLines | None
    ) -> None:
        """Save the faulty lines of a snapshot, in place of those of the one before.

        Args:
            snapshot: The snapshot, with files that Spark can read.
            entry: Its ledger row, which is about to be accepted.
            verdicts: The verdicts of its rows, or of its changed lines.
            changes: Its changed lines, if only those were compared.
        """
        shutil.rmtree(self._folder(), ignore_errors=True)
        layout = self._layout(snapshot)
        if layout is None or not _fault_count(entry):
            return
        spark = self.table.spark
        lines = (
            changes.lines if changes else spark.read.text([escape_glob(path) for path in snapshot.paths]).toDF(_LINE)
        )
        faulty = self._faulty_lines(lines, layout, diff.faulty_keys(verdicts, self.table.config))
        path = self._folder() / "lines"
        faulty.limit(_MAX_FAULTY_LINES + 1).coalesce(1).write.parquet(str(path))
        if spark.read.parquet(escape_glob(path)).count() <= _MAX_FAULTY_LINES:
            write_json(self._folder() / "of.json", _entry_id(entry))

    def _layout(self, snapshot: LandedSnapshot) -> CsvLayout | None:
        """Return how the lines split into fields; None if a line is not enough for that, or the files are small."""
        is_small = snapshot.size < self.table.tuning.fast_path_from_bytes
        if self.table.config.format != "csv" or is_small or self.table.lake.is_on_s3:
            return None
        return CsvLayout.from_files(self.settings, snapshot)

    def _diff_files(
        self, last: LedgerEntry, old: LandedSnapshot, snapshot: LandedSnapshot, layout: CsvLayout, stack: ExitStack
    ) -> LineDifferences | None:
        """Return the lines that only one snapshot has; None if rows cannot be compared by their lines."""
        old_layout, faulty_lines = self._layout(old), self._saved_faulty_lines(last)
        if old_layout is None or old_layout.header != layout.header or (faulty_lines is None and _fault_count(last)):
            return None
        folder = stack.enter_context(temp_dirs.temp_dir(self.table.lake.local_path("plain")))
        return diff_lines(_local_files(old), _local_files(snapshot), layout.header, faulty_lines, folder)

    def _with_bronze_rows(
        self, changes: ChangedLines, removed: DataFrame, state: DataFrame, stack: ExitStack
    ) -> ChangedLines | None:
        """Return the changes with the affected rows of bronze; None if a new line has the key of an unchanged line."""
        keys, removed_keys = self.table.config.keys, self._readable_keys(removed)
        affected_keys = removed_keys.unionByName(self._readable_keys(changes.parsed.rows)).distinct()
        rows = state.join(F.broadcast(affected_keys), on=keys, how="left_semi")
        rows = stack.enter_context(persist_rows(rows))
        has_other_keys = not rows.join(removed_keys, on=keys, how="left_anti").isEmpty()
        return None if has_other_keys else replace(changes, state=rows, is_verified=True)

    def _readable_keys(self, rows: DataFrame) -> DataFrame:
        return rows.where(F.col(snapshot_reader.KEY_STATE) == "read").select(*self.table.config.keys)

    def _faulty_lines(self, lines: DataFrame, layout: CsvLayout, faulty_keys: DataFrame) -> DataFrame:
        """Return the lines that are not a good row, or not the only one of their key."""
        line, keys = F.col(_LINE), self.table.config.keys
        values = layout.column_values(line, keys, self.settings.time_zone)
        records = lines.where(~layout.is_header(line) & ~layout.is_blank(line))
        columns = [layout.is_complete(line).alias("_is_complete"), *[v.alias(k) for k, v in values.items()]]
        marked_keys = faulty_keys.withColumn("_is_faulty_key", F.lit(True))
        marked = records.select(_LINE, *columns).join(marked_keys, on=keys, how="left")
        is_malformed = reduce(Column.__or__, [F.col(k).isNull() for k in keys], ~F.col("_is_complete"))
        return marked.where(is_malformed | F.col("_is_faulty_key").isNotNull()).select(_LINE)

    def _saved_faulty_lines(self, last: LedgerEntry) -> Path | None:
        """Return the file with the faulty lines of the last accepted snapshot, if they were saved."""
        try:
            entry_id = json.loads((self._folder() / "of.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if entry_id != _entry_id(last):
            return None
        return next((self._folder() / "lines").glob("*.parquet"), None)

    def _folder(self) -> Path:
        return self.table.lake.local_path("lines", self.table.name)


def _fault_count(entry: LedgerEntry) -> int:
    return (entry.quarantined or 0) + (entry.duplicates or 0)


def _local_files(snapshot: LandedSnapshot) -> list[Path]:
    """Return the files on this machine's disk; on S3 there are none, and no fast path."""
    return [path for path in snapshot.paths if isinstance(path, Path)]


def _is_intact(snapshot: LandedSnapshot) -> bool:
    """Return whether the files are there as they landed."""
    sizes = [path.stat().st_size if path.is_file() else None for path in _local_files(snapshot)]
    return sizes == [file.size for file in snapshot.files] and all(file.as_received for file in snapshot.files)


def _entry_id(entry: LedgerEntry) -> list[int | str | None]:
    """Return the identity of a ledger row."""
    return [entry.sequence, entry.fingerprint, entry.run_id]
