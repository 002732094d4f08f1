"""Keeps the ledger: an append-only Delta table with one row for every decision about a snapshot.

Appending a row is the commit point of `ingest`: the change set is published by it, and before it nothing has happened.
The newest row of a (table, snapshot_time) counts.

Rows are in the order of the commits that appended them, whatever the clocks show. On a disk, where the lake's lock
leaves one writer, a commit is recorded later than all rows that are there. Elsewhere, Delta knows the commit of each
row (row tracking), and on S3 a run reads back its rows: the first row of a (table, sequence) counts, later ones are
void.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from threading import Lock
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import parse_columns
from lakehouse.errors import LakeBusy
from lakehouse.failpoints import failpoint
from lakehouse.lake import delta, small_tables
from lakehouse.lake.cdc import COUNT_COLUMNS
from lakehouse.lake.slices import Slices
from lakehouse.schema.table_schema import parse_schema
from lakehouse.spark.session import local_frame, local_rows
from lakehouse.storage import file_io
from lakehouse.storage.delta_log import newest_version
from lakehouse.storage.paths import Lake
from lakehouse.text import visible_lines

SCHEMA = """
    table STRING, sequence BIGINT, snapshot_time TIMESTAMP, fingerprint STRING, status STRING, kind STRING,
    path STRING, rows_read BIGINT, inserted BIGINT, updated BIGINT, deleted BIGINT, unchanged BIGINT,
    quarantined BIGINT, duplicates BIGINT, run_id STRING, recorded_at TIMESTAMP, reason STRING
