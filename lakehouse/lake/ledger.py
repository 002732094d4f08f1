"""The ledger: one row for everything that was decided about a snapshot, append-only. The only truth.

Appending a row is the commit point of `ingest`: before it nothing has happened, after it the change set is
published. The newest row of a (table, snapshot_time) counts.

Which row is older is told by the commits that brought them (row tracking), not by anybody's clock. Where other machines
write too, a run reads back what it has published: the first row of a (table, sequence) counts, later ones are void.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timezone
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.errors import LakeBusy
from lakehouse.lake import delta
from lakehouse.spark.session import local_frame
from lakehouse.storage import file_io
from lakehouse.storage.delta_log import newest_version
from lakehouse.storage.paths import Lake

SCHEMA = """
    table STRING, sequence BIGINT, snapshot_time TIMESTAMP, fingerprint STRING, status STRING, kind STRING,
    path STRING, rows_read BIGINT, inserted BIGINT, updated BIGINT, deleted BIGINT, unchanged BIGINT,
    quarantined BIGINT, duplicates BIGINT, run_id STRING, recorded_at TIMESTAMP, reason STRING
"""


COUNT_COLUMNS = ("rows_read", "inserted", "updated", "deleted", "unchanged", "quarantined", "duplicates")


@dataclass(frozen=True)
class LedgerEntry:
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
        return {name: count for name in COUNT_COLUMNS if (count := getattr(self, name)) is not None}

    @property
    def changed_rows(self) -> int:
        return (self.inserted or 0) + (self.updated or 0) + (self.deleted or 0)

    @property
    def is_base_state(self) -> bool:
        """Whether it publishes the state as of a sequence, in place of the change sets up to there (compact.py)."""
        return self.status == "accepted" and self.kind == "full-load" and (self.sequence or 0) > 1


def create_if_missing(spark: SparkSession, lake: Lake) -> None:
    """Make the ledger if there is none: before tables work side by side, since two cannot both make it."""
    if not delta.exists(spark, lake.ledger_table):
        delta.create(
            spark, lake.ledger_table, local_frame(spark, SCHEMA), {"delta.enableRowTracking": "true"}, "append"
        )


def append(spark: SparkSession, lake: Lake, entry: LedgerEntry) -> LedgerEntry:
    """Publish a decision; returns the entry with the time it was recorded at.

    Raises:
        LakeBusy: another run has published that sequence of the table first.
    """
    recorded = replace(entry, recorded_at=datetime.now(timezone.utc))
    before = newest_version(lake.path("raw", "ledger")) if lake.is_on_s3 else 0
    row, ours = local_frame(spark, SCHEMA, [astuple(recorded)]), f"{entry.table} {uuid.uuid4().hex}"
    delta.append(lake.ledger_table, row.coalesce(1), userMetadata=json.dumps({"lakehouse": {"row": ours}}))
    if lake.is_on_s3 and recorded.sequence is not None:
        _require_first(spark, lake, recorded, ours, before)
    return recorded


def _require_first(
    spark: SparkSession, lake: Lake, recorded: LedgerEntry, commit_mark: str, version_before: int
) -> None:
    """Read back: raises LakeBusy, unless the row is there and is the first of its sequence.

    Args:
        ours: what the commit of the row carries.
        before: the ledger's version before it.
    """
    history = read_histories(spark, lake, [recorded.table])[recorded.table]
    first = next(
        e for e in history.entries if e.sequence == recorded.sequence and e.is_base_state == recorded.is_base_state
    )
    # Spark trusts what it has committed itself; another driver may have written over that very commit.
    log = lake.path("raw", "ledger", "_delta_log")
    commits = range(version_before + 1, newest_version(lake.path("raw", "ledger")) + 1)
    there = file_io.read_files(log / f"{version:020d}.json" for version in commits)
    lost = not any(commit_mark.encode() in commit for commit in there if commit)
    if not lost and (first.run_id, first.recorded_at) == (recorded.run_id, recorded.recorded_at):
        return
    by = "another run" if lost else f"run {first.run_id}"
    raise LakeBusy(
        f"change set {recorded.sequence} of {recorded.table} was published by {by} while this one was at it",
        expected="one run per lake at a time",
        where=lake.ledger_table,
        next_step=f"nothing of this run's counts for {recorded.table}; run again when the other has ended",
    )


def delete_tables(spark: SparkSession, lake: Lake, tables: list[str]) -> None:
    """Take out all that was decided about these tables: they begin anew. Their streams find that out and do, too."""
    delta.table(spark, lake.ledger_table).delete(F.col("table").isin(tables))


def redact_reasons(spark: SparkSession, lake: Lake, table: str, redact_text: Callable[[str], str]) -> int:
    """Have the reasons told of a table say what `redacted` makes of them; returns how many rows that changed."""
    told = read_rows(spark, lake).where((F.col("table") == table) & F.col("reason").isNotNull())
    each = {(r.snapshot_time, r.recorded_at, r.reason): redact_text(r.reason) for r in told.collect()}
    changed = [(time, at, now) for (time, at, reason), now in each.items() if now != reason]
    if changed:  # by a join and no condition: what stands in a condition stays in Delta's history
        mended = spark.createDataFrame(changed, "snapshot_time TIMESTAMP, recorded_at TIMESTAMP, reason STRING")
        same = [F.col(f"l.{c}") == F.col(f"m.{c}") for c in ("snapshot_time", "recorded_at")]
        same_row = (F.col("l.table") == table) & same[0] & same[1]
        ledger = delta.table(spark, lake.ledger_table).alias("l").merge(mended.alias("m"), same_row)
        ledger.whenMatchedUpdate(set={"reason": "m.reason"}).execute()
    return len(changed)


def read_rows(spark: SparkSession, lake: Lake) -> DataFrame:
    """The ledger as a DataFrame, empty where there is none yet."""
    if not delta.exists(spark, lake.ledger_table):
        return local_frame(spark, SCHEMA)
    return delta.read(spark, lake.ledger_table)


def newest_accepted_time(spark: SparkSession, lake: Lake) -> datetime | None:
    """The time of the newest accepted snapshot of any table: the models' `:as_of`."""
    accepted = read_rows(spark, lake).where("status = 'accepted'").agg(F.max("snapshot_time").alias("time"))
    time: datetime | None = accepted.collect()[0].time
    return time.astimezone(timezone.utc) if time else None


