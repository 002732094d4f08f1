"""Runs the stage `expire`: everything that `retention` allows to remove, for the selected tables and models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.config import Retention
from lakehouse.errors import ExitCode, worst_exit_code
from lakehouse.runner import bug_files, publishing
from lakehouse.runner.context import Run, run_in_parallel
from lakehouse.runner.outcome import Outcome
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.retention import RetentionLimit, RetentionResult

EXPIRE = "expire"


def is_due(run: Run) -> bool:
    """Return whether a run should expire at its end: once a day. Imports no Spark if the pipeline keeps everything.

    Args:
        run: The command.
    """
    if run.pipeline.retention == Retention():
        return False
    from lakehouse import retention

    return retention.is_due(run.pipeline.retention, run.lake, datetime.now(timezone.utc))


def expire(run: Run) -> list[Outcome]:
    """Remove old landed snapshots, change sets and Delta versions; with `dry_run`, only report them.

    Args:
        run: The command, which has locked the lake.
    """
    from lakehouse import retention

    now = datetime.now(timezone.utc)
    tasks = _expire_tasks(run, now)

    def work(name: str) -> Iterator[Outcome]:
        result = tasks[name]()
        yield Outcome(EXPIRE, name, result.status, result.counts, note=result.reason)

    outcomes = run_in_parallel(run, EXPIRE, list(tasks), work)
    is_complete = not run.names and not run.dry_run
    if is_complete and worst_exit_code(outcome.code for outcome in outcomes) == ExitCode.OK:
        retention.record_done(run.pipeline.retention, run.lake, now)
    return outcomes


def _expire_tasks(run: Run, now: datetime) -> dict[str, Callable[[], RetentionResult]]:
    """Return the tasks by name: landed snapshots by table, change sets by table, then versions by Delta table."""
    from lakehouse import retention
    from lakehouse.lake import ledger
    from lakehouse.retention import RetentionLimit
    from lakehouse.spark.session import isolated_session

    config, lake, data_bytes = run.pipeline.retention, run.lake, run.data_bytes(*run.pipeline.tables)
    tasks: dict[str, Callable[[], RetentionResult]] = {}
    if config.landing:
        limit = RetentionLimit(now, config.landing, run.dry_run)
        if not run.names and (old := bug_files.list_older(lake, now - config.landing)):
            tasks["_state/bugs"] = partial(_remove_bug_files, old, limit)
        for name, history in ledger.read_histories(run.spark, lake, run.selected_tables()).items():
            tasks[name] = partial(retention.expire_snapshots, lake, name, history, limit)
    if config.change_sets:
        limit = RetentionLimit(now, config.change_sets, run.dry_run)
        for name in run.selected_tables():
            tasks[f"raw.{name}"] = partial(retention.compact_change_sets, run.table_ref(name), limit, run.id)
    if config.vacuum:
        limit = RetentionLimit(now, config.vacuum, run.dry_run)
        for name in _tables_to_vacuum(run):
            tasks[name] = partial(_vacuum, run, isolated_session(run.spark, data_bytes), name, limit)
    return tasks


def _remove_bug_files(files: list[StorePath], limit: RetentionLimit) -> RetentionResult:
    """Remove files about bugs: they may have values of rows, and are kept no longer than the landed files of these."""
    from lakehouse.retention import RetentionResult

    for file in () if limit.dry_run else files:
        file_io.remove(file)
    return RetentionResult(limit.status("expired", len(files)), {"files": len(files)})


def _tables_to_vacuum(run: Run) -> list[str]:
    """Return the selected Delta tables, and the quarantine of each of them that has one."""
    models = run.selected_models()
    with_quarantine = [m for m in models if any(rule.on_fail == "quarantine" for rule in run.plans[m].rules)]
    quarantines = [f"quarantine.{model.partition('.')[2]}" for model in with_quarantine]
    tables = [f"{layer}.{table}" for table in run.selected_tables() for layer in ("quarantine", "bronze")]
    return list(dict.fromkeys([*tables, *models, *quarantines]))


def _vacuum(run: Run, spark: SparkSession, name: str, limit: RetentionLimit) -> RetentionResult:
    from lakehouse import retention

    models = retention.pending_readers(spark, run.lake, name, run.plans)
    pending = [*models, *publishing.pending_readers(spark, run, name)]
    return retention.vacuum_table(spark, run.lake.table(name), pending, limit)
