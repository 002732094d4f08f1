"""Checks I1 and I5 of a table with `missing`: the keys that are missing, and the rows that marks change in bronze."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.lake.cdc import DELETE, GOES_MISSING, INSERT, MISSING_SINCE
from lakehouse.storage import landing
from lakehouse.storage.paths import snapshot_name
from lakehouse.text import counted
from lakehouse.verify.check import Check, Claim, Side, compare_rows, is_gone, quoted_column
from lakehouse.verify.checked_table import CheckedTable


def missing_checks(table: CheckedTable) -> Iterator[Check]:
    """Check that missing keys have the row and the time that the change sets give, and that none is overdue."""
    if not any(entry.keeps_missing for entry in table.accepted):
        return
    claim = Claim("I1", "missing keys keep their row until their grace ends", table.name)
    rows = table.read_current_rows()
    is_marked = F.col("_cdc_operation") == DELETE
    missing = rows.where(F.col(MISSING_SINCE).isNotNull() & ~is_marked)
    last = table.accepted[-1]
    count, earliest = missing.agg(F.count("*"), F.min(MISSING_SINCE)).collect()[0]
    in_ledger = last.missing or 0
    if count > in_ledger or (count < in_ledger and not table.forgotten):
        yield claim.fails(f"{count} in bronze, but {in_ledger} in the ledger's sequence {last.sequence}")
        return
    since = earliest.astimezone(timezone.utc) if count else None  # PySpark's times have no zone
    if since and (overdue := _overdue_reason(table, since)):
        yield claim.fails(f"a key has been missing since {snapshot_name(since)}: {overdue}")
        return
    try:
        columns = [*map(quoted_column, [*table.schema.names, MISSING_SINCE])]
        expected = _last_changes(table).where(F.col("_cdc_operation") == GOES_MISSING).select(*columns)
        base = table.history.base_state
        if base and not base.is_rebuild_start:  # it has missing keys under the operation of their last change
            expected = expected.unionByName(_missing_in_base(table).select(*columns))
        details = counted(count, "key")
        yield compare_rows(claim, Side("the change sets", expected), Side("bronze", missing.select(*columns)), details)
    except Exception as error:
        if not is_gone(error):
            raise
        yield claim.not_checkable("change sets no longer exist")


def _overdue_reason(table: CheckedTable, since: datetime) -> str:
    """Return why the grace of a key has ended that is missing since a time; empty if it has not.

    It is asked of the last accepted snapshot: an unchanged one after it lets no key expire, or would be accepted. If
    the configuration changed since, the next run decides about that snapshot again.
    """
    missing, last = table.config.grace, table.accepted[-1].snapshot_time
    snapshot = landing.find_snapshot(table.lake, table.name, last)
    zone, fingerprint = table.pipeline.timezone, table.last_accepted.fingerprint
    if table.config.slice_by:  # which snapshots count depends on the slice
        return ""
    if snapshot is None or landing.fingerprint(snapshot, table.config, zone) != fingerprint:
        return ""
    if missing is None:
        return "`missing` is switched off"
    if isinstance(missing.after, timedelta):
        return f"for {missing.after} or longer" if last - since >= missing.after else ""
    lacking = [time for time in table.history.confirmed_times if since <= time <= last]
    return f"{len(lacking)} snapshots lack it" if len(lacking) >= max(missing.after, 1) else ""


def _last_changes(table: CheckedTable) -> DataFrame:
    """Return the last change of each key."""
    changes = table.read_change_sets()
    newest = F.max_by(F.struct(*map(quoted_column, changes.columns)), "_cdc_sequence").alias("_cdc_newest")
    return changes.groupBy(*map(quoted_column, table.config.keys)).agg(newest).select("_cdc_newest.*")


def _missing_in_base(table: CheckedTable) -> DataFrame:
    """Return the last changes that are rows of a base state, and of keys that were missing then."""
    last, base = _last_changes(table), table.history.base_state
    assert base is not None
    is_of_base = F.col("_cdc_sequence") <= (base.sequence or 0)
    is_missing = F.col(MISSING_SINCE).isNotNull() & ~F.col("_cdc_operation").isin(DELETE, GOES_MISSING)
    return last.where(is_of_base & is_missing)


def expected_row_writes(table: CheckedTable) -> dict[int, dict[str, int]]:
    """Return the number of rows that each change set writes into bronze (scd 1), by sequence.

    A key that goes missing, is back, or is marked as deleted is an update there, and so is the insert of a marked one.
    """
    keys = [*map(quoted_column, table.config.keys)]
    in_order = Window.partitionBy(*keys).orderBy("_cdc_sequence")
    is_marked = (F.col("_cdc_operation") == DELETE) & F.col(MISSING_SINCE).isNotNull()
    changes = table.read_change_sets().select(
        "_cdc_sequence",
        F.col("_cdc_operation").alias("operation"),
        is_marked.alias("is_marked"),
        F.coalesce(F.lag(is_marked).over(in_order), F.lit(False)).alias("was_marked"),
    )
    operation = F.col("operation")
    is_insert = (operation == INSERT) & ~F.col("was_marked")
    is_delete = (operation == DELETE) & ~F.col("is_marked")
    counts = changes.groupBy("_cdc_sequence").agg(
        F.count_if(is_insert), F.count_if(~is_insert & ~is_delete), F.count_if(is_delete)
    )
    kept = {entry.sequence for entry in table.accepted if entry.keeps_missing and not table.history.is_dropped(entry)}
    erased = {e.sequence: table.erased_counts[e.path].total() for e in table.accepted if e.path}
    return {
        row[0]: {
            "inserted": row[1] + erased.get(row[0], 0),
            "updated": row[2] + erased.get(row[0], 0),
            "deleted": row[3] + erased.get(row[0], 0),
        }
        for row in counts.collect()
        if row[0] in kept
    }
