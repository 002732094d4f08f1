"""What people ask a lake: documents of plain values, to be printed as tables or as JSON; and a table as it was."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import logs
from lakehouse.bronze import read
from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.inspect import disk_usage
from lakehouse.lake import change_sets, delta, ledger, quarantine
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.models import expectations
from lakehouse.runner import publishing, records
from lakehouse.runner.context import Run, open_run
from lakehouse.storage import landing
from lakehouse.storage.paths import to_utc

_RUNS_SHOWN = 5


def status(run: Run) -> dict[str, Any]:
    """Where every table and model stands, how old that is, what waits for somebody, and what is stored."""
    spark, lake = run.spark, run.lake
    histories, runs, now = (
        ledger.read_histories(spark, lake, run.selected_tables()),
        records.read_newest(lake),
        datetime.now(timezone.utc),
    )
    tables, stored, raw = list[dict[str, Any]](), list[dict[str, Any]](), change_sets.sizes(lake)
    for name, history in histories.items():
        last, newest = history.last_accepted, history.newest_entry
        head, good = delta.current_version(spark, lake.bronze_table(name)), records.last_successful(runs, name)
        landed = landing.list_snapshots(lake, name)
        stored += disk_usage.table_disk_usage(lake, name, history, landed, raw, head.size if head else 0)
        tables.append(
            {
                "table": name,
                "sequence": last.sequence if last else None,
                "snapshot_time": _iso(last.snapshot_time) if last else None,
                "age_seconds": _age_seconds(last.snapshot_time) if last else None,
                "newest": newest.status if newest else None,
                "held": _iso(history.held_entry.snapshot_time) if history.held_entry else None,
                "waiting": sum(history.entry_at(each.time) is None for each in landed),
                "last_success": good["ended"] if good else None,
                "overdue_seconds": records.overdue_seconds(good, run.pipeline.schedule.every, now),
                "quarantined": last.quarantined if last else None,
                "bronze_sequence": ((head.recorded_progress() or {}).get("sequence") if head else None),
                "note": _decision_note(last, newest),
            }
        )
    return {
        "pipeline": run.pipeline.name,
        "lake": lake.root,
        **({"catalog": lake.catalog} if lake.catalog else {}),
        "tables": tables,
        "storage": stored,
        "models": _model_rows(run),
        "published": _published_rows(run),
        "expectations": _failed_expectations(run),
        "runs": [_run_summary(record) for record in runs[:_RUNS_SHOWN]],
    }


def _run_summary(record: records.Record) -> dict[str, Any]:
    """A run record in a line; one that has not ended is at work, or was killed."""
    told = {k: record.get(k) for k in ("run_id", "doing", "started", "ended", "seconds", "exit_code", "nothing_new")}
    failed = [f"{o['stage']} {o['name']}: {o['status']}" for o in record.get("outcomes", ()) if o["code"]]
    return told | {"failed": failed}


def _decision_note(last: LedgerEntry | None, newest: LedgerEntry | None) -> str | None:
    """What the newest decision was about, or what the last accepted snapshot was accepted in spite of."""
    if newest and newest.status in ("held", "rejected"):
        return newest.reason
    return last.reason if last else None


def _model_rows(run: Run) -> list[dict[str, Any]]:
    found = []
    for name in (m for layer in ("silver", "gold") for group in run.model_groups(layer) for m in group):
        head = delta.current_version(run.spark, run.lake.table(name))
        progress = (head.recorded_progress() if head else None) or {}
        inputs = {relation: at["version"] for relation, at in progress.get("inputs", {}).items()}
        heads = {relation: delta.current_version(run.spark, run.lake.table(relation)) for relation in inputs}
        waiting = [r for r, h in heads.items() if h and h.version != inputs[r] and h.has_changed_since(inputs[r])]
        as_it_is = progress.get("sql") == run.plans[name].sql_hash
        found.append(
            {
                "model": name,
                "version": head.version if head else None,
                "inputs": inputs,
                "waiting": waiting if as_it_is else run.plans[name].inputs,  # its SQL changed, or it was never computed
                "strategy": run.plans[name].strategy,
                "failing": progress.get("failing", {}),
            }
        )
    return found


def _published_rows(run: Run) -> list[dict[str, Any]]:
    """How far the tables in PostgreSQL are, by what it says itself; or why that cannot be told."""
    tables, found, told = run.published_tables(), {}, None
    try:
        found = publishing.read_states(run, tables) if tables else {}
    except LakehouseError as error:
        told = logs.redact(error.found)
    rows = []
    for source, table in tables.items():
        at, head = found.get(source), delta.current_version(run.spark, run.lake.table(source))
        rows.append(
            {
                "table": at.table if at else table,
                "source": source,
                "version": at.position.version if at and at.position else None,
                "newest": head.version if head else None,
                "waiting": publishing.is_behind(run, head, at.position) if at and head else None,
                "published_at": _iso(at.published_at) if at and at.published_at else None,
                "note": told,
            }
        )
    return rows


def _failed_expectations(run: Run) -> list[dict[str, Any]]:
    """What is not as the models are expected to be, by the newest result of each rule that there is."""
    rules = {(name, rule.name) for name, plan in run.plans.items() for rule in plan.rules}
    wanted = {m for layer in ("silver", "gold") for group in run.model_groups(layer) for m in group}
    rows = (
        expectations.latest_results(run.spark, run.lake).where(F.col("status") == expectations.FAILED)
        if rules
        else None
    )
    found = [row.asDict() for row in rows.orderBy("model", "rule").collect()] if rows is not None else []
    found = [r for r in found if r["model"] in wanted and (r["model"], r["rule"]) in rules]
    return [r | {name: _iso(r[name]) if r[name] else None for name in ("as_of", "recorded_at")} for r in found]


def history(run: Run, table: str) -> dict[str, Any]:
    """Every decision about a table's snapshots, oldest first."""
    entries = ledger.read_histories(run.spark, run.lake, [table])[table].entries
    return {"pipeline": run.pipeline.name, "table": table, "entries": [_entry_document(e) for e in entries]}