class LedgerHistory:
    """What the ledger says of one table, oldest first.

    Attributes:
        accepted: the decision that each sequence stands for.
        base: the newest state that was published in place of change sets, if any was.
    """

    def __init__(self, entries: list[LedgerEntry]) -> None:
        self.entries = tuple(entries)
        first: dict[int, LedgerEntry] = {}
        states: dict[int, LedgerEntry] = {}
        for entry in entries:
            if entry.status == "accepted" and entry.sequence is not None:
                # should two drivers have raced
                (states if entry.is_base_state else first).setdefault(entry.sequence, entry)
        self.accepted = [first[sequence] for sequence in sorted(first)]
        self.base_state = states[max(states)] if states else None
        counting = {id(entry) for entry in self.accepted}
        rows = [entry for entry in entries if entry.status != "accepted" or id(entry) in counting]
        self._by_time = {entry.snapshot_time: entry for entry in rows}  # the newest row of a time counts

    def entry_at(self, time: datetime) -> LedgerEntry | None:
        return self._by_time.get(time)

    @property
    def entries_to_fold(self) -> list[LedgerEntry]:
        """What is there to be folded, in order: the base, if there is one, and the change sets after it."""
        if self.base_state is None:
            return self.accepted
        return [self.base_state, *(entry for entry in self.accepted if not self.is_dropped(entry))]

    def is_dropped(self, entry: LedgerEntry) -> bool:
        """Whether a base has taken the place of an entry's change set."""
        return self.base_state is not None and (entry.sequence or 0) <= (self.base_state.sequence or 0)

    @property
    def last_accepted(self) -> LedgerEntry | None:
        return self.accepted[-1] if self.accepted else None

    @property
    def newest_entry(self) -> LedgerEntry | None:
        return self._by_time[max(self._by_time)] if self._by_time else None

    @property
    def held_entry(self) -> LedgerEntry | None:
        """The held snapshot that waits for approval: only the newest one, and only if none was accepted since."""
        newest = self.newest_entry
        return newest if newest and newest.status == "held" else None

    def with_entry(self, entry: LedgerEntry) -> LedgerHistory:
        return LedgerHistory([*self.entries, entry])


def read_histories(spark: SparkSession, lake: Lake, tables: list[str]) -> dict[str, LedgerHistory]:
    """The history of each of `tables`, in one query."""
    there = read_rows(spark, lake)
    ordered = there.where(F.col("table").isin(tables)).select(*_COLUMNS, _commit_version(there).alias(_COMMIT_VERSION))
    found = sorted(ordered.collect(), key=lambda row: (row[_COMMIT_VERSION], row["recorded_at"]))
    entries = [LedgerEntry(**_with_utc_times({name: row[name] for name in _COLUMNS})) for row in found]
    return {table: LedgerHistory([e for e in entries if e.table == table]) for table in tables}


_COLUMNS = list(LedgerEntry.__dataclass_fields__)
_COMMIT_VERSION = "_commit"


def _commit_version(rows: DataFrame) -> Column:
    """The version of the ledger that brought a row; 0 in one that was made before it had row tracking, or in none."""
    try:
        told = rows.select("_metadata").schema["_metadata"].dataType
    except PySparkException:  # no table as yet
        return F.lit(0)
    has_it = isinstance(told, T.StructType) and "row_commit_version" in told.names
    return F.coalesce("_metadata.row_commit_version", F.lit(0)) if has_it else F.lit(0)


def _with_utc_times(row: dict[str, Any]) -> dict[str, Any]:
    """Timestamps come back in the zone of the Python process, without saying so."""
    return {k: v.astimezone(timezone.utc) if isinstance(v, datetime) else v for k, v in row.items()}