"""
OPTIONAL_COLUMNS = {"missing": "BIGINT", "marks": "BIGINT", "slices": "STRING", "corrected": "BIGINT"}
"""Columns that a ledger gets when the first row has a value for one, with their types; before that they are null."""
REBUILT = "rebuilt by another schema"
"""The reason of the first change set of a rebuild begins with this."""
NUMBERED_AGAIN = "numbered again from"
"""The reason of the first row of a replay begins with this and the sequence from which on it replaces all others."""
LATE = "older than the last"
"""The reason of a snapshot that was rejected only because a newer one had been accepted begins with this."""
LEADING_ZEROS = "leading zeros are not kept"
"""The warning about numbers of a first load begins with this, at the end of its reason."""

_ROW_TRACKING = {"delta.enableRowTracking": "true"}
_CHECKPOINTS = {"delta.checkpointInterval": "10"}  # Delta's default, and not that of delta-rs
_TICK = timedelta(microseconds=1)
_COMMIT_VERSION = "_commit"
_CONFIRMED = ("accepted", "unchanged")
_MAX_BYTES = 32 << 20  # up to this size the driver reads the ledger; a decision takes some 10 KB


@dataclass(frozen=True)
class LedgerEntry:
    """One row of the ledger. Counts are numbers of rows, and None for a snapshot that was not read."""

    table: str
    sequence: int | None  # of accepted snapshots only
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
    missing: int | None = None  # keys missing after the snapshot, of a table that keeps them (`missing`)
    marks: int | None = None  # rows of the change set that only set or clear `_cdc_missing_since` (M and R)
    corrected: int | None = None  # keys in which a feed was wrong, by the snapshot beside it
    slices: str | None = None  # that the snapshot contains (`Slices.to_json`); None: it is the whole table

    def __post_init__(self) -> None:
        """Have a reason that is printable and cut, as it is recorded: it quotes names of files and columns."""
        if self.reason is not None:
            object.__setattr__(self, "reason", visible_lines(self.reason))

    @property
    def counts(self) -> dict[str, int]:
        """The counts by name; empty for a snapshot that was not read."""
        return {name: count for name in COUNT_COLUMNS if (count := getattr(self, name)) is not None}

    @property
    def changed_rows(self) -> int:
        """The number of rows in the change set."""
        return (self.inserted or 0) + (self.updated or 0) + (self.deleted or 0) + (self.marks or 0)

    @property
    def keeps_missing(self) -> bool:
        """Whether its change set was made by the rules of `missing`, so that it may set `_cdc_missing_since`."""
        return self.missing is not None

    @property
    def is_base_state(self) -> bool:
        """Whether folding begins with this, in place of older change sets.

        It is a table's state as of a sequence (lakehouse/retention/compact.py), or the first change set of a rebuild
        (lakehouse/ingest/rebuild.py).
        """
        return self.status == "accepted" and self.kind == "full-load" and (self.sequence or 0) > 1

    @property
    def is_rebuild_start(self) -> bool:
        """Whether this is the first change set of a rebuild, which has a sequence of its own."""
        return self.is_base_state and (self.reason or "").startswith(REBUILT)

    @property
    def is_late(self) -> bool:
        """Whether the snapshot was rejected only because a newer one had been accepted."""
        return self.status == "rejected" and (self.reason or "").startswith(LATE)

    @property
    def replay_start(self) -> int | None:
        """The sequence from which on this row and those after it replace all others; None for any other row.

        Only the first row of a replay has it (lakehouse/ingest/replay.py).
        """
        found = re.match(rf"{NUMBERED_AGAIN} (\d+):", self.reason or "", re.ASCII)
        return int(found[1]) if found else None


class LedgerHistory:
    """The ledger's rows of one table, oldest first.

    Attributes:
        entries: All rows.
        accepted: The row of each sequence, in order; of a batch of a feed that was taken again, the last one.
        replaced: The rows of batches that were taken again, up to the last time.
        base_state: The state with which folding begins, in place of older change sets, or None.
        rebuild_start: The first change set of the newest rebuild, or None.
        replay_starts: The sequences from which on all were numbered again, in the order in which this happened.
    """

    def __init__(self, entries: list[LedgerEntry]) -> None:
        self.entries = tuple(entries)
        first_of_sequence: dict[int, LedgerEntry] = {}
        states: dict[int, LedgerEntry] = {}
        self.replay_starts: list[int] = []
        for entry in entries:
            if (start := entry.replay_start) is not None:
                self.replay_starts.append(start)
                first_of_sequence = {s: e for s, e in first_of_sequence.items() if s < start}
                states = {s: e for s, e in states.items() if s < start}
            if entry.status == "accepted" and entry.sequence is not None:
                # of two drivers that raced, the first counts
                if entry.is_base_state:
                    states.setdefault(entry.sequence, entry)
                if not entry.is_base_state or entry.is_rebuild_start:
                    first_of_sequence.setdefault(entry.sequence, entry)
        every = [first_of_sequence[sequence] for sequence in sorted(first_of_sequence)]
        last = {entry.snapshot_time: entry for entry in every if entry.kind == "feed"}
        self.replaced = [e for e in every if e.kind == "feed" and last[e.snapshot_time] is not e]
        self.accepted = [e for e in every if e not in self.replaced]
        self.base_state = states[max(states)] if states else None
        rebuilds = [sequence for sequence, entry in states.items() if entry.is_rebuild_start]
        self.rebuild_start = states[max(rebuilds)] if rebuilds else None
        valid = {id(entry) for entry in self.accepted}
        decisions = [entry for entry in entries if entry.status != "accepted" or id(entry) in valid]
        self._by_time = {entry.snapshot_time: entry for entry in decisions}  # the newest row of a time counts
        self._newest_confirmed = max(self.confirmed_times, default=None)

    def entry_at(self, time: datetime) -> LedgerEntry | None:
        """Return the row that counts for the snapshot of a time."""
        return self._by_time.get(time)

    @property
    def replaced_times(self) -> set[datetime]:
        """The times of the batches of a feed that were taken again."""
        return {entry.snapshot_time for entry in self.replaced}

    @property
    def entries_to_fold(self) -> list[LedgerEntry]:
        """The rows whose change sets make up the table, in order: the base state, if any, and those after it."""
        if self.base_state is None:
            return self.accepted
        return [self.base_state, *(entry for entry in self.accepted if not self.is_dropped(entry))]

    def superseding(self, time: datetime) -> LedgerEntry | None:
        """Return the newest snapshot that was accepted or unchanged, if it is later than a time; else None.

        A snapshot of that time is late then, or superseded if it was held: it cannot be taken any more. A batch of a
        change feed has its own events, so that no later one takes its place.
        """
        newest = self._newest_confirmed
        if newest is None or newest <= time or self._by_time[newest].kind == "feed":
            return None
        return self._by_time[newest]

    @property
    def leading_zeros(self) -> str:
        """The warning about leading zeros of the first load, or empty; a rebuild by another schema ends it."""
        first = self.rebuild_start or (self.accepted[0] if self.accepted else None)
        reason = (first.reason or "") if first else ""
        return reason[reason.index(LEADING_ZEROS) :] if LEADING_ZEROS in reason else ""

    def is_dropped(self, entry: LedgerEntry) -> bool:
        """Return whether the base state took the place of an entry's change set."""
        return self.base_state is not None and (entry.sequence or 0) <= (self.base_state.sequence or 0)

    @property
    def last_accepted(self) -> LedgerEntry | None:
        """The row of the newest accepted snapshot."""
        return self.accepted[-1] if self.accepted else None

    @property
    def newest_accepted_time(self) -> datetime | None:
        """The time of the newest accepted snapshot, which a later batch of a change feed may precede."""
        return max((entry.snapshot_time for entry in self.accepted), default=None)

    @property
    def newest_entry(self) -> LedgerEntry | None:
        """The row of the newest snapshot."""
        return self._by_time[max(self._by_time)] if self._by_time else None

    @property
    def confirmed_times(self) -> list[datetime]:
        """The times of the snapshots that were accepted or unchanged, oldest first: the newest is that of the data."""
        return [entry.snapshot_time for entry in self.confirmed]

    @property
    def confirmed(self) -> list[LedgerEntry]:
        """The rows of the snapshots that were accepted or unchanged, oldest first."""
        found = (entry for entry in self._by_time.values() if entry.status in _CONFIRMED)
        return sorted(found, key=lambda entry: entry.snapshot_time)

    @property
    def held_entry(self) -> LedgerEntry | None:
        """The row of the held snapshot that waits for approval: the newest snapshot, if it is held.

        Of a change feed, it is the newest batch that is held: no later one has its events.
        """
        newest = self.newest_entry
        if newest and newest.status == "held":
            return newest
        batches = [e for e in self._by_time.values() if e.status == "held" and e.kind == "feed"]
        return max(batches, key=lambda entry: entry.snapshot_time, default=None)

    def with_entry(self, entry: LedgerEntry) -> LedgerHistory:
        """Return the history with one row more."""
        last = self.accepted[-1].sequence or 0 if self.accepted else 0
        is_next = entry.status == "accepted" and entry.sequence == last + 1 and not entry.is_base_state
        is_plain = is_next or entry.sequence is None
        if not is_plain or entry.replay_start is not None or entry.snapshot_time in self._by_time:
            return LedgerHistory([*self.entries, entry])
        # A backlog appends thousands of rows, one after the other: nothing is computed anew.
        history = copy(self)
        history.entries = (*self.entries, entry)
        history.accepted = [*self.accepted, entry] if is_next else self.accepted
        history._by_time = self._by_time | {entry.snapshot_time: entry}
        if entry.status in _CONFIRMED:
            history._newest_confirmed = max(self._newest_confirmed or entry.snapshot_time, entry.snapshot_time)
        return history

    def before(self, time: datetime) -> LedgerHistory:
        """Return the history of the snapshots before a time, as if there were no others."""
        return LedgerHistory([entry for entry in self.entries if entry.snapshot_time < time])


