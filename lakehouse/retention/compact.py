"""Replaces old change sets by the state that they lead to: `retention: {change_sets: 90d}`. In order, for a table:

1. find the newest sequence that is old enough: never the last one, and none that bronze has still to read
2. fold the change sets up to it, write the rows as another full load, and count them
3. append its row to the ledger: from now on, folding begins with it
4. remove the change sets that it replaces

If a run is killed before step 3, nothing has happened, and the next run writes the state again; after it, the next run
continues with step 4. A history (scd 2) needs every change, so all change sets are kept.
"""

from __future__ import annotations

from dataclasses import replace

from lakehouse import bronze
from lakehouse.errors import InfrastructureError
from lakehouse.failpoints import failpoint
from lakehouse.lake import change_sets, delta, ledger
from lakehouse.lake.cdc import COUNT_COLUMNS, DELETE, MISSING_SINCE
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.lake.marked_rows import is_marked
from lakehouse.lake.table_ref import TableRef
from lakehouse.retention.expire import RetentionLimit, RetentionResult
from lakehouse.schema import pii
from lakehouse.storage import file_io
from lakehouse.storage.file_io import escape_glob
from lakehouse.storage.paths import Lake, snapshot_name


def compact_change_sets(table: TableRef, limit: RetentionLimit, run_id: str) -> RetentionResult:
    """Drop the change sets of snapshots that are old enough, after a base state has taken their place.

    Args:
        table: The table, with a session that nobody else uses.
        limit: How long to keep them.
        run_id: The run, for the ledger.

    Raises:
        InfrastructureError: They do not give as many rows as the ledger reports; nothing is dropped.
        DataRefused: A value does not fit the schema that was declared since.
    """
    spark, lake = table.spark, table.lake
    history = ledger.read_histories(spark, lake, [table.name])[table.name]  # a failed attempt may have appended to it
    if reason := _reason_to_keep(table, history):
        return RetentionResult("kept", {"change_sets": 0, "bytes": 0}, reason)
    last = _last_to_compact(history, limit)
    sizes = _replaced_sizes(lake, history, last)
    if last and not limit.dry_run:
        base_state = _write_base_state(table, history, last, run_id)
        failpoint("after_base_state", table.name)
        ledger.append(spark, lake, base_state)
    if not limit.dry_run:
        for path in sizes:
            file_io.remove(lake.path(*path.split("/")))
    counts = {"change_sets": len(sizes), "bytes": sum(sizes.values())}
    return RetentionResult(limit.status("dropped", len(sizes)), counts)


def _reason_to_keep(table: TableRef, history: LedgerHistory) -> str:
    """Return why no change set of a table may be dropped; empty if old ones may."""
    if table.config.scd == 2:
        return "a history (scd 2) is built from all of them"
    if not history.accepted:
        return "there is none yet"
    if not bronze.is_current(delta.current_version(table.spark, table.bronze), table.config, history):
        return "bronze has still to read some"
    if mismatches := bronze.schema_mismatches(table):
        return f"the schema changed ({'; '.join(mismatches)}), and bronze has to be built from them"
    return ""


def _last_to_compact(history: LedgerHistory, limit: RetentionLimit) -> LedgerEntry | None:
    """Return the newest accepted row that is old enough; None if all up to it is one full load already."""
    old = [e for e in history.accepted[:-1] if limit.is_over(e.snapshot_time)]
    return old[-1] if old and old[-1].sequence != 1 and not history.is_dropped(old[-1]) else None


def _replaced_sizes(lake: Lake, history: LedgerHistory, last: LedgerEntry | None) -> dict[str, int]:
    """Return the bytes of each change set, by path, that a base state has replaced.

    Args:
        lake: The lake.
        history: The ledger's rows of the table.
        last: The row as of which a new base state is written; None: the one that is published stays.
    """
    last_sequence = (last or history.base_state or history.accepted[0]).sequence or 0
    published = [*history.accepted, *(e for e in history.entries if e.is_base_state)]
    kept = {e.path for e in published if (e.sequence or 0) > last_sequence}
    kept |= {history.entries_to_fold[0].path} if last is None else set()
    sizes = change_sets.sizes(lake)
    return {e.path: sizes[e.path] for e in published if e.path and e.path not in kept and e.path in sizes}


def _write_base_state(table: TableRef, history: LedgerHistory, last: LedgerEntry, run_id: str) -> LedgerEntry:
    """Write the live rows as of a row of the ledger, and return the row that publishes them.

    Columns that no snapshot has delivered yet are left out, as in change sets.
    """
    lake, entries = table.lake, [e for e in history.entries_to_fold if (e.sequence or 0) <= (last.sequence or 0)]
    used_paths = frozenset(e.path for e in history.entries if e.path)
    path = lake.compacted_path(table.name, last.sequence or 0, last.snapshot_time, used_paths)
    row_count = sum(_net_row_count(lake, entry) for entry in entries)
    keeps_missing = any(entry.keeps_missing for entry in entries)
    delivered = change_sets.delivered_columns(table, entries[-1])
    rows = bronze.fold_to_live_rows(table, entries)
    own = [MISSING_SINCE] if keeps_missing else []  # older change sets lack it
    rows = rows.drop(*[column for column in rows.columns if column not in [*delivered, *own]])
    marked = rows.where(is_marked()).count() if keeps_missing else 0
    row_count += marked
    change_sets.write(table, pii.with_labels(rows, table.config), path, row_count)
    written = table.spark.read.parquet(escape_glob(lake.spark_path(path))).count()
    if written != row_count:
        raise InfrastructureError(
            f"the change sets of {table.name} up to {last.sequence} give {written} rows",
            expected=f"{row_count} rows, which the ledger reports; nothing is dropped",
            where=lake.spark_path(entries[0].path or ""),
            next_step=f"lakehouse verify PIPELINE {table.name}",
        )
    reason = f"the state of {snapshot_name(last.snapshot_time)}; `retention` drops the change sets that it replaces"
    counts = dict.fromkeys(COUNT_COLUMNS, 0) | {"rows_read": row_count, "inserted": row_count}
    if keeps_missing:  # the rows of keys that are marked as deleted stand beside the live ones
        counts |= {"inserted": row_count - marked, "rows_read": row_count - marked, "marks": marked}
        counts |= {"missing": last.missing or 0}
    return replace(last, kind="full-load", path=path, run_id=run_id, reason=reason, **counts)  # type: ignore[arg-type]


def _net_row_count(lake: Lake, entry: LedgerEntry) -> int:
    """Return how many live rows a change set adds to the table, without rows that were erased since."""
    erased = change_sets.count_erased(lake.path(entry.path or ""))
    if entry.is_base_state:
        return (entry.inserted or 0) - erased.total() + erased[DELETE]  # which are rows of marked keys
    return (entry.inserted or 0) - (entry.deleted or 0) - erased["I"] + erased["D"]
