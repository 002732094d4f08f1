"""Applies change sets to bronze: one commit that changes data for each snapshot that changed something.

The work depends only on the ledger and on bronze's own commits, which name the sequence that they brought the table
to. The stream over the ledger (from `tuning.stream_from_bytes` on) is a trigger: a checkpoint that is lost, late or
wrong costs time, not data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.bronze import apply_feed, backlog, feed_rules, fold, missing_keys, scd2
from lakehouse.bronze.apply_feed import ComputedBatch
from lakehouse.bronze.read import live_rows
from lakehouse.config import Table
from lakehouse.config.row_keys import ROW_COUNT, ROW_ID
from lakehouse.failpoints import failpoint
from lakehouse.lake import change_sets, delta, feed_events, small_tables
from lakehouse.lake.cdc import CHANGED_COLUMNS, MISSING_SINCE, REPAIR_REASON_KEY, REPLAYS_KEY, SEQUENCES_KEY
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.lake.merge import (
    ACTION,
    MergeTarget,
    WriteResult,
    create_from_batches,
    delete_doubled,
    merge_batches,
    merge_changes,
    merge_to_match,
)
from lakehouse.lake.table_ref import TableRef
from lakehouse.spark.session import isolated_session
from lakehouse.storage import file_io
from lakehouse.storage.delta_log import TableVersion


@dataclass(frozen=True)
class BronzeResult:
    """The result of a bronze refresh.

    Attributes:
        sequence: The sequence that bronze is at.
        inserted: Rows inserted; so `updated` and `deleted`.
        commits: Commits that changed data.
        repair_reason: Why bronze was compared with all change sets; empty if it was not.
    """

    sequence: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    commits: int = 0
    repair_reason: str = ""

    def plus(self, written: WriteResult, sequence: int, repair_reason: str = "") -> BronzeResult:
        """Return the result with one more write, which brought bronze to `sequence`."""
        return BronzeResult(
            sequence,
            self.inserted + written.inserted,
            self.updated + written.updated,
            self.deleted + written.deleted,
            self.commits + written.committed,
            self.repair_reason or repair_reason,
        )


def refresh(
    table: TableRef,
    history: LedgerHistory,
    snapshot_bytes: int,
    full_refresh: bool = False,
    computed: ComputedBatch | None = None,
) -> BronzeResult:
    """Bring a table to the ledger's last accepted sequence.

    Args:
        table: The table, with a session that nobody else uses.
        history: The ledger's rows of the table.
        snapshot_bytes: The size of its newest snapshot.
        full_refresh: Whether to compare bronze with all change sets, regardless of its sequence.
        computed: Of a change feed: the changes of the newest batch, if `ingest` has just computed them.

    Returns:
        The counts of rows and commits.

    Raises:
        InfrastructureError: A change set does not have the rows that the ledger reports.
        DataRefused: Bronze has to be rebuilt, and values do not fit the schema that was declared since.
    """
    if full_refresh and history.accepted:
        return _repair(table, history, snapshot_bytes, "asked for", replace=True)
    if delta.exists(table.spark, table.bronze):  # models may name a new column before a snapshot has it
        missing = [change_sets.MISSING_FIELD] if table.config.grace else []
        # A table that gets `keys: all` is rebuilt: no row that it has could get a value of those columns in place.
        declared = [field for field in table.schema if field.name not in (ROW_ID, ROW_COUNT)]
        delta.add_new_columns(table.spark, table.bronze, T.StructType([*declared, *missing]))
    if is_current(delta.current_version(table.spark, table.bronze), table.config, history):
        return BronzeResult()
    if snapshot_bytes < table.tuning.stream_from_bytes:
        return apply_pending(table, history, snapshot_bytes, computed)
    results: list[BronzeResult] = []
    failures: list[Exception] = []

    def on_batch(batch: DataFrame, _: int) -> None:
        try:
            batch_table = table.with_spark(isolated_session(batch.sparkSession, snapshot_bytes))
            results.append(apply_pending(batch_table, history, snapshot_bytes, computed))
            failpoint("before_checkpoint", table.name)
        except Exception as error:
            failures.append(error)
            raise

    try:
        _stream_ledger(table, on_batch)
    except Exception:
        if failures:
            # Raise the error itself, not the stream's report of it; its cause shows whether a retry may help.
            raise failures[0] from failures[0].__cause__
        # The checkpoint does not fit the ledger, one of which was replaced. It is only a trigger: start a new one.
        file_io.remove(table.lake.local_path("bronze", table.name))
        _stream_ledger(table, on_batch)
    # Without a new row in the ledger there is no batch. Bronze may still have been restored or dropped.
    return results[-1] if results else apply_pending(table, history, snapshot_bytes, computed)


def _stream_ledger(table: TableRef, on_batch: Callable[[DataFrame, int], None]) -> None:
    """Call `on_batch` if the ledger has accepted rows of the table that its checkpoint has not seen."""
    is_accepted = (F.col("table") == table.name) & (F.col("status") == "accepted")
    query = (
        delta.read_stream(table.spark, table.lake.ledger_table)
        .where(is_accepted)
        .writeStream.foreachBatch(on_batch)
        .option("checkpointLocation", table.lake.checkpoint_path(table.name))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()


def is_current(version: TableVersion | None, table: Table, history: LedgerHistory) -> bool:
    """Return whether bronze is at the ledger's last accepted sequence, so that there is nothing to apply.

    Args:
        version: Bronze's current version.
        table: The table's configuration.
        history: The ledger's rows of the table.
    """
    with_commit = [e.sequence or 0 for e in history.accepted if e.changed_rows or e.sequence == 1]
    if not with_commit:
        return True
    progress = version.recorded_progress() if version else None
    # A change set without rows makes no commit. A repair records the last sequence, whatever its change set has.
    if progress is None or _repair_reason(table, progress, history):
        return False
    return bool(with_commit[-1] <= progress["sequence"])


def apply_pending(
    table: TableRef, history: LedgerHistory, snapshot_bytes: int, computed: ComputedBatch | None = None
) -> BronzeResult:
    """Apply the accepted change sets that bronze does not have yet, in sequence.

    Args:
        table: The table, with a session that nobody else uses.
        history: The ledger's rows of the table.
        snapshot_bytes: The size of its newest snapshot.
        computed: Of a change feed: the changes of the newest batch, if `ingest` has just computed them.

    Returns:
        The counts of rows and commits.

    Raises:
        InfrastructureError: A change set does not have the rows that the ledger reports.
        DataRefused: There is no bronze, and values do not fit the schema that was declared since.
    """
    accepted = history.accepted
    if not accepted:
        return BronzeResult()
    version = delta.current_version(table.spark, table.bronze)
    if version is None:
        # Bronze may have been dropped, and the schema may have changed since.
        if table.config.feed is None:
            fold.require_values_fit(table, history.entries_to_fold)
        sequence = 0
    else:
        progress = version.recorded_progress()
        if _is_before_rebuild(progress, history):
            return _repair(table, history, snapshot_bytes, "its change sets were rebuilt", replace=True)
        if reason := _repair_reason(table.config, progress, history):
            return _repair(table, history, snapshot_bytes, reason)
        sequence = progress["sequence"] if progress else 0
    if table.config.feed and _was_taken_again(history, sequence):
        return _repair(table, history, snapshot_bytes, "a batch was taken again after batches that it does not have")
    dropped = [e for e in accepted if (e.sequence or 0) > sequence and history.is_dropped(e)]
    if dropped and (sequence == 0 or any(e.changed_rows for e in dropped)):
        reason = f"change sets up to {dropped[-1].sequence} were dropped, and it was at {sequence}"
        return _repair(table, history, snapshot_bytes, reason)
    is_new, is_large = sequence == 0, snapshot_bytes >= table.tuning.large_snapshot_bytes
    result = BronzeResult(sequence)
    pending = [e for e in accepted if (e.sequence or 0) > sequence and (e.changed_rows or (is_new and e.sequence == 1))]
    for group in backlog.groups(table, pending, not is_new):
        if len(group) > 1 and (written := _apply_net(table, group, is_large, history)):
            result = result.plus(written, group[-1].sequence or 0)
            continue
        for entry in group:
            before = [each for each in accepted if (each.sequence or 0) < (entry.sequence or 0)]
            progress = _commit_progress(table.config, entry.sequence or 0, history)
            failpoint("before_bronze", table.name)
            if table.config.feed:
                written = _apply_batch(table, before, entry, is_large, progress, history, computed)
            else:
                written = _apply_change_set(table, entry, is_large, progress)
            failpoint("after_bronze", table.name)
            result = result.plus(written, entry.sequence or 0)
    return replace(result, sequence=max(result.sequence, accepted[-1].sequence or 0))


def _apply_net(
    table: TableRef, entries: list[LedgerEntry], is_large: bool, history: LedgerHistory
) -> WriteResult | None:
    """Apply the net change of several change sets in one commit, which lists their sequences; None: not possible."""
    net = backlog.net_changes(table, entries)
    if net is None:
        return None
    rows, counts = net
    sequences = [entry.sequence or 0 for entry in entries]
    progress = _commit_progress(table.config, sequences[-1], history) | {SEQUENCES_KEY: sequences}
    if not counts:
        delta.record_progress(table.spark, table.bronze, progress)
        return WriteResult()
    return merge_changes(_target(table, is_large), rows, counts, progress)


def is_rebuild_pending(table: TableRef, history: LedgerHistory) -> bool:
    """Return whether the change sets were rebuilt by another schema, and bronze is not built from them yet.

    Args:
        table: The table.
        history: The ledger's rows of the table.
    """
    if history.rebuild_start is None:
        return False
    version = delta.current_version(table.spark, table.bronze)
    return version is not None and _is_before_rebuild(version.recorded_progress(), history)


def _is_before_rebuild(progress: dict[str, Any] | None, history: LedgerHistory) -> bool:
    start = history.rebuild_start
    return start is not None and progress is not None and progress["sequence"] < (start.sequence or 0)


def _repair_reason(table: Table, progress: dict[str, Any] | None, history: LedgerHistory) -> str:
    """Return why change sets cannot be applied to bronze as it is; empty if they can."""
    if progress is None:
        return "its rows were written by somebody else"
    if progress.get(REPLAYS_KEY, 0) != len(history.replay_starts):
        return "its change sets were numbered again"
    if progress["sequence"] > (history.accepted[-1].sequence or 0):
        return "it is ahead of the ledger"
    if table.feed:
        return "" if progress.get("rule") == feed_rules.feed_rule(table) else "the rules of its feed changed"
    if table.scd == 2 and progress.get("rule") != scd2.history_rule(table):
        return f"it keeps its {progress.get('rule')}, and is to keep its {scd2.history_rule(table)}"
    return ""


def _was_taken_again(history: LedgerHistory, sequence: int) -> bool:
    """Return whether a batch of a feed was taken again after others that a bronze at this sequence does not have.

    Its row in the ledger comes after theirs. Before it, they cannot be applied as they came: its first version is gone.
    """
    of_again = [e.sequence or 0 for e in history.accepted if e.snapshot_time in history.replaced_times]
    last = max(of_again, default=0)
    return last > sequence and (sequence == 0 or any(sequence < (e.sequence or 0) < last for e in history.accepted))


def _commit_progress(table: Table, sequence: int, history: LedgerHistory) -> dict[str, Any]:
    """Return the record of a commit of bronze: the sequence that it brings the table to, and by which rule.

    Where sequences were numbered again, it has how often.
    """
    progress: dict[str, Any] = {"stage": "bronze", "sequence": sequence}
    if history.replay_starts:
        progress[REPLAYS_KEY] = len(history.replay_starts)
    if table.feed:
        return progress | {"rule": feed_rules.feed_rule(table)}
    return progress | ({"rule": scd2.history_rule(table)} if table.scd == 2 else {})


def _target(table: TableRef, is_large: bool, replace: bool = False) -> MergeTarget:
    keys, tuning = scd2.row_keys(table.config), table.tuning
    temp_root = table.lake.local_path("plain")
    return MergeTarget(table.spark, table.bronze, keys, is_large, lambda: replace, tuning=tuning, temp_root=temp_root)


def _apply_batch(
    table: TableRef,
    before: list[LedgerEntry],
    entry: LedgerEntry,
    is_large: bool,
    progress: dict[str, Any],
    history: LedgerHistory,
    computed: ComputedBatch | None,
) -> WriteResult:
    is_replacement = entry.snapshot_time in history.replaced_times
    with feed_events.conditions_computed(table.lake.spark_path(entry.path or "")):
        target = _target(table, is_large)
        return apply_feed.apply_batch(table, before, entry, is_replacement, target, progress, computed)


def _apply_change_set(table: TableRef, entry: LedgerEntry, is_large: bool, progress: dict[str, Any]) -> WriteResult:
    if table.config.scd == 1 and (written := _apply_in_driver(table, entry, is_large, progress)):
        return written
    changes, erased = change_sets.read_complete(table, entry)
    target, has_bronze = _target(table, is_large), delta.exists(table.spark, table.bronze)
    if entry.changed_rows and erased.total() == entry.changed_rows and has_bronze:
        # All its rows were forgotten, so that no commit would record that it was applied.
        delta.record_progress(table.spark, table.bronze, progress)
        return WriteResult()
    if (has_bronze or table.config.scd == 2) and _has_missing_since(table, entry):
        wanted, affected = missing_keys.apply_changes(table, changes.rows)
        return merge_to_match(target, wanted, progress, affected, entry.changed_rows <= table.tuning.local_rows)
    if table.config.scd == 2:
        changed_keys = changes.rows.select(*table.config.keys)
        open_windows = live_rows(table).join(changed_keys, on=table.config.keys, how="left_semi")
        wanted, affected = scd2.apply_changes(open_windows, changes.rows, table.config, table.schema)
        return merge_to_match(target, wanted, progress, affected, entry.changed_rows <= table.tuning.local_rows)
    rows = changes.drop([CHANGED_COLUMNS])
    if not has_bronze:
        return merge_to_match(target, rows, progress)
    # Bronze is where the change set began, and so the change set is the difference.
    counts = {"I": entry.inserted or 0, "U": entry.updated or 0, "D": entry.deleted or 0}
    remaining = {operation: count - erased[operation] for operation, count in counts.items()}
    return merge_changes(target, rows.with_copy("_cdc_operation", ACTION), remaining, progress)


def _apply_in_driver(
    table: TableRef, entry: LedgerEntry, is_large: bool, progress: dict[str, Any]
) -> WriteResult | None:
    """Create bronze from its first change set, or apply a large one or one to a large bronze; None: Spark does it."""
    has_bronze = delta.exists(table.spark, table.bronze)
    if has_bronze and _has_missing_since(table, entry):
        return None  # rows of keys that go missing, or are back, keep columns that only bronze has
    if has_bronze and not is_large and entry.changed_rows <= table.tuning.driver_rows:
        return None  # so few rows are collected, and a small table has a faster way to write them
    rows = change_sets.read_batches(table, entry)
    if rows is None or change_sets.count_rows(table, entry) != entry.changed_rows:
        return None
    target = _target(table, is_large)
    missing = [change_sets.MISSING_FIELD] if entry.keeps_missing else []
    fields = T.StructType([*table.schema, *change_sets.FIELDS[:-1], *missing])
    columns = small_tables.arrow_schema(fields)
    if not has_bronze:
        batches = (batch.select(fields.names) for batch in rows)
        reader, count = pa.RecordBatchReader.from_batches(columns, batches), entry.changed_rows
        is_written = create_from_batches(target, reader, fields, count, progress)
        return WriteResult(inserted=count, committed=True) if is_written else None
    columns = columns.append(pa.field(ACTION, pa.string()))
    batches = (batch.select(fields.names).append_column(ACTION, batch.column("_cdc_operation")) for batch in rows)
    # Bronze is where the change set began, and so the change set is the difference.
    is_written = merge_batches(target, pa.RecordBatchReader.from_batches(columns, batches), fields, progress)
    counts = (entry.inserted or 0, entry.updated or 0, entry.deleted or 0)
    return WriteResult(*counts, committed=True) if is_written else None


def _repair(
    table: TableRef, history: LedgerHistory, snapshot_bytes: int, reason: str, replace: bool = False
) -> BronzeResult:
    """Compare bronze with the fold of its change sets, and write the differences.

    Raises:
        DataRefused: A value of a change set does not fit the schema that was declared since.
    """
    sequence = history.accepted[-1].sequence or 0
    progress = _commit_progress(table.config, sequence, history)
    target = _target(table, snapshot_bytes >= table.tuning.large_snapshot_bytes, replace)
    # This key distinguishes the commit from one that applies a change set: the recorded sequence is the same.
    marked = progress | {REPAIR_REASON_KEY: reason}
    delete_doubled(target)
    if table.config.feed:
        with feed_events.conditions_computed(table.lake.spark_path("raw/cdc")):
            written = apply_feed.repair(table, history.accepted, target, marked)
    else:
        wanted = fold.fold_change_sets(table, history.entries_to_fold)
        if MISSING_SINCE not in wanted.columns and _has_missing_since(table):  # no change set was made by its rules
            wanted = wanted.withColumn(MISSING_SINCE, F.lit(None).cast("timestamp"))
        written = merge_to_match(target, wanted, marked)
    failpoint("after_repair", table.name)
    if not written.committed:
        delta.record_progress(table.spark, table.bronze, progress)
    return BronzeResult().plus(written, sequence, reason)


def _has_missing_since(table: TableRef, entry: LedgerEntry | None = None) -> bool:
    """Return whether bronze has `_cdc_missing_since`, or is to have it by the table's settings or a change set."""
    if table.config.grace or (entry and entry.keeps_missing):
        return True
    files = delta.data_files(table.bronze, with_vectors=True)
    if files is None and not delta.exists(table.spark, table.bronze):
        return False
    return MISSING_SINCE in (files.schema if files else delta.schema(table.spark, table.bronze)).names