def create_if_missing(spark: SparkSession, lake: Lake) -> None:
    """Create the ledger if there is none. Call it before tables are worked on in parallel: only one can create it."""
    from lakehouse.lake import local_writer  # commands that only read the ledger need not wait for delta-rs

    is_tracked = not delta.is_on_disk(lake.ledger_table)
    if delta.exists(spark, lake.ledger_table):
        if is_tracked:
            _track_rows(spark, lake.ledger_table)
        return
    # With row tracking, Spark computes the state of the table for each commit, which costs more than a small ingest.
    properties, (fields, no_rows) = _ROW_TRACKING if is_tracked else _CHECKPOINTS, local_rows(SCHEMA, [])
    is_created = not is_tracked and local_writer.create(lake.ledger_table, no_rows, fields, properties)
    if not is_created and not delta.exists(spark, lake.ledger_table):
        delta.create(spark, lake.ledger_table, local_frame(spark, SCHEMA), properties, "append")
    failpoint("after_ledger_created")


def _track_rows(spark: SparkSession, address: str) -> None:
    """Track the rows of a ledger that was made on a disk, and moved to where other machines may write."""
    if delta.is_catalog_name(address):  # no lake is moved into a catalog, and only a query would tell
        return
    if not _ROW_TRACKING.items() <= delta.properties(spark, address).items():
        assignments = ", ".join(f"'{name}' = '{value}'" for name, value in _ROW_TRACKING.items())
        spark.sql(f"ALTER TABLE {delta.sql_name(address)} SET TBLPROPERTIES ({assignments})")


