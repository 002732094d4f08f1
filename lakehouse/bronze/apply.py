"""Bronze: each table's current state or history, one data-changing commit per snapshot that changed something.

A stream over the ledger is the trigger. What is done depends on the ledger and on bronze's own commits alone, which
name the sequence they brought the table to; a checkpoint that is lost, late or wrong therefore costs time, not data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.bronze import fold, scd2
from lakehouse.bronze.read import live_rows
from lakehouse.config import Table
from lakehouse.lake import change_sets, delta, merge
from lakehouse.lake.cached_rows import MAX_LOCAL_ROWS
from lakehouse.lake.cdc import CDC_COLUMNS, CHANGED_COLUMNS
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.lake.merge import WriteResult, add_new_columns, merge_to_match
from lakehouse.schema.table_schema import stored_schema
from lakehouse.spark.session import isolated_session
from lakehouse.storage import file_io
from lakehouse.storage.delta_log import TableVersion
from lakehouse.storage.paths import Lake

LARGE_SNAPSHOT_BYTES = 128 << 20  # of a snapshot: from here on a table's files are not rewritten for a few rows


@dataclass(frozen=True)
class BronzeResult:
    """What bronze did: rows written, the sequence it is at now, and why it had to be compared whole, if it had to."""

    sequence: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    commits: int = 0
    repair_reason: str = ""

    def plus(self, written: WriteResult, sequence: int, repair_reason: str = "") -> BronzeResult:
        return BronzeResult(
            sequence,
            self.inserted + written.inserted,
            self.updated + written.updated,
            self.deleted + written.deleted,
            self.commits + written.committed,
            self.repair_reason or repair_reason,
        )


def refresh(
    spark: SparkSession,
    lake: Lake,
    name: str,
    table: Table,
    history: LedgerHistory,
    snapshot_bytes: int,
    full_refresh: bool = False,
) -> BronzeResult:
    """Bring a table to the ledger's last accepted sequence: the stage's entry point.

    Args:
        history: what the ledger says of the table.
        size: of its newest snapshot, in bytes.
        whole: compare it with the fold of all change sets, whatever its position says.
    """
    if full_refresh and history.accepted:
        return _repair(spark, lake, name, table, history, snapshot_bytes, "asked for", rebuild=True)
    _add_declared_columns(spark, lake, name, table)
    if is_current(delta.current_version(spark, lake.bronze_table(name)), table, history):
        return BronzeResult()
    results: list[BronzeResult] = []
    failures: list[Exception] = []

    def on_batch(batch: DataFrame, _: int) -> None:
        try:
            own = isolated_session(batch.sparkSession, snapshot_bytes)
            results.append(apply_pending(own, lake, name, table, history, snapshot_bytes))
        except Exception as error:
            failures.append(error)
            raise

    try:
        _stream_ledger(spark, lake, name, on_batch)
    except Exception:
        if failures:
            # The error itself, not the stream's report of it; its cause tells whether another attempt may help.
            raise failures[0] from failures[0].__cause__
        # The checkpoint does not fit the ledger (one of them was replaced). It is only a trigger: start it anew.
        file_io.remove(lake.local_path("bronze", name))
        _stream_ledger(spark, lake, name, on_batch)
    # Nothing new in the ledger does not mean that bronze is as it should be: it may have been restored or dropped.
    return results[-1] if results else apply_pending(spark, lake, name, table, history, snapshot_bytes)


def _add_declared_columns(spark: SparkSession, lake: Lake, name: str, table: Table) -> None:
    """Give bronze the columns that were added to the schema: models may name them before a snapshot has them."""
    path = lake.bronze_table(name)
    if delta.exists(spark, path):
        add_new_columns(spark, path, stored_schema(table))


def is_current(version: TableVersion | None, table: Table, history: LedgerHistory) -> bool:
    """Whether bronze holds what the ledger says, so that there is nothing to apply."""
    pending = [e.sequence or 0 for e in history.accepted if e.changed_rows or e.sequence == 1]
    if not pending:
        return True
    progress = version.recorded_progress() if version else None
    # A set without changes makes no commit; healing records the last sequence, whatever it holds.
    if progress is None or _repair_reason(table, progress, history.accepted[-1].sequence or 0):
        return False
    return bool(pending[-1] <= progress["sequence"])


def _commit_progress(table: Table, sequence: int) -> dict[str, Any]:
    """What a commit of bronze records: the sequence it brings the table to, and how a history is kept."""
    return {"stage": "bronze", "sequence": sequence} | ({"rule": scd2.history_rule(table)} if table.scd == 2 else {})


def _stream_ledger(spark: SparkSession, lake: Lake, name: str, on_batch: Callable[[DataFrame, int], None]) -> None:
    accepted = (F.col("table") == name) & (F.col("status") == "accepted")
    query = (
        delta.read_stream(spark, lake.ledger_table)
        .where(accepted)
        .writeStream.foreachBatch(on_batch)
        .option("checkpointLocation", lake.checkpoint_path(name))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()


def apply_pending(
    spark: SparkSession, lake: Lake, name: str, table: Table, history: LedgerHistory, snapshot_bytes: int
) -> BronzeResult:
    """Apply the accepted change sets that bronze has not got yet, in sequence.

    Args:
        size: of the newest snapshot, in bytes.

    Raises:
        InfrastructureError: a change set does not hold the rows that the ledger says.
        DataRefused: bronze is gone, and what it has to hold does not fit the schema that was declared since.
    """
    accepted = history.accepted
    if not accepted:
        return BronzeResult()
    last = accepted[-1].sequence or 0
    head = delta.current_version(spark, lake.bronze_table(name))
    if head is None:
        # bronze may be gone, and the schema another than it had
        fold.require_values_fit(spark, lake, table, history.entries_to_fold)
        at = 0
    else:
        progress = head.recorded_progress()
        if reason := _repair_reason(table, progress, last):
            return _repair(spark, lake, name, table, history, snapshot_bytes, reason)
        at = progress["sequence"] if progress else 0
    lost = [e for e in accepted if (e.sequence or 0) > at and history.is_dropped(e)]
    if lost and (at == 0 or any(e.changed_rows for e in lost)):
        reason = f"change sets up to {lost[-1].sequence} were dropped, and it was at {at}"
        return _repair(spark, lake, name, table, history, snapshot_bytes, reason)
    done = BronzeResult(at)
    for entry in accepted:
        if (entry.sequence or 0) > at:
            done = done.plus(
                _apply_change_set(spark, lake, name, table, entry, snapshot_bytes, first=at == 0), entry.sequence or 0
            )
            at = entry.sequence or 0
    return done


def _repair_reason(table: Table, progress: dict[str, Any] | None, last: int) -> str:
    """Why bronze cannot be brought forward by the change sets it lacks; empty if it can."""
    if progress is None:
        return "its rows were written by somebody else"
    if progress["sequence"] > last:
        return "it is ahead of the ledger"
    if table.scd == 2 and progress.get("rule") != scd2.history_rule(table):
        return f"it keeps its {progress.get('rule')}, and is to keep its {scd2.history_rule(table)}"
    return ""


def _apply_change_set(
    spark: SparkSession, lake: Lake, name: str, table: Table, entry: LedgerEntry, snapshot_bytes: int, first: bool
) -> WriteResult:
    if not entry.changed_rows and not first:
        return WriteResult()
    changes, taken = change_sets.read_complete(spark, lake, table, entry)
    path, keys, progress = lake.bronze_table(name), scd2.row_keys(table), _commit_progress(table, entry.sequence or 0)
    large = snapshot_bytes >= LARGE_SNAPSHOT_BYTES
    if entry.changed_rows and taken.total() == entry.changed_rows and delta.exists(spark, path):
        delta.record_progress(
            spark, path, progress
        )  # every row of it was forgotten: no commit would say it was applied
        return WriteResult()
    if table.scd == 2:
        changed = live_rows(spark, lake, name, table).join(changes.select(*table.keys), on=table.keys, how="left_semi")
        wanted, touched = scd2.apply_changes(changed, changes, table, stored_schema(table))
        return merge_to_match(
            spark, path, wanted, keys, progress, touched, entry.changed_rows <= MAX_LOCAL_ROWS, large=large
        )
    rows = changes.drop(CHANGED_COLUMNS)
    if not delta.exists(spark, path):
        return merge_to_match(spark, path, rows, keys, progress, large=large)
    # Bronze is where the set began, and so the set is the difference.
    actions = rows.withColumn(merge.ACTION, F.col("_cdc_operation"))
    told = {"I": entry.inserted or 0, "U": entry.updated or 0, "D": entry.deleted or 0}
    counts = {operation: rows - taken[operation] for operation, rows in told.items()}
    return merge.merge_changes(spark, path, actions, counts, keys, progress, large)


def schema_mismatches(spark: SparkSession, lake: Lake, name: str, table: Table) -> list[str]:
    """What of bronze's columns the declared schema renames, removes or types otherwise."""
    if not delta.exists(spark, lake.bronze_table(name)):
        return []
    wanted = {f.name: f.dataType for f in stored_schema(table)}
    found = []
    there = delta.read(spark, lake.bronze_table(name)).schema
    if (kept := scd2.START in there.names) != (table.scd == 2):
        found.append(f"scd: {2 if kept else 1} is now {table.scd}")
    for field in there:
        if field.name in (*CDC_COLUMNS, scd2.START, scd2.END, *table.pii):
            continue  # of a personal column the change sets tell more than its type
        if field.name not in wanted:
            found.append(f"{field.name} is gone")
        elif field.dataType != wanted[field.name]:
            found.append(f"{field.name}: {field.dataType.simpleString()} is now {wanted[field.name].simpleString()}")
    return found


def _repair(
    spark: SparkSession,
    lake: Lake,
    name: str,
    table: Table,
    history: LedgerHistory,
    snapshot_bytes: int,
    reason: str,
    rebuild: bool = False,
) -> BronzeResult:
    """Compare bronze with the fold of its change sets and write what differs.

    Raises:
        DataRefused: a value of a change set does not fit the schema that was declared since.
    """
    path, last = lake.bronze_table(name), history.accepted[-1].sequence or 0
    wanted, keys = fold.fold_change_sets(spark, lake, table, history.entries_to_fold), scd2.row_keys(table)
    # The commit is told from one that applies a change set; what it brings the table to is the same.
    healed, large = _commit_progress(table, last) | {"healed": reason}, snapshot_bytes >= LARGE_SNAPSHOT_BYTES
    written = merge_to_match(spark, path, wanted, keys, healed, rebuild=rebuild, large=large)
    if not written.committed:
        delta.record_progress(spark, path, _commit_progress(table, last))
    return BronzeResult().plus(written, last, repair_reason=reason)
