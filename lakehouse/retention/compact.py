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
from lakehouse.lake.ledger import Entry, History
from lakehouse.retention.expire import Expired, status
from lakehouse.schema import pii
from lakehouse.storage import file_io
from lakehouse.storage.file_io import escape_glob
from lakehouse.storage.paths import Lake, snapshot_name

_NOTHING = {"change_sets": 0, "bytes": 0}


def change_sets(
    spark: SparkSession,
    lake: Lake,
    name: str,
    table: Table,
    now: datetime,
    keep: timedelta,
    run_id: str,
    dry: bool,
) -> Expired:
    """Drop the change sets of snapshots that were taken more than `keep` ago.

    Args:
        spark: a session of the caller's own.
        dry: only count them.

    Raises:
        InfrastructureError: they do not come to as many rows as the ledger says; nothing is dropped.
        DataRefused: a value of theirs does not fit the schema that was declared since.
    """
    history = ledger.read(spark, lake, [name])[name]  # anew at each attempt: one that failed may have published
    if why := _why_kept(spark, lake, name, table, history):
        return Expired("kept", _NOTHING, why)
    until = _until(history, now, keep)
    doomed = _doomed(lake, history, until)
    if until and not dry:
        ledger.append(spark, lake, _written(spark, lake, table, history, until, run_id))
    for path in () if dry else doomed:
        file_io.remove(lake.path(*path.split("/")))
    return Expired(status("dropped", len(doomed), dry), {"change_sets": len(doomed), "bytes": sum(doomed.values())})


def _why_kept(spark: SparkSession, lake: Lake, name: str, table: Table, history: History) -> str:
    """Why no change set of a table may go; empty if old ones may."""
    if table.scd == 2:
        return "a history (scd 2) is built from all of them"
    if not history.accepted:
        return "there is none yet"
    if not apply.is_current(delta.head(spark, lake.bronze_table(name)), table, history):
        return "bronze has still to read some"
    if other := apply.misfits(spark, lake, name, table):
        return f"the schema changed ({'; '.join(other)}), and bronze has to be built from them"
    return ""


def _until(history: History, now: datetime, keep: timedelta) -> Entry | None:
    """The newest accepted row that is old enough; None if all up to it is one full-load already."""
    old = [e for e in history.accepted[:-1] if now - e.snapshot_time > keep]
    return old[-1] if old and old[-1].sequence != 1 and not history.is_dropped(old[-1]) else None


def _doomed(lake: Lake, history: History, until: Entry | None) -> dict[str, int]:
    """The change sets that are there and that a state up to `until`, or the one that is published, stands for: bytes
    by path."""
    last = (until or history.base or history.accepted[0]).sequence or 0
    named = [*history.accepted, *(e for e in history.entries if e.is_state)]
    stay = {e.path for e in named if (e.sequence or 0) > last}
    stay |= {history.change_sets[0].path} if until is None else set()
    there = published.of_raw(lake)
    return {e.path: there[e.path] for e in named if e.path and e.path not in stay and e.path in there}


def _written(spark: SparkSession, lake: Lake, table: Table, history: History, until: Entry, run_id: str) -> Entry:
    """Write the state as of `until`; returns the row that publishes it."""
    sets = [e for e in history.change_sets if (e.sequence or 0) <= (until.sequence or 0)]
    taken = frozenset(e.path for e in history.entries if e.path)
    path = lake.compacted_path(until.table, until.sequence or 0, until.snapshot_time, taken)
    delivered = published.delivered(spark, lake, table, sets[-1])
    state = fold.state(spark, lake, table, sets)
    lacking = [column for column in state.columns if column not in delivered]
    rows, told = pii.with_labels(state.drop(*lacking), table), sum(_live(lake, entry) for entry in sets)
    published.write(rows, lake.spark_path(path), told)
    if (found := spark.read.parquet(escape_glob(lake.spark_path(path))).count()) != told:
        raise InfrastructureError(
            f"the change sets of {until.table} up to {until.sequence} come to {found} rows",
            expected=f"{told} rows, as the ledger says; nothing is dropped",
            where=lake.spark_path(sets[0].path or ""),
            next_step=f"lakehouse verify PIPELINE {until.table}",
        )
    reason = f"the state of {snapshot_name(until.snapshot_time)}; `retention` drops the change sets that it stands for"
    entry = replace(until, kind="full-load", path=path, run_id=run_id, reason=reason)
    return replace(entry, **(dict.fromkeys(ledger.COUNTS, 0) | {"rows_read": told, "inserted": told}))  # type: ignore[arg-type]


def _live(lake: Lake, entry: Entry) -> int:
    """How many rows more there are after a change set than before it, those apart that were forgotten since."""
    taken = published.taken_out(lake.path(entry.path or ""))
    if entry.is_state:
        return (entry.inserted or 0) - taken.total()
    return (entry.inserted or 0) - (entry.deleted or 0) - taken["I"] + taken["D"]
