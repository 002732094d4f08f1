"""One table's ingest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from pyspark.sql import DataFrame, SparkSession

from lakehouse.config import Guard, Pipeline, Table, fingerprint_config
from lakehouse.ingest.diff import Counts
from lakehouse.ingest.fast_path.known_lines import ChangedLines
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.lake import forgotten_keys
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake


@dataclass(frozen=True)
class IngestResult:
    """What became of a table's snapshots: the rows appended to the ledger now, and the one that waits for approval."""

    table: str
    entries: tuple[LedgerEntry, ...] = ()
    held: LedgerEntry | None = None
    late: tuple[LedgerEntry, ...] = ()  # those of `entries` that were only too late, which is nobody's fault


@dataclass
class IngestContext:
    """One table's ingest: where it is, and what it has said so far."""

    spark: SparkSession
    lake: Lake
    pipeline: Pipeline
    name: str
    run_id: str
    history: LedgerHistory
    late: set[datetime] = field(default_factory=set)

    @property
    def table(self) -> Table:
        return self.pipeline.tables[self.name]

    @cached_property
    def forgotten(self) -> frozenset[str]:
        """Hashes of keys that no snapshot may bring back."""
        return forgotten_keys.read_hashes(self.spark, self.lake, self.name)


@dataclass(frozen=True)
class Comparison:
    """A snapshot that can be taken, held against the rows before it: what is to happen to each key, and how often."""

    snapshot: LandedSnapshot  # as it was read: unpacked, where it came packed
    full_state: DataFrame
    parsed: snapshot_reader.ParsedSnapshot
    state: DataFrame  # all of `before`, or what of it can differ
    verdicts: DataFrame
    counts: Counts
    changes: ChangedLines | None = None  # where only what can differ was compared

    @property
    def received_rows(self) -> DataFrame:
        """The rows with how they were received."""
        return self.changes.received_rows if self.changes else self.parsed.rows


# From a snapshot's row, `rejected` as yet, and the guard to ask, to the row as it is to stand in the ledger.
CompareFunction = Callable[[IngestContext, LandedSnapshot, LedgerEntry, Guard | None], LedgerEntry]


def fingerprint(pipeline: Pipeline, name: str, snapshot: LandedSnapshot) -> str:
    """Of the files' names and bytes, and of the configuration that bears on reading and comparing them."""
    config = fingerprint_config(pipeline.tables[name], pipeline.timezone)
    return hashlib.sha256(json.dumps([snapshot.file_hashes, config]).encode()).hexdigest()
