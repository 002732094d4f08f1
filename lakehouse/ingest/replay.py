"""Decides again about a table's snapshots from a time on, as if they had come in the order of their times.

Entry point: `replay`, for `lakehouse approve` of a late snapshot or of one that changed after it was taken, and for
`lakehouse ingest PIPELINE TABLE --full-refresh --from TIME`. Its steps:

1. list the snapshots from that time on that were accepted or unchanged, and the one that is put in its place
2. build the table as it was before them, in a table of its own
3. compare each of them with the rows before it: a change set each. The guards are not applied: an accepted one stays
   accepted, a rejected or held one is not asked again
4. make quarantine what it would be
5. append the rows of the ledger, in one commit: from now on they count, instead of all with their sequences

Before step 4 nothing has happened. After step 5 bronze does not fit the ledger (lakehouse/bronze/apply.py), and is made
equal to the fold of the change sets, by difference; the models follow it as always. If a run is killed between steps 4
and 5, the same command completes it: quarantine has other sequences until then, and the same rows of the last snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from lakehouse import bronze
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.failpoints import failpoint
from lakehouse.ingest.context import IngestContext, IngestResult
from lakehouse.ingest.decide import compare_and_write, decide_snapshot, refresh_bronze_if_missing
from lakehouse.lake import delta, ledger, quarantine
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.table_ref import TableRef
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name
from lakehouse.text import counted

_MAX_NAMES = 3


@dataclass(frozen=True)
class _ReplayedTable(TableRef):
    """The rows and the quarantine up to a snapshot, in tables of their own."""

    @property
    def bronze(self) -> str:
        return self.lake.spark_path(f"_state/replay/{self.name}/bronze")

    @property
    def quarantine(self) -> str:
        return self.lake.spark_path(f"_state/replay/{self.name}/quarantine")


def replay(context: IngestContext, start: datetime, reason: str, added: datetime | None = None) -> IngestResult:
    """Decide again about the snapshots from a time on.

    Args:
        context: The table's ingest.
        start: The time of the first snapshot.
        reason: Why, for the ledger; without values of rows.
        added: The time of a snapshot that is put in its place, whatever was decided about it.

    Returns:
        The rows that the ledger has for these snapshots.

    Raises:
        ConfigError: No snapshot of that time or later was accepted; or the table has a feed.
        DataRefused: A snapshot's files have expired, or cannot be accepted as they are now; nothing was changed.
    """
    history, table = context.history, context.table
    if context.config.feed:
        raise ConfigError(
            f"{table.name} has a feed, whose events give the same rows in any order",
            expected="a table of snapshots",
            where=str(context.pipeline.path),
            next_step=f"lakehouse ingest {context.pipeline.argument} {table.name} --full-refresh",
        )
    base = history.base_state
    if base and start <= base.snapshot_time and not base.is_rebuild_start:
        start = history.confirmed_times[0]  # the state before `start` cannot be folded any more
    times = sorted({time for time in (*history.confirmed_times, added) if time and time >= start})
    if not times:
        raise ConfigError(
            f"no snapshot of {table.name} from {snapshot_name(start)} on was accepted",
            expected="the time of an accepted snapshot, or one before it",
            where=str(context.pipeline.path),
            next_step=f"lakehouse history {context.pipeline.argument} {table.name}",
        )
    snapshots = _landed_snapshots(context, times)
    earlier = history.before(start).last_accepted
    first = (earlier.sequence or 0) + 1 if earlier else 1
    with _replayed_context(context, start) as replayed:
        failpoint("after_replay_base", table.name)
        entries = [_decide_again(replayed, snapshot) for snapshot in snapshots]
        failpoint("after_replay_compared", table.name)
        if delta.exists(table.spark, table.quarantine) or delta.exists(table.spark, replayed.table.quarantine):
            last = replayed.history.last_accepted
            sequence = (last.sequence or 0) if last else 0
            quarantine.replace_of_table(table, quarantine.read_at_sequence(replayed.table, sequence), sequence)
        failpoint("after_replay_quarantine", table.name)
        note = f"{ledger.NUMBERED_AGAIN} {first}: {reason}"
        entries[0] = replace(entries[0], reason="; ".join(filter(None, [note, entries[0].reason])))
        recorded = ledger.append_all(table.spark, table.lake, entries)
        failpoint("after_replay_recorded", table.name)
    return IngestResult(table.name, tuple(recorded))


def _landed_snapshots(context: IngestContext, times: list[datetime]) -> list[LandedSnapshot]:
    """Return the landed snapshots of these times.

    Raises:
        DataRefused: The files of some are not there.
    """
    lake, name = context.table.lake, context.table.name
    landed = {each.time: each for each in landing.list_snapshots(lake, name) if each.files and not each.expired}
    if lost := [snapshot_name(time) for time in times if time not in landed]:
        more = f" and {len(lost) - _MAX_NAMES} more" if len(lost) > _MAX_NAMES else ""
        raise DataRefused(
            f"the files of {counted(len(lost), 'snapshot')} of {name} have expired:"
            f" {', '.join(lost[:_MAX_NAMES])}{more}",
            expected=f"the landed files of every snapshot from {snapshot_name(times[0])} on",
            where=str(lake.landing_path(name)),
            next_step="deliver a correction as a new snapshot with its own time; `retention: {landing: ...}` sets how"
            " long files are kept",
        )
    return [landed[time] for time in times]


@contextmanager
def _replayed_context(context: IngestContext, start: datetime) -> Iterator[IngestContext]:
    """Provide the ingest of a table that has the rows before a time, and is removed at the end."""
    table, history = context.table, context.history.before(start)
    config = table.config.model_copy(update={"scd": 1, "history_for": None, "history_except": None})
    replayed = _ReplayedTable(table.spark, table.lake, table.name, config, table.tuning)
    addresses = (replayed.bronze, replayed.quarantine)
    for address in addresses:
        delta.drop(table.spark, address)  # of a replay that was killed
    try:
        if history.accepted:
            bronze.refresh(replayed, history, 0, full_refresh=True)
        if delta.exists(table.spark, table.quarantine):
            sequence = (history.last_accepted.sequence or 0) if history.last_accepted else 0
            quarantine.replace_of_table(replayed, quarantine.read_at_sequence(table, sequence), sequence)
        paths = frozenset(entry.path for entry in context.history.entries if entry.path)
        yield IngestContext(replayed, context.pipeline, context.run_id, history, reserved_paths=paths)
    finally:
        for address in addresses:
            delta.drop(table.spark, address)


def _decide_again(replayed: IngestContext, snapshot: LandedSnapshot) -> LedgerEntry:
    """Compare a snapshot with the rows before it, write its change set and return its row of the ledger.

    Raises:
        DataRefused: It cannot be accepted.
    """
    stamp = snapshot_name(snapshot.time)
    refresh_bronze_if_missing(replayed, snapshot)
    entry = decide_snapshot(replayed, snapshot, None, compare_and_write)
    if entry.status == "rejected":
        raise DataRefused(
            f"the snapshot {stamp} of {replayed.table.name} cannot be accepted any more: {entry.reason}",
            expected="snapshots that can be read by the present configuration",
            where=str(snapshot.folder),
            next_step="correct the configuration, or its files in the source; nothing was changed",
        )
    replayed.history = replayed.history.with_entry(entry)
    return entry
