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
from lakehouse.ingest.fast_path.csv_layout import Layout
from lakehouse.ingest.fast_path.line_diff import Differing, differing, may_hold
from lakehouse.ingest.prepare_files import plain
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.ingest.readers.fields import Read
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.schema import table_schema
from lakehouse.spark.session import SMALL_DATA_BYTES, isolated_session
from lakehouse.storage import temp_dirs
from lakehouse.storage.file_io import escape_glob
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake, write_json

LEAST_BYTES = SMALL_DATA_BYTES  # below, everything is read anew: it takes no longer
_TEXT = "line"
_PACKING = 4  # by which Parquet makes lines smaller, at least
_MOST_RESTLESS = 100_000
_FEW = 100_000  # keys that the driver looks for itself


@dataclass(frozen=True)
class Unknown:
    """What is left to compare.

    Attributes:
        read: the lines that are new, but for how they were received.
        received: the same with that; parsed again, which is seldom asked for.
        state: the rows of bronze that these, or lines that are gone, concern.
        same: rows of the snapshot that are in bronze as they stand.
        texts: the new lines.
        is_sure: whether no new line has the key of one that both files have; else `Lines.overlooked` is to be asked.
    """

    read: Read
    received: DataFrame
    state: DataFrame
    same: int
    texts: DataFrame
    is_sure: bool


