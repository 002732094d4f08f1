"""Defines the ingest of one table: what it works on, what comparing a snapshot yields, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from pyspark.sql import DataFrame

from lakehouse.config import Guard, Pipeline, Table
from lakehouse.ingest.diff import Counts
from lakehouse.ingest.fast_path import ChangedLines
from lakehouse.ingest.readers.parsed_file import ParsedSnapshot, ReadSettings
from lakehouse.lake import forgotten_keys
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.lake.table_ref import TableRef
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot


@dataclass(frozen=True)
class IngestResult:
    """The result of an ingest.

    Attributes:
        table: The table's name.
        entries: The ledger rows that were appended.
        held: The snapshot that waits for approval, if there is one.
        late: Those of `entries` that were rejected only because a newer snapshot had been accepted.
    """

    table: str
    entries: tuple[LedgerEntry, ...] = ()
    held: LedgerEntry | None = None
    late: tuple[LedgerEntry, ...] = ()


@dataclass
class IngestContext:
    """The ingest of one table.

    Attributes:
        table: The table, with the session and the lake.
        pipeline: The pipeline that it is part of.
        run_id: The run that decides.
        history: The table's ledger rows, including those of this ingest.
        late: The times of snapshots that were rejected only because a newer one had been accepted.
    """

    table: TableRef
    pipeline: Pipeline
    run_id: str
    history: LedgerHistory
    late: set[datetime] = field(default_factory=set)

    @property
    def config(self) -> Table:
        """The table's configuration."""
        return self.table.config

    @cached_property
    def forgotten(self) -> frozenset[str]:
        """Hashes of the keys that were forgotten on request, whose rows are ignored."""
        return forgotten_keys.read_hashes(self.table.spark, self.table.lake, self.table.name)

    def read_settings(self, optional_columns: frozenset[str] = frozenset()) -> ReadSettings:
        """Return the settings of the reader of the table's files."""
        return ReadSettings(self.table.spark, self.config, self.pipeline.timezone, optional_columns)

    def fingerprint(self, snapshot: LandedSnapshot) -> str:
        """Return a hash of a snapshot and of the settings that it is read and compared with."""
        return landing.fingerprint(snapshot, self.config, self.pipeline.timezone)


@dataclass(frozen=True)
class Comparison:
    """A snapshot that can be accepted, compared with the rows before it.

    Attributes:
        snapshot: The snapshot, with the files that were read.
        full_state: The rows before it.
        parsed: The rows of the snapshot, or those of its changed lines.
        state: The rows before it that `parsed` was compared with: `full_state`, or a part of it.
        verdicts: The verdict on each key (`diff.verdicts`).
        counts: The counts of the verdicts.
        changes: The changed lines, if only those were compared.
    """

    snapshot: LandedSnapshot
    full_state: DataFrame
    parsed: ParsedSnapshot
    state: DataFrame
    verdicts: DataFrame
    counts: Counts
    changes: ChangedLines | None = None

    @property
    def received_rows(self) -> DataFrame:
        """The rows of `parsed`, certainly with `RECEIVED`."""
        return self.changes.received_rows if self.changes else self.parsed.rows


# Gets a snapshot's ledger row, with the status `rejected`, and the guard to apply; returns the row to append.
CompareFunction = Callable[[IngestContext, LandedSnapshot, LedgerEntry, Guard | None], LedgerEntry]
