"""What `retention` says may go: files of landed snapshots, and of old versions of the Delta tables; change sets are
another matter (compact.py).

Kept whatever their age: a landed snapshot that was not decided about, is the newest, or is not older than the last
accepted one (so every one that waits for approval or may be read again); and each version of a table whose changes a
model, or a table that follows it in PostgreSQL, has still to read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import SparkSession

from lakehouse.config import Retention
from lakehouse.lake import delta
from lakehouse.lake.ledger import LedgerHistory
from lakehouse.models.sql.plan import Plan
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake, write_json

_INTERVAL = timedelta(days=1)  # how often runs look for something to expire: to list a table's files takes seconds
_STATE_FILE = "expired.json"


@dataclass(frozen=True)
class RetentionResult:
    """What became of it (`expired`, `dropped`, `vacuumed`, `would be ...`, `kept`), how much went, why nothing may."""

    status: str
    counts: dict[str, int]
    reason: str = ""


def is_due(retention: Retention, lake: Lake, now: datetime) -> bool:
    """Whether a run should look for something to expire: once a day, and at once where `retention` changed."""
    if retention == Retention():
        return False
    try:
        done = json.loads(lake.state_path(_STATE_FILE).read_text(encoding="utf-8"))
        return bool(done["retention"] != _settings(retention) or now - datetime.fromisoformat(done["at"]) >= _INTERVAL)
    except (OSError, ValueError, KeyError, TypeError):  # never done, or nobody can tell
        return True


def record_done(retention: Retention, lake: Lake, now: datetime) -> None:
    """Note that everything was looked at."""
    write_json(
        lake.state_path(_STATE_FILE), {"at": now.isoformat(timespec="seconds"), "retention": _settings(retention)}
    )


def _settings(retention: Retention) -> str:
    return retention.model_dump_json()


def expire_snapshots(
    lake: Lake, table: str, history: LedgerHistory, now: datetime, keep: timedelta, dry_run: bool
) -> RetentionResult:
    """Remove the files of landed snapshots of a table that are older than `keep`, and that nobody will read again.

    Args:
        dry: only count them.
    """
    old = expired_snapshots(landing.list_snapshots(lake, table), history, now, keep)
    size = sum(each.size if dry_run else landing.expire_snapshot(each, now) for each in old)
    return RetentionResult(result_status("expired", len(old), dry_run), {"snapshots": len(old), "bytes": size})


def expired_snapshots(
    landed: Iterable[LandedSnapshot], history: LedgerHistory, now: datetime, keep: timedelta
) -> list[LandedSnapshot]:
    """The landed snapshots of a table older than `keep`, whose files nobody will read again.

    One that expired is among them until none of its files is left.
    """
    all_of_them, last = list(landed), history.last_accepted
    if last is None:
        return []
    newest = max(each.time for each in all_of_them) if all_of_them else None
    found = []
    for each in all_of_them:
        entry = history.entry_at(each.time)
        superseded = entry is not None and (each.time < last.snapshot_time or entry.status == "unchanged")
        if superseded and now - each.time > keep and each.time != newest and landing.remaining_names(each):
            found.append(each)
    return found


def pending_readers(spark: SparkSession, lake: Lake, relation: str, plans: dict[str, Plan]) -> list[str]:
    """The models that have still to read changes of a table."""
    head = delta.current_version(spark, lake.table(relation))
    waiting = []
    for model in (m for m, plan in plans.items() if relation in plan.dependencies):
        own = delta.current_version(spark, lake.table(model))
        at = ((own.recorded_progress() if own else None) or {}).get("inputs", {}).get(relation)
        if head and at and at["id"] == head.id and head.has_changed_since(at["version"]):
            waiting.append(model)
    return waiting


def vacuum_table(
    spark: SparkSession,
    lake: Lake,
    relation: str,
    plans: dict[str, Plan],
    keep: timedelta,
    dry_run: bool,
    other_readers: list[str] | None = None,
) -> RetentionResult:
    """Remove the files that no version of a table younger than `keep` needs.

    Args:
        spark: a session of the caller's own.
        dry: only count them.
        others: who else has still to read its changes, as far as the caller knows.
    """
    path, kept = lake.table(relation), ""
    if not delta.exists(spark, path):
        kept = "there is no table yet"
    elif waiting := [*pending_readers(spark, lake, relation, plans), *(other_readers or [])]:
        kept = f"{', '.join(waiting)} has still to read its changes"
    files = 0 if kept else _vacuum(spark, path, keep, dry_run)
    return RetentionResult(result_status("vacuumed", files, dry_run), {"files": files}, kept)


def _vacuum(spark: SparkSession, path: str, keep: timedelta, dry_run: bool) -> int:
    statement = f"VACUUM {delta.sql_name(path)} RETAIN {-(-keep // timedelta(hours=1))} HOURS"
    files = spark.sql(f"{statement} DRY RUN").count()  # lists a thousand at most
    if dry_run or not files:  # without any, VACUUM would still add two versions
        return files
    spark.sql(statement)
    metrics = delta.table(spark, path).history(1).select("operationMetrics").collect()[0].operationMetrics
    return int((metrics or {}).get("numDeletedFiles", files))


def result_status(word: str, count: int, dry_run: bool) -> str:
    """The word for what became of `many` things."""
    return "kept" if not count else f"would be {word}" if dry_run else word