def append(spark: SparkSession, lake: Lake, entry: LedgerEntry) -> LedgerEntry:
    """Append a row, which publishes its decision. Rows of tables that are decided at the same time share a commit.

    Returns:
        The row with the time at which it was recorded.

    Raises:
        LakeBusy: Another run published that sequence of the table first.
    """
    request = _Request(entry)
    with _groups_lock:
        group = _groups.setdefault(lake.ledger_table, _Group())
        group.waiting.append(request)
    with group.commit_lock:
        if not request.is_done:
            with _groups_lock:
                batch, group.waiting = group.waiting, []
            _append_together(spark, lake, batch)
    if request.error is not None:
        raise request.error
    assert request.recorded is not None
    if lake.is_on_s3 and entry.sequence is not None:
        _require_first(spark, lake, request.recorded, request.commit_mark, request.version_before)
    return request.recorded


def append_all(spark: SparkSession, lake: Lake, entries: list[LedgerEntry]) -> list[LedgerEntry]:
    """Append rows of one table in one commit, which publishes all of them.

    Returns:
        The rows with the time at which they were recorded.

    Raises:
        LakeBusy: Another run published one of the sequences first.
    """
    requests = _append_in_one_commit(spark, lake, entries)
    recorded = [request.recorded for request in requests if request.recorded]
    published = next((entry for entry in recorded if entry.sequence is not None), None)
    if published and lake.is_on_s3:  # one commit: it is there, or it is not
        _require_first(spark, lake, published, requests[0].commit_mark, requests[0].version_before)
    return recorded


def append_unchanged(spark: SparkSession, lake: Lake, entries: list[LedgerEntry]) -> None:
    """Append rows of snapshots that were not read, of any tables, in one commit. They publish nothing."""
    _append_in_one_commit(spark, lake, entries)


def _append_in_one_commit(spark: SparkSession, lake: Lake, entries: list[LedgerEntry]) -> list[_Request]:
    requests = [_Request(entry) for entry in entries]
    with _groups_lock:
        group = _groups.setdefault(lake.ledger_table, _Group())
    with group.commit_lock:
        _append_together(spark, lake, requests)
    if error := requests[0].error:
        raise error
    return requests


@dataclass
class _Request:
    """A row to append, and its outcome."""

    entry: LedgerEntry
    recorded: LedgerEntry | None = None
    error: BaseException | None = None
    commit_mark: str = ""
    version_before: int = 0

    @property
    def is_done(self) -> bool:
        return self.recorded is not None or self.error is not None


@dataclass
class _Group:
    """The rows of one ledger that wait until the commit that is being made has ended."""

    waiting: list[_Request] = field(default_factory=list)
    commit_lock: Lock = field(default_factory=Lock)


_groups: dict[str, _Group] = {}
_groups_lock = Lock()


def _append_together(spark: SparkSession, lake: Lake, batch: list[_Request]) -> None:
    """Append rows in one commit; if that fails, each of their tables has the error."""
    mark = f"{batch[0].entry.table} {uuid.uuid4().hex}"
    try:
        recorded_at = _time_to_record(spark, lake)
        recorded = [replace(request.entry, recorded_at=recorded_at) for request in batch]
        version_before = newest_version(lake.path("raw", "ledger")) if lake.is_on_s3 else 0
        for request in batch:
            failpoint("before_ledger_append", request.entry.table)
        _write_rows(spark, lake.ledger_table, recorded, {"row": mark})
        for request in batch:
            failpoint("after_ledger_append", request.entry.table)
    except BaseException as error:
        for request in batch:
            request.error = error
        return
    for request, entry in zip(batch, recorded, strict=True):
        request.recorded, request.commit_mark, request.version_before = entry, mark, version_before


def _time_to_record(spark: SparkSession, lake: Lake) -> datetime:
    """Return the time of a commit: now, or later if rows are there that were recorded by a clock that was ahead."""
    now = datetime.now(timezone.utc)
    if not delta.is_on_disk(lake.ledger_table):
        return now
    recorded = (entry.recorded_at for entry in _read_entries(spark, lake) if entry.recorded_at)
    return max(now, max(recorded, default=now - _TICK) + _TICK)


