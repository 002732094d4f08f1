"""Defines the ingest of one table: its inputs, and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import DataFrame

from lakehouse.bronze import ComputedBatch
from lakehouse.config import Guard, Pipeline, Table
from lakehouse.errors import LakehouseError
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake import forgotten_keys
from lakehouse.lake.grace import Grace
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.lake.table_ref import TableRef
from lakehouse.lake.table_rows import TableRows
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot

if TYPE_CHECKING:
    from lakehouse.ingest.backlog import Backlog


@dataclass(frozen=True)
class IngestResult:
    """The result of an ingest.

    Attributes:
        table: The table's name.
        entries: The ledger rows that were appended.
        held: The snapshot that waits for approval, if there is one.
        late: Those of `entries` that were rejected only because a newer snapshot had been accepted.
        held_messages: The message about each snapshot that was held, by its time; with values of rows.
    """

    table: str
    entries: tuple[LedgerEntry, ...] = ()
    held: LedgerEntry | None = None
    late: tuple[LedgerEntry, ...] = ()
    held_messages: Mapping[datetime, LakehouseError] = field(default_factory=dict)


@dataclass
class IngestContext:
    """The ingest of one table.

    Attributes:
        table: The table, with the session and the lake.
        pipeline: The pipeline that it is part of.
        run_id: The run that decides.
        history: The table's ledger rows, including those of this ingest.
        late: The times of snapshots that were rejected only because a newer one had been accepted.
        unchanged: Gets the ledger row of a last snapshot that is unchanged, which the caller appends together with
            those of other tables; None: it is appended at once.
        held_messages: The message about each snapshot that the guard held, by its time; with values of rows.
        backlog: The decisions that are not in the ledger yet, if many snapshots are taken in one pass.
        reserved_paths: The paths of change sets that are not in `history`, and that no new one may take.
        taken: The rows of the snapshots that were accepted or unchanged, for `missing`; None: those of `history`.
        computed: Of a change feed: the changes of the last accepted batch in bronze, if they are few.
    """

    table: TableRef
    pipeline: Pipeline
    run_id: str
    history: LedgerHistory
    late: set[datetime] = field(default_factory=set)
    unchanged: list[LedgerEntry] | None = None
    held_messages: dict[datetime, LakehouseError] = field(default_factory=dict)
    backlog: Backlog | None = None
    reserved_paths: frozenset[str] = frozenset()
    taken: list[LedgerEntry] | None = None
    computed: ComputedBatch | None = None

    @property
    def config(self) -> Table:
        """The table's configuration."""
        return self.table.config

    @cached_property
    def forgotten(self) -> frozenset[str]:
        """Hashes of the keys that were forgotten on request, whose rows are ignored.

        Raises:
            ConfigError: The table does not have these keys any more, so that their rows could not be recognised.
        """
        hashes = forgotten_keys.read_hashes(self.table.spark, self.table.lake, self.table.name)
        forgotten_keys.require_recognisable(self.config, hashes, self.table.name, str(self.pipeline.path))
        return hashes

    def read_settings(self, optional_columns: frozenset[str] = frozenset()) -> ReadSettings:
        """Return the settings of the reader of the table's files."""
        return ReadSettings(self.table.spark, self.config, self.pipeline.timezone, optional_columns)

    def fingerprint(self, snapshot: LandedSnapshot) -> str:
        """Return a hash of a snapshot and of the settings that it is read and compared with."""
        return landing.fingerprint(snapshot, self.config, self.pipeline.timezone)


@dataclass(frozen=True)
class StateRows:
    """The rows that a snapshot is compared with.

    Attributes:
        read: Returns the rows for Spark, by the columns that the lake stores.
        find: Returns the same rows for the driver: where they are in a table, or the rows themselves; None if only
            Spark can read them.
        grace: The treatment of keys that the snapshot lacks; None: they are deleted. With it, the rows have the columns
            of `bronze.STATE_FIELDS`, and marked rows are among them.
        time: The time of the last accepted snapshot, if it was accepted in the same pass; else None.
    """

    read: Callable[[], DataFrame]
    find: Callable[[], TableRows | pa.Table | None] = lambda: None
    grace: Grace | None = None
    time: datetime | None = None

    @cached_property
    def frame(self) -> DataFrame:
        """The rows for Spark."""
        return self.read()


# Gets a snapshot's ledger row, with the status `rejected`, and the guard to apply; returns the row to append.
CompareFunction = Callable[[IngestContext, LandedSnapshot, LedgerEntry, Guard | None], LedgerEntry]
