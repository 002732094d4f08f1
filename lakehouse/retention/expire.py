"""Removes files of landed snapshots, and of old versions of Delta tables. compact.py does the same for change sets.

Kept at any age are:

- a landed snapshot that is the newest, that is not decided about, or that is not older than the last accepted one: so
  every one that waits for approval, or may be read again
- each version of a table whose changes a model, or a published table in PostgreSQL, has still to read
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import SparkSession

from lakehouse.config import Retention
from lakehouse.failpoints import failpoint
from lakehouse.lake import delta
from lakehouse.lake.ledger import LedgerHistory
from lakehouse.models.sql.plan import Plan
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake, read_json, write_json

_INTERVAL = timedelta(days=1)  # between two looks of a run: listing the files of a table takes seconds
_STATE_FILE = "expired.json"


@dataclass(frozen=True)
class RetentionLimit:
    """The age up to which files are kept.

    Attributes:
        now: The time of the run.
        keep: How long to keep it.
        dry_run: Whether to count only.
    """

    now: datetime
    keep: timedelta
    dry_run: bool = False

    def status(self, verb: str, count: int) -> str:
        """Return the status of removing `count` things, which `verb` names, such as `expired`."""
        return "kept" if not count else f"would be {verb}" if self.dry_run else verb

    def is_over(self, time: datetime) -> bool:
        """Return whether something of this time is old enough to be removed."""
        return self.now - time > self.keep


@dataclass(frozen=True)
class RetentionResult:
    """The files that retention removed.

    Attributes:
        status: `expired`, `dropped`, `vacuumed`, one of these after `would be`, or `kept`.
        counts: How much was removed, by kind.
        reason: Why nothing may be removed; empty if it may.
    """

    status: str
    counts: dict[str, int]
    reason: str = ""


def is_due(retention: Retention, lake: Lake, now: datetime) -> bool:
    """Return whether a run should look for something to remove: once a day, and when `retention` was changed.

    Args:
        retention: The pipeline's setting.
        lake: The lake, whose state has when it was last done.
        now: The time of the run.
    """
    if retention == Retention():
        return False
    done = read_json(lake.state_path(_STATE_FILE))
    try:
        is_changed = done["retention"] != retention.model_dump_json()
        return bool(is_changed or now - datetime.fromisoformat(done["at"]) >= _INTERVAL)
    except (ValueError, KeyError, TypeError):  # never done, or the file cannot be read
        return True


def record_done(retention: Retention, lake: Lake, now: datetime) -> None:
    """Record that everything was looked at, for `is_due`."""
    document = {"at": now.isoformat(timespec="seconds"), "retention": retention.model_dump_json()}
    write_json(lake.state_path(_STATE_FILE), document)


def expire_snapshots(lake: Lake, table: str, history: LedgerHistory, limit: RetentionLimit) -> RetentionResult:
    """Remove the files of a table's landed snapshots that are old and will not be read again.

    Args:
        lake: The lake.
        table: The table's name.
        history: The ledger's rows of the table.
        limit: How long to keep them.
    """
    expired = expired_snapshots(landing.list_snapshots(lake, table), history, limit)
    size = sum(s.size if limit.dry_run else landing.expire_snapshot(s, limit.now) for s in expired)
    return RetentionResult(limit.status("expired", len(expired)), {"snapshots": len(expired), "bytes": size})


def expired_snapshots(
    landed: Iterable[LandedSnapshot], history: LedgerHistory, limit: RetentionLimit
) -> list[LandedSnapshot]:
    """Return the landed snapshots of a table that are old and will not be read again.

    A snapshot that expired is among them as long as one of its files is left.

    Args:
        landed: All landed snapshots of the table.
        history: The ledger's rows of the table.
        limit: How long to keep them.
    """
    snapshots, last = list(landed), history.last_accepted
    if last is None:
        return []
    newest = max((snapshot.time for snapshot in snapshots), default=None)
    expired = []
    for snapshot in snapshots:
        entry = history.entry_at(snapshot.time)
        is_superseded = entry is not None and (snapshot.time < last.snapshot_time or entry.status == "unchanged")
        if last.kind == "feed":  # the events of a batch that was not accepted are nowhere else
            is_superseded = entry is not None and entry.status == "accepted"
        is_old = is_superseded and limit.is_over(snapshot.time) and snapshot.time != newest
        if is_old and landing.remaining_names(snapshot):
            expired.append(snapshot)
    return expired


def pending_readers(spark: SparkSession, lake: Lake, relation: str, plans: Mapping[str, Plan]) -> list[str]:
    """Return the models that have still to read changes of a table.

    Args:
        spark: The session to read in.
        lake: The lake.
        relation: The table or model whose changes they are, such as `bronze.items`.
        plans: The pipeline's models.
    """
    current = delta.current_version(spark, lake.table(relation))
    pending = []
    for model in (name for name, plan in plans.items() if current and relation in plan.dependencies):
        version = delta.current_version(spark, lake.table(model))
        progress = (version.recorded_progress() if version else None) or {}
        read = progress.get("inputs", {}).get(relation)
        # A model that read a table which was replaced since is computed in full, and needs no change of it.
        if current and read and read["id"] == current.id and current.has_changed_since(read["version"]):
            pending.append(model)
    return pending


def vacuum_table(spark: SparkSession, address: str, pending: list[str], limit: RetentionLimit) -> RetentionResult:
    """Remove the files that only old versions of a Delta table need.

    Args:
        spark: A session that nobody else uses.
        address: The table's address.
        pending: The readers that have still to read changes of the table, so that nothing may be removed.
        limit: How long to keep them.
    """
    reason = ""
    if not delta.exists(spark, address):
        reason = "there is no table yet"
    elif pending:
        reason = f"{', '.join(pending)} has still to read its changes"
    files = 0 if reason else _vacuum(spark, address, limit)
    return RetentionResult(limit.status("vacuumed", files), {"files": files}, reason)


def _vacuum(spark: SparkSession, address: str, limit: RetentionLimit) -> int:
    """Run VACUUM if there is something to remove, and return how many files that is."""
    statement = f"VACUUM {delta.sql_name(address)} RETAIN {-(-limit.keep // timedelta(hours=1))} HOURS"
    files = spark.sql(f"{statement} DRY RUN").count()  # lists a thousand files at most
    if limit.dry_run or not files:  # VACUUM adds two versions even if it removes nothing
        return files
    failpoint("before_vacuum", address)
    spark.sql(statement)
    failpoint("after_vacuum", address)
    metrics = delta.table(spark, address).history(1).select("operationMetrics").collect()[0].operationMetrics
    return int((metrics or {}).get("numDeletedFiles", files))