def _write_rows(spark: SparkSession, address: str, entries: list[LedgerEntry], progress: Mapping[str, str]) -> None:
    """Append rows: the driver writes them, unless the ledger is not as this project makes it on a disk."""
    from lakehouse.lake import local_writer

    files = delta.data_files(address) if delta.is_on_disk(address) else None
    present = (files.schema if files else delta.schema(spark, address)).names
    types = {column.name: column.type for column in parse_columns(SCHEMA)} | OPTIONAL_COLUMNS
    added = [n for n in OPTIONAL_COLUMNS if n not in present and any(getattr(e, n) is not None for e in entries)]
    if added:
        delta.add_new_columns(spark, address, parse_schema(", ".join(f"{name} {types[name]}" for name in added)))
        files = delta.data_files(address) if files else None
    columns = [name for name in [*present, *added] if name in types]
    ddl = ", ".join(f"{name} {types[name]}" for name in columns)
    fields, rows = local_rows(ddl, [tuple(getattr(entry, name) for name in columns) for entry in entries])
    if files and files.schema == fields and local_writer.append(address, rows, progress):
        return
    frame = spark.createDataFrame(rows, fields).coalesce(1)
    delta.append(address, frame, userMetadata=delta.user_metadata(progress))


def _require_first(
    spark: SparkSession, lake: Lake, recorded: LedgerEntry, commit_mark: str, version_before: int
) -> None:
    """Raise if an appended row is not in the ledger, or is not the first of its sequence.

    Args:
        spark: The session to read in.
        lake: The lake whose ledger it is.
        recorded: The row.
        commit_mark: A text that only the commit of the row has.
        version_before: The ledger's version before that commit.

    Raises:
        LakeBusy: Another run was first.
    """
    history = read_histories(spark, lake, [recorded.table])[recorded.table]
    replays = [number for number, entry in enumerate(history.entries) if entry.replay_start is not None]
    current = history.entries[replays[-1] if replays else 0 :]  # a replay that came later voids the row
    same_sequence = (e for e in current if e.sequence == recorded.sequence)
    first = next((e for e in same_sequence if e.is_base_state == recorded.is_base_state), None)
    # Spark trusts its own commits, but another driver may have overwritten this one: look into the files.
    log = lake.path("raw", "ledger", "_delta_log")
    versions = range(version_before + 1, newest_version(lake.path("raw", "ledger")) + 1)
    commits = file_io.read_files(log / f"{version:020d}.json" for version in versions)
    is_overwritten = not any(commit_mark.encode() in commit for commit in commits if commit)
    if first and not is_overwritten and (first.run_id, first.recorded_at) == (recorded.run_id, recorded.recorded_at):
        return
    other_run = "another run" if is_overwritten or not first else f"run {first.run_id}"
    raise LakeBusy(
        f"change set {recorded.sequence} of {recorded.table} was published by {other_run} at the same time",
        expected="one run per lake at a time",
        where=lake.ledger_table,
        next_step=f"nothing that this run did for {recorded.table} counts; run again when the other run has ended",
    )


def delete_tables(spark: SparkSession, lake: Lake, tables: list[str]) -> None:
    """Delete all rows of these tables, so that they start again; their bronze streams then start again, too."""
    delta.table(spark, lake.ledger_table).delete(F.col("table").isin(tables))


def redact_reasons(spark: SparkSession, lake: Lake, table: str, redact_text: Callable[[str], str]) -> int:
    """Rewrite the reasons in a table's rows by `redact_text`, and return how many rows that changed."""
    changed = find_reasons(spark, lake, table, redact_text)
    _update_texts(spark, lake, table, "reason", changed)
    return len(changed)


def redact_slices(
    spark: SparkSession, lake: Lake, table: str, keys: Collection[str], redact_text: Callable[[str], str]
) -> int:
    """Remove the slices that name a key, if each key is a slice; return how many rows that changed.

    Args:
        spark: The session to work in.
        lake: The lake of the ledger.
        table: The table whose key it is.
        keys: The columns of the key. Slices that lack one of them name nobody.
        redact_text: Returns another text for one that names the key.
    """
    ledger = read_rows(spark, lake)
    if "slices" not in ledger.columns:
        return 0
    rows = ledger.where((F.col("table") == table) & F.col("slices").isNotNull())
    changed = []
    for row in rows.select("snapshot_time", "recorded_at", "slices").collect():
        found = Slices.from_json(row.slices)
        if found.values and set(keys) <= set(found.columns):
            texts = {each: Slices(found.columns, frozenset({each})).to_json() for each in found.values}
            rest = frozenset(each for each, text in texts.items() if redact_text(text) == text)
            if rest != found.values:
                changed.append((row.snapshot_time, row.recorded_at, Slices(found.columns, rest).to_json()))
    _update_texts(spark, lake, table, "slices", changed)
    return len(changed)


