"""Old change sets give way to the state that they come to: `retention: {change_sets: 90d}`. In order, for a table:

1. find the newest sequence that is older than that; never the last, and none that bronze has still to read
2. fold the change sets up to there, write what comes of it as another full-load, and count it
3. append its row to the ledger: from here on a fold begins with it
4. remove the change sets that it stands for

Killed before 3, nothing has happened and the next time writes the state anew; after it, the next time goes on with 4.
What needs every change, a history (scd 2), keeps them all.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from pyspark.sql import SparkSession

from lakehouse.bronze import apply, fold
from lakehouse.config import Table
from lakehouse.errors import InfrastructureError
from lakehouse.lake import change_sets as published
from lakehouse.lake import delta, ledger
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.retention.expire import RetentionResult, result_status
from lakehouse.schema import pii
from lakehouse.storage import file_io
from lakehouse.storage.file_io import escape_glob
from lakehouse.storage.paths import Lake, snapshot_name

_NO_COUNTS = {"change_sets": 0, "bytes": 0}


def compact_change_sets(
    spark: SparkSession,
    lake: Lake,
    name: str,
    table: Table,
    now: datetime,
    keep: timedelta,
    run_id: str,
    dry_run: bool,
) -> RetentionResult:
    """Drop the change sets of snapshots that were taken more than `keep` ago.

    Args:
        spark: a session of the caller's own.
        dry: only count them.

    Raises:
        InfrastructureError: they do not come to as many rows as the ledger says; nothing is dropped.
        DataRefused: a value of theirs does not fit the schema that was declared since.
    """
    history = ledger.read_histories(spark, lake, [name])[
        name
    ]  # anew at each attempt: one that failed may have published
    if why := _reason_to_keep(spark, lake, name, table, history):
        return RetentionResult("kept", _NO_COUNTS, why)
    until = _last_to_compact(history, now, keep)
    doomed = _superseded_sizes(lake, history, until)
    if until and not dry_run:
        ledger.append(spark, lake, _write_base_state(spark, lake, table, history, until, run_id))
    for path in () if dry_run else doomed:
        file_io.remove(lake.path(*path.split("/")))
    return RetentionResult(
        result_status("dropped", len(doomed), dry_run), {"change_sets": len(doomed), "bytes": sum(doomed.values())}
    )


def _reason_to_keep(spark: SparkSession, lake: Lake, name: str, table: Table, history: LedgerHistory) -> str:
    """Why no change set of a table may go; empty if old ones may."""
    if table.scd == 2:
        return "a history (scd 2) is built from all of them"
    if not history.accepted:
        return "there is none yet"
    if not apply.is_current(delta.current_version(spark, lake.bronze_table(name)), table, history):
        return "bronze has still to read some"
    if other := apply.schema_mismatches(spark, lake, name, table):
        return f"the schema changed ({'; '.join(other)}), and bronze has to be built from them"
    return ""


def _last_to_compact(history: LedgerHistory, now: datetime, keep: timedelta) -> LedgerEntry | None:
    """The newest accepted row that is old enough; None if all up to it is one full-load already."""
    old = [e for e in history.accepted[:-1] if now - e.snapshot_time > keep]
    return old[-1] if old and old[-1].sequence != 1 and not history.is_dropped(old[-1]) else None


def _superseded_sizes(lake: Lake, history: LedgerHistory, last_entry: LedgerEntry | None) -> dict[str, int]:
    """The change sets that are there and that a state up to `until`, or the one that is published, stands for: bytes
    by path."""
    last = (last_entry or history.base_state or history.accepted[0]).sequence or 0
    named = [*history.accepted, *(e for e in history.entries if e.is_base_state)]
    stay = {e.path for e in named if (e.sequence or 0) > last}
    stay |= {history.entries_to_fold[0].path} if last_entry is None else set()
    there = published.sizes(lake)
    return {e.path: there[e.path] for e in named if e.path and e.path not in stay and e.path in there}


def _write_base_state(
    spark: SparkSession, lake: Lake, table: Table, history: LedgerHistory, last_entry: LedgerEntry, run_id: str
) -> LedgerEntry:
    """Write the state as of `until`; returns the row that publishes it."""
    sets = [e for e in history.entries_to_fold if (e.sequence or 0) <= (last_entry.sequence or 0)]
    taken = frozenset(e.path for e in history.entries if e.path)
    path = lake.compacted_path(last_entry.table, last_entry.sequence or 0, last_entry.snapshot_time, taken)
    delivered = published.delivered_columns(spark, lake, table, sets[-1])
    state = fold.fold_to_live_rows(spark, lake, table, sets)
    lacking = [column for column in state.columns if column not in delivered]
    rows, told = pii.with_labels(state.drop(*lacking), table), sum(_net_row_count(lake, entry) for entry in sets)
    published.write(rows, lake.spark_path(path), told)
    if (found := spark.read.parquet(escape_glob(lake.spark_path(path))).count()) != told:
        raise InfrastructureError(
            f"the change sets of {last_entry.table} up to {last_entry.sequence} come to {found} rows",
            expected=f"{told} rows, as the ledger says; nothing is dropped",
            where=lake.spark_path(sets[0].path or ""),
            next_step=f"lakehouse verify PIPELINE {last_entry.table}",
        )
    reason = (
        f"the state of {snapshot_name(last_entry.snapshot_time)}; `retention` drops the change sets that it stands for"
    )
    entry = replace(last_entry, kind="full-load", path=path, run_id=run_id, reason=reason)
    return replace(entry, **(dict.fromkeys(ledger.COUNT_COLUMNS, 0) | {"rows_read": told, "inserted": told}))  # type: ignore[arg-type]


def _net_row_count(lake: Lake, entry: LedgerEntry) -> int:
    """How many rows more there are after a change set than before it, those apart that were forgotten since."""
    taken = published.count_erased(lake.path(entry.path or ""))
    if entry.is_base_state:
        return (entry.inserted or 0) - taken.total()
    return (entry.inserted or 0) - (entry.deleted or 0) - taken["I"] + taken["D"]