def quarantined_rows(run: Run, table: str) -> dict[str, Any]:
    """The rows of a table, or of a model, that wait to be mended, newest first."""
    rows = _rejected_rows(run, table)
    shown = rows.where(~F.col("resolved")).orderBy(F.desc("first_sequence"), "line", "row_hash").limit(1000)
    return {
        "pipeline": run.pipeline.name,
        "table": table,
        "unresolved": rows.where(~F.col("resolved")).count(),
        "resolved": rows.where("resolved").count(),
        "rows": [row.asDict() for row in shown.drop("row_hash").collect()],
    }


def _rejected_rows(run: Run, name: str) -> DataFrame:
    if name in run.plans:
        head = delta.current_version(run.spark, run.lake.table(name))
        return quarantine.read_of_model(run.spark, run.lake, name, head.last_refresh_version if head else -1)
    history = ledger.read_histories(run.spark, run.lake, [name])[name]
    last = history.last_accepted.sequence if history.last_accepted else 0
    return quarantine.read_of_table(run.spark, run.lake, name, last or 0)


def as_of(pipeline: str | Path, table: str, time: datetime | str) -> DataFrame:
    """A table's rows as they were at a time: those of the newest snapshot accepted for then or before.

    Args:
        pipeline: a folder with pipeline.yml, or that file.
        table: one of its tables, with a history (scd 2) or without.
        time: aware, or taken for UTC; or ISO text of one.

    Returns:
        The declared columns and `_cdc_*`; empty before the first snapshot.

    Raises:
        ConfigError: no such table, or no such time.
    """
    opened = open_run(pipeline, [table])
    if table not in opened.pipeline.tables:
        raise ConfigError(f"{table} is a model", expected=f"a table: {', '.join(opened.pipeline.tables)}")
    spark, lake = opened.spark, opened.lake
    history = ledger.read_histories(spark, lake, [table])[table]
    return read.rows_as_of(spark, lake, table, opened.pipeline.tables[table], history, to_utc(time))


def single_table(run: Run, allow_model: bool = False) -> str:
    """The one table that a verb is about, or the one model.

    Raises:
        ConfigError: none or several are named.
    """
    known = [*run.pipeline.tables, *(run.plans if allow_model else ())]
    if len(run.names) != 1 or run.names[0] not in known:
        raise ConfigError(f"{len(run.names)} names", expected=f"one of {', '.join(known)}")
    return run.names[0]


def _entry_document(entry: LedgerEntry) -> dict[str, Any]:
    return {k: _iso(v) if isinstance(v, datetime) else v for k, v in vars(entry).items()}


def _iso(time: datetime) -> str:
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _age_seconds(time: datetime) -> int:
    return int((datetime.now(timezone.utc) - time).total_seconds())
