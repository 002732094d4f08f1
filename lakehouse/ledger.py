"""The ledger: one row for everything that was decided about a snapshot, append-only. The only truth.

Appending a row is the commit point of `ingest`: before it nothing has happened, after it the change set is
published. The newest row of a (table, snapshot_time) counts.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from datetime import datetime, timezone
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import delta
from lakehouse.lake import Lake
from lakehouse.session import local

SCHEMA = """
    table STRING, sequence BIGINT, snapshot_time TIMESTAMP, fingerprint STRING, status STRING, kind STRING,
    path STRING, rows_read BIGINT, inserted BIGINT, updated BIGINT, deleted BIGINT, unchanged BIGINT,
    quarantined BIGINT, duplicates BIGINT, run_id STRING, recorded_at TIMESTAMP, reason STRING
"""


COUNTS = ("rows_read", "inserted", "updated", "deleted", "unchanged", "quarantined", "duplicates")


@dataclass(frozen=True)
class Entry:
    """One row. Counts are of rows; those of a snapshot that was not read are None."""

    table: str
    sequence: int | None  # accepted only
    snapshot_time: datetime
    fingerprint: str
    status: str  # accepted | unchanged | held | rejected
    kind: str | None = None  # full-load | cdc | feed
    path: str | None = None  # of the change set, relative to the lake
    rows_read: int | None = None
    inserted: int | None = None
    updated: int | None = None
    deleted: int | None = None
    unchanged: int | None = None
    quarantined: int | None = None
    duplicates: int | None = None
    run_id: str | None = None
    recorded_at: datetime | None = None
    reason: str | None = None

    @property
    def counts(self) -> dict[str, int]:
        """What was counted, by name; empty for a snapshot that was not read."""
        return {name: count for name in COUNTS if (count := getattr(self, name)) is not None}

    @property
    def changes(self) -> int:
        return (self.inserted or 0) + (self.updated or 0) + (self.deleted or 0)


def create(spark: SparkSession, lake: Lake) -> None:
    """Make the ledger if there is none: before tables work side by side, since two cannot both make it."""
    if not delta.exists(spark, lake.ledger):
        local(spark, SCHEMA).write.format("delta").mode("append").save(lake.ledger)


def append(spark: SparkSession, lake: Lake, entry: Entry) -> Entry:
    """Publish a decision; returns the entry with the time it was recorded at."""
    recorded = replace(entry, recorded_at=datetime.now(timezone.utc))
    row = local(spark, SCHEMA, [astuple(recorded)])
    row.coalesce(1).write.format("delta").mode("append").save(lake.ledger)
    return recorded


def rows(spark: SparkSession, lake: Lake) -> DataFrame:
    """The ledger as a DataFrame, empty where there is none yet."""
    if not delta.exists(spark, lake.ledger):
        return local(spark, SCHEMA)
    return delta.read(spark, lake.ledger)


def newest_accepted(spark: SparkSession, lake: Lake) -> datetime | None:
    """The time of the newest accepted snapshot of any table: the models' `:as_of`."""
    accepted = rows(spark, lake).where("status = 'accepted'").agg(F.max("snapshot_time").alias("time"))
    time: datetime | None = accepted.collect()[0].time
    return time.astimezone(timezone.utc) if time else None


class History:
    """What the ledger says of one table, oldest first."""

    def __init__(self, entries: list[Entry]) -> None:
        order = sorted(entries, key=lambda e: e.recorded_at or datetime.min.replace(tzinfo=timezone.utc))
        self.entries = tuple(order)
        self._by_time = {e.snapshot_time: e for e in order}  # the newest row of a time counts

    def at(self, time: datetime) -> Entry | None:
        return self._by_time.get(time)

    @property
    def accepted(self) -> list[Entry]:
        """Accepted change sets by sequence; should two drivers have raced, the first row of a sequence."""
        first: dict[int, Entry] = {}
        for entry in self.entries:
            if entry.status == "accepted" and entry.sequence is not None:
                first.setdefault(entry.sequence, entry)
        return [first[sequence] for sequence in sorted(first)]

    @property
    def last_accepted(self) -> Entry | None:
        return self.accepted[-1] if self.accepted else None

    @property
    def newest_decided(self) -> Entry | None:
        return self._by_time[max(self._by_time)] if self._by_time else None

    @property
    def held(self) -> Entry | None:
        """The held snapshot that waits for approval: only the newest one, and only if none was accepted since."""
        newest = self.newest_decided
        return newest if newest and newest.status == "held" else None

    def with_entry(self, entry: Entry) -> History:
        return History([*self.entries, entry])


def read(spark: SparkSession, lake: Lake, tables: list[str]) -> dict[str, History]:
    """The history of each of `tables`, in one query."""
    found = rows(spark, lake).where(F.col("table").isin(tables)).select(*_NAMES).collect()
    entries = [Entry(**_aware(row.asDict())) for row in found]
    return {table: History([e for e in entries if e.table == table]) for table in tables}


_NAMES = list(Entry.__dataclass_fields__)


def _aware(row: dict[str, Any]) -> dict[str, Any]:
    """Timestamps come back in the zone of the Python process, without saying so."""
    return {k: v.astimezone(timezone.utc) if isinstance(v, datetime) else v for k, v in row.items()}