def _update_texts(
    spark: SparkSession, lake: Lake, table: str, column: str, changed: list[tuple[datetime, datetime, str]]
) -> None:
    """Replace the texts of a column, by snapshot time and time of the record."""
    if changed:  # by a join, since a literal in a condition would stay in Delta's history
        updates = spark.createDataFrame(changed, f"snapshot_time TIMESTAMP, recorded_at TIMESTAMP, {column} STRING")
        same_times = [F.col(f"l.{c}") == F.col(f"u.{c}") for c in ("snapshot_time", "recorded_at")]
        same_row = (F.col("l.table") == table) & same_times[0] & same_times[1]
        ledger = delta.table(spark, lake.ledger_table).alias("l").merge(updates.alias("u"), same_row)
        ledger.whenMatchedUpdate(set={column: f"u.{column}"}).execute()


def find_reasons(
    spark: SparkSession, lake: Lake, table: str, redact_text: Callable[[str], str]
) -> list[tuple[datetime, datetime, str]]:
    """Return the rows of a table whose reason `redact_text` changes: snapshot time, time of the record, new reason."""
    rows = read_rows(spark, lake).where((F.col("table") == table) & F.col("reason").isNotNull())
    redacted = {(r.snapshot_time, r.recorded_at, r.reason): redact_text(r.reason) for r in rows.collect()}
    return [(time, recorded_at, after) for (time, recorded_at, before), after in redacted.items() if before != after]


def read_rows(spark: SparkSession, lake: Lake) -> DataFrame:
    """Return the ledger as a DataFrame, empty if there is none."""
    return delta.read_or_empty(spark, lake.ledger_table, SCHEMA)


def newest_accepted_time(spark: SparkSession, lake: Lake) -> datetime | None:
    """Return the time of the newest accepted snapshot of any table: the models' `:newest_snapshot`."""
    entries = _read_entries(spark, lake)
    histories = [LedgerHistory([e for e in entries if e.table == table]) for table in {e.table for e in entries}]
    return max((time for each in histories if (time := each.newest_accepted_time)), default=None)


def read_histories(spark: SparkSession, lake: Lake, tables: list[str]) -> dict[str, LedgerHistory]:
    """Return the history of each of these tables."""
    entries = _read_entries(spark, lake)
    return {table: LedgerHistory([e for e in entries if e.table == table]) for table in tables}


def _read_entries(spark: SparkSession, lake: Lake) -> list[LedgerEntry]:
    """Return all rows in the order of the commits that appended them: by the driver, or else by Spark."""
    columns = list(LedgerEntry.__dataclass_fields__)
    if delta.is_missing(lake.ledger_table):
        return []
    required = [name for name in columns if name not in OPTIONAL_COLUMNS]
    rows = small_tables.read_with_commits(lake.ledger_table, _MAX_BYTES, _COMMIT_VERSION)
    if rows is not None and set(required) <= set(rows.column_names):
        dicts = small_tables.to_dicts(rows)
    else:
        ledger = read_rows(spark, lake)
        present = [name for name in columns if name in required or name in ledger.columns]
        dicts = [r.asDict() for r in ledger.select(*present, _commit_version(ledger).alias(_COMMIT_VERSION)).collect()]
    # Rows of one table in one commit are of a replay or of a rebuild, in the order of their snapshots.
    dicts.sort(key=lambda row: (row[_COMMIT_VERSION], row["recorded_at"], row["snapshot_time"]))
    return [LedgerEntry(**{name: _as_utc(row.get(name)) for name in columns}) for row in dicts]


def _commit_version(ledger: DataFrame) -> Column:
    """Return the ledger version that added a row: 0 without row tracking, or without a ledger."""
    try:
        metadata = ledger.select("_metadata").schema["_metadata"].dataType
    except PySparkException:  # there is no table yet
        return F.lit(0)
    has_versions = isinstance(metadata, T.StructType) and "row_commit_version" in metadata.names
    return F.coalesce("_metadata.row_commit_version", F.lit(0)) if has_versions else F.lit(0)


def _as_utc(value: Any) -> Any:
    """Return a time in UTC: PySpark returns times without a zone, in that of the Python process."""
    return value.astimezone(timezone.utc) if isinstance(value, datetime) else value