@dataclass(frozen=True)
class Lines:
    """The lines of one table's files."""

    spark: SparkSession
    lake: Lake
    name: str
    table: Table
    zone: str

    @contextmanager
    def unknown(
        self, before: LandedSnapshot | None, last: LedgerEntry | None, landed: LandedSnapshot, state: DataFrame
    ) -> Iterator[Unknown | None]:
        """What of a snapshot has to be compared with bronze's `state`; None: all of it, there is no fast path.

        Args:
            before: the files of the last accepted snapshot, read by today's configuration as they were then.
            last: its row in the ledger; `state` is bronze with it.
        """
        with ExitStack() as held:
            yield self._unknown(before, last, landed, state, held) if before and last else None

    def _unknown(
        self, before: LandedSnapshot, last: LedgerEntry, landed: LandedSnapshot, state: DataFrame, held: ExitStack
    ) -> Unknown | None:
        layout = self._layout(landed)
        if layout is None or not _intact(before):
            return None
        try:
            old = held.enter_context(plain(self.lake, self.table, before))
        except DataRefused:
            return None  # damaged since
        found = self._differing(
            old, last, landed, layout, held.enter_context(temp_dirs.temp_dir(self.lake.local_path("plain")))
        )
        return self._left(*found, old, landed, state, held) if found else None

    def overlooked(self, unknown: Unknown, verdicts: DataFrame, state: DataFrame) -> bool:
        """Whether bronze has another row for a key whose verdict is that it is new."""
        if unknown.is_sure:
            return False
        keys = diff.new_keys(verdicts, self.table)
        few = keys.limit(_FEW + 1).toArrow()
        if few.num_rows <= _FEW and not may_hold(state.inputFiles(), few):
            return False
        return not state.join(F.broadcast(keys), on=self.table.keys, how="left_semi").isEmpty()

    def remember(
        self, landed: LandedSnapshot, entry: LedgerEntry, verdicts: DataFrame, unknown: Unknown | None
    ) -> None:
        """Keep the restless lines of a snapshot that is about to be accepted as `entry`."""
        shutil.rmtree(self._folder(), ignore_errors=True)
        layout = self._layout(landed)
        if layout is None or not _faults(entry):
            return
        texts = (
            unknown.texts if unknown else self.spark.read.text([escape_glob(path) for path in landed.paths]).toDF(_TEXT)
        )
        lines = self._restless(texts, layout, diff.unsettled(verdicts, self.table))
        path = self._folder() / "lines"
        lines.limit(_MOST_RESTLESS + 1).coalesce(1).write.parquet(str(path))
        if self.spark.read.parquet(escape_glob(path)).count() <= _MOST_RESTLESS:
            write_json(self._folder() / "of.json", _of(entry))

    def _layout(self, landed: LandedSnapshot) -> Layout | None:
        """How the files' lines become fields; None where that takes more than the line itself, or is not worth it."""
        if self.table.format != "csv" or landed.size < LEAST_BYTES or self.lake.is_on_s3:
            return None
        return Layout.of(self.table, table_schema.stored_schema(self.table), landed)

    def _differing(
        self, old: LandedSnapshot, last: LedgerEntry, landed: LandedSnapshot, layout: Layout, folder: Path
    ) -> tuple[Differing, int] | None:
        """The lines that differ, and how many rows are in both files; None where lines do not tell."""
        then, restless = self._layout(old), self._noted(last)
        if then is None or then.header != layout.header or (restless is None and _faults(last)):
            return None
        lines = differing(_on_disk(old), _on_disk(landed), layout.header, restless, folder)
        if lines is None:
            return None
        same = (last.rows_read or 0) - lines.restless - lines.removed
        is_whole = lines.kept in (None, same)  # else a line was not the row that it was taken for
        return (lines, same) if is_whole and lines.removed <= same else None

    def _left(
        self,
        lines: Differing,
        same: int,
        old: LandedSnapshot,
        landed: LandedSnapshot,
        state: DataFrame,
        held: ExitStack,
    ) -> Unknown | None:
        """The rows of both sides; None where a new line is seen already to have the key of one that both files have."""
        spark = isolated_session(self.spark, lines.size * _PACKING)
        parquet = spark.read.schema(f"{_TEXT} STRING").parquet
        texts, lost = (parquet(escape_glob(path)) for path in (lines.new, lines.gone))
        read = snapshot_reader.read_lines(spark, self.table, landed, self.zone, texts)
        received = read.rows
        read = replace(
            read, rows=_kept(received.drop(snapshot_reader.RECEIVED), held)
        )  # parsed once, asked for three times
        were = snapshot_reader.read_lines(spark, self.table, old, self.zone, lost).rows.select(
            *state.columns, snapshot_reader.KEY
        )
        were = _kept(were, held)
        if not lines.restless and not self.table.ignore:
            return Unknown(read, received, were.select(*state.columns), same, texts, is_sure=False)
        # Bronze has other rows than these lines make.
        ours, theirs = self._keys(were), self._keys(read.rows)
        touched = F.broadcast(ours.unionByName(theirs).distinct())
        rows = _kept(state.join(touched, on=self.table.keys, how="left_semi"), held)
        doubled = not rows.join(ours, on=self.table.keys, how="left_anti").isEmpty()
        return None if doubled else Unknown(read, received, rows, same, texts, is_sure=True)

    def _keys(self, rows: DataFrame) -> DataFrame:
        return rows.where(F.col(snapshot_reader.KEY) == "read").select(*self.table.keys)

    def _restless(self, texts: DataFrame, layout: Layout, unsettled: DataFrame) -> DataFrame:
        """The lines that are no row, or not the only one of their key."""
        text, keys = F.col(_TEXT), self.table.keys
        values = layout.values(text, keys, self.zone)
        rows = texts.where(~layout.is_header(text) & ~layout.is_blank(text))
        keyed = rows.select(_TEXT, layout.is_whole(text).alias("_whole"), *[v.alias(k) for k, v in values.items()])
        marked = keyed.join(unsettled.withColumn("_unsettled", F.lit(True)), on=keys, how="left")
        lost = reduce(Column.__or__, [F.col(k).isNull() for k in keys], ~F.col("_whole"))
        return marked.where(lost | F.col("_unsettled").isNotNull()).select(_TEXT)

    def _noted(self, last: LedgerEntry) -> Path | None:
        """The restless lines of the last accepted snapshot, if they were kept."""
        try:
            of = json.loads((self._folder() / "of.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if of != _of(last):
            return None
        return next((self._folder() / "lines").glob("*.parquet"), None)

    def _folder(self) -> Path:
        return self.lake.local_path("lines", self.name)


def _kept(rows: DataFrame, held: ExitStack) -> DataFrame:
    """Rows that are computed once, for as long as the block lasts."""
    held.callback(rows.persist(StorageLevel.MEMORY_AND_DISK).unpersist)
    return rows


def _faults(entry: LedgerEntry) -> int:
    return (entry.quarantined or 0) + (entry.duplicates or 0)


def _on_disk(landed: LandedSnapshot) -> list[Path]:
    """The files on this machine's disk: of a lake on S3 none, and there is no fast path."""
    return [path for path in landed.paths if isinstance(path, Path)]


def _intact(landed: LandedSnapshot) -> bool:
    """Whether the files are there as they landed."""
    sizes = [path.stat().st_size if path.is_file() else None for path in _on_disk(landed)]
    return sizes == [file.size for file in landed.files] and all(file.as_received for file in landed.files)


def _of(entry: LedgerEntry) -> list[int | str | None]:
    """Which row of the ledger this is."""
    return [entry.sequence, entry.fingerprint, entry.run_id]
