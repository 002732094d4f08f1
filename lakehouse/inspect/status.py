"""Builds the documents of `status`, `history` and `quarantine`, of plain values for tables or JSON; and `time_travel`.

The driver reads the data that they need. A JVM is started only for a table that it cannot read, as of a catalog.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

from lakehouse import extract, logs
from lakehouse.config.option_advice import option_advice
from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.inspect.attention import find_attention
from lakehouse.inspect.disk_usage import StoredTable, table_disk_usage
from lakehouse.lake import change_sets, delta, ledger
from lakehouse.lake.ledger import LedgerHistory
from lakehouse.lake.slices import Slices
from lakehouse.lake.table_ref import TableRef
from lakehouse.lake.usual_range import describe_usual_figures
from lakehouse.models import expectations
from lakehouse.runner import publishing, records
from lakehouse.runner.context import Run, open_run
from lakehouse.storage import landing
from lakehouse.storage.delta_log import TableVersion
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import parse_time, to_utc, utc_text_z
from lakehouse.text import counted

Document = dict[str, Any]

_RUNS_SHOWN = 5
_MAX_QUARANTINE_ROWS = 1000
_RUN_FIELDS = ("run_id", "doing", "started", "ended", "seconds", "exit_code", "nothing_new")


def status(run: Run, with_storage: bool = True) -> Document:
    """Return the state of each table and model, its age, the waiting changes, and the bytes that are stored.

    Args:
        run: The command, with its pipeline and names.
        with_storage: Whether to measure the files, which takes time in a large lake.

    Returns:
        The document of `lakehouse status --json`.
    """
    lake, run_records = run.lake, records.read_newest(run.lake)
    change_set_bytes = change_sets.sizes(lake) if with_storage else {}
    tables, storage = list[Document](), list[Document]()
    changed = _changed_in_source(run)
    for name, history in ledger.read_histories(run.lazy_spark, lake, run.selected_tables()).items():
        version, snapshots = (
            delta.current_version(run.lazy_spark, lake.bronze_table(name)),
            landing.list_snapshots(lake, name),
        )
        bronze_bytes = version.size if version else 0
        stored_table = StoredTable(lake, name, history, snapshots, change_set_bytes, bronze_bytes)
        tables.append(_table_state(run, stored_table, version, records.last_successful(run_records, name)))
        tables[-1]["changed_in_source"] = _source_states(run, changed.get(name, []))
        storage += table_disk_usage(stored_table) if with_storage else []
    runs = []
    for record in run_records[:_RUNS_SHOWN]:  # one without an end is running, or was killed
        failed = [f"{o['stage']} {o['name']}: {o['status']}" for o in record.get("outcomes", ()) if o["code"]]
        runs.append({name: record.get(name) for name in _RUN_FIELDS} | {"failed": failed})
    document: Document = {
        "pipeline": run.pipeline.name,
        "lake": lake.root,
        **({"catalog": lake.catalog} if lake.catalog else {}),
        "tables": tables,
        "storage": storage,
        "models": [_model_state(run, name, records.last_problem(run_records, name)) for name in run.selected_models()],
        "not_ready": _not_ready(run),
        "published": _published_states(run),
        "expectations": _failed_expectations(run),
        "runs": runs,
    }
    return document | {"attention": find_attention(document, run.pipeline.argument)}


def _changed_in_source(run: Run) -> dict[str, list[LandedSnapshot]]:
    """Return the snapshots of each table whose folder in the source changed after it was taken, by table."""
    if not extract.has_folders(run.pipeline):
        return {}
    tables = run.selected_tables()
    try:
        with extract.open_source(run.pipeline, run.lake, tables) as source:
            return {name: extract.changed_snapshots(source, landing.list_snapshots(run.lake, name)) for name in tables}
    except LakehouseError:  # a run reports what is wrong with the source
        return {}


def _not_ready(run: Run) -> Document | None:
    """Return the first snapshot in the source that is not ready to be taken, and what waits for it; None if none is."""
    try:
        waiting = extract.find_not_ready(run.pipeline, run.lake)
    except LakehouseError:  # a run reports what is wrong with the source
        return None
    if waiting is None:
        return None
    return {
        "snapshot": waiting.folder.name,
        "reasons": list(waiting.reasons),
        "later": [folder.name for folder in waiting.later],
        "message": waiting.message,
    }


def _source_states(run: Run, changed: list[LandedSnapshot]) -> list[Document]:
    """Return a row for each snapshot of a table that changed in the source after it was taken, with the next step."""
    return [
        {"snapshot_time": utc_text_z(each.time), "next_step": extract.next_step_if_changed(run.pipeline, each)}
        for each in changed
    ]


def _table_state(
    run: Run, table: StoredTable, version: TableVersion | None, success: records.Record | None
) -> Document:
    """Return a table's row; `success` is the record of the last run that succeeded for it."""
    history, now = table.history, datetime.now(timezone.utc)
    table_config = run.pipeline.tables[table.name]
    last, newest, held = history.last_accepted, history.newest_entry, history.held_entry
    notes = [last.reason if last else None]  # such as columns that the schema does not name
    if history.leading_zeros and history.leading_zeros not in (notes[0] or ""):
        notes.append(history.leading_zeros)
    note = "; ".join(filter(None, notes)) or None
    data_time = history.newest_accepted_time
    if held:  # of a feed, it need not be the newest
        note = held.reason
    elif newest and newest.status == "rejected":
        note = newest.reason
    return {
        "table": table.name,
        "sequence": last.sequence if last else None,
        "snapshot_time": utc_text_z(data_time) if data_time else None,
        "age_seconds": int((now - data_time).total_seconds()) if data_time else None,
        "newest": newest.status if newest else None,
        "held": utc_text_z(held.snapshot_time) if held else None,
        "waiting": sum(history.entry_at(snapshot.time) is None for snapshot in table.snapshots),
        "last_success": success["ended"] if success else None,
        "overdue_seconds": records.overdue_seconds(success, run.pipeline.schedule.every, now),
        "quarantined": last.quarantined if last else None,
        **_missing_keys(run, table),
        "slices": Slices.describe_json(last.slices) if last else None,
        "drift": _drift(history),
        "bronze_sequence": (version.recorded_progress() or {}).get("sequence") if version else None,
        "note": note,
        "leading_zeros": history.leading_zeros or None,
        "usual": describe_usual_figures(history) if table_config.guard.learned else None,
    }


def _drift(history: LedgerHistory) -> Document | None:
    """Return in how many keys the newest snapshot beside a feed found it wrong; None without such a snapshot."""
    found = [entry for entry in history.accepted if entry.corrected is not None]
    if not found:
        return None
    newest = max(found, key=lambda entry: entry.snapshot_time)
    return {"snapshot_time": utc_text_z(newest.snapshot_time), "keys": newest.corrected, "note": newest.reason}


def _missing_keys(run: Run, table: StoredTable) -> Document:
    """Return how many keys are missing after the last snapshot, and since when the first; None without `missing`."""
    last = table.history.last_accepted
    count, since = last.missing if last else None, None
    if count:
        from lakehouse.bronze import find_missing

        found = find_missing(run.table_ref(table.name, run.lazy_spark))  # without keys that were forgotten since
        count, since = found.count, found.since
    return {"missing": count, "missing_since": utc_text_z(since) if since else None}


def _model_state(run: Run, name: str, problem: records.Record | None) -> Document:
    """Return a model's row; `waiting` has the inputs with changes that the model has not read.

    `stopped` is the status of the model in the last command that attempted it, if that did not refresh it, and `note`
    the reason.
    """
    plan = run.plans[name]
    version = delta.current_version(run.lazy_spark, run.lake.table(name))
    progress = (version.recorded_progress() if version else None) or {}
    waiting = []
    for relation, recorded in progress.get("inputs", {}).items():
        current = delta.current_version(run.lazy_spark, run.lake.table(relation))
        if current and current.has_unread_changes(recorded["id"], recorded["version"]):
            waiting.append(relation)
    is_current_sql = progress.get("sql") == plan.sql_hash  # not if the SQL changed, or it was never computed
    return {
        "model": name,
        "version": version.version if version else None,
        "inputs": {relation: recorded["version"] for relation, recorded in progress.get("inputs", {}).items()},
        "waiting": waiting if is_current_sql else plan.inputs,
        "strategy": plan.strategy,
        "failing": progress.get("failing", {}),
        "stopped": problem["status"] if problem else None,
        "note": problem["note"] if problem else None,
    }


def _published_states(run: Run) -> list[Document]:
    """Return a row for each published table, with the position that PostgreSQL records or why it cannot be read."""
    tables, states, note = run.published_tables(), {}, None
    try:
        states = publishing.read_states(run, tables) if tables else {}
    except LakehouseError as error:
        note = logs.redact(error.found)
    rows = []
    for source, table in tables.items():
        state, version = states.get(source), delta.current_version(run.lazy_spark, run.lake.table(source))
        position = state.position if state else None
        rows.append(
            {
                "table": state.table if state else table,
                "source": source,
                "version": position.version if position else None,
                "newest": version.version if version else None,
                "waiting": publishing.is_behind(run, version, position) if state and version else None,
                "published_at": utc_text_z(state.published_at) if state and state.published_at else None,
                "note": note,
            }
        )
    return rows


def _failed_expectations(run: Run) -> list[Document]:
    """Return the rules of the selected models that failed, by the latest result of each."""
    rules = {(name, rule.name) for name, plan in run.plans.items() for rule in plan.rules}
    if not rules:
        return []
    selected = run.selected_models()
    rows = expectations.read_latest_results(run.lazy_spark, run.lake)
    failed = sorted(
        (row for row in rows if row["status"] == expectations.FAILED), key=lambda r: (r["model"], r["rule"])
    )
    return [
        row | {name: utc_text_z(row[name]) if row[name] else None for name in ("as_of", "recorded_at")}
        for row in failed
        if row["model"] in selected and (row["model"], row["rule"]) in rules
    ]


def history(run: Run, table: str) -> Document:
    """Return every decision about a table's snapshots, oldest first.

    Args:
        run: The command.
        table: The table's name.

    Returns:
        The document of `lakehouse history --json`.
    """
    entries = [
        {name: utc_text_z(value) if isinstance(value, datetime) else value for name, value in vars(entry).items()}
        | {"slices": json.loads(entry.slices) if entry.slices is not None else None}
        for entry in _read_history(run, table).entries
    ]
    return {"pipeline": run.pipeline.name, "table": table, "entries": entries}


def quarantined_rows(run: Run, name: str, limit: int | None = None) -> Document:
    """Return the rows of a table or model that wait to be corrected, newest first, and how many by reason.

    Args:
        run: The command.
        name: The table's or model's name.
        limit: The most rows to return; None: 1000.

    Returns:
        The document of `lakehouse quarantine --json`.
    """
    from lakehouse.lake.quarantine_content import (  # DuckDB, which `status` does not need
        QuarantineContent,
        read_content,
    )

    held = None
    if name in run.pipeline.model_names:
        stage, _, short = name.partition(".")
        version = delta.current_version(run.lazy_spark, run.lake.table(name))
        last = version.last_refresh_version if version else -1
    else:
        history = _read_history(run, name)
        accepted, held = history.last_accepted, history.held_entry
        stage, short, last = "ingest", name, (accepted.sequence if accepted else None) or 0
    content = QuarantineContent()
    if not delta.is_missing(address := run.lake.quarantine_table(short)):
        limit = _MAX_QUARANTINE_ROWS if limit is None else limit
        content = read_content(run.lazy_spark, address, stage, last, limit)
    return {
        "pipeline": run.pipeline.name,
        "table": name,
        "unresolved": content.unresolved,
        "resolved": content.resolved,
        "reasons": [reason | {"advice": _advice(run, name, reason, content.rows)} for reason in content.reasons],
        "rows": list(content.rows),
        "held": {
            "snapshot_time": utc_text_z(held.snapshot_time),
            "quarantined": held.quarantined,
            "next_step": f"lakehouse diff {run.pipeline.argument} {name}",
        }
        if held and held.quarantined
        else None,
    }


def _advice(run: Run, name: str, reason: Document, rows: Iterable[Document]) -> str | None:
    """Return the change of a table's settings that may accept the rows of a reason, by one of them."""
    if name in run.pipeline.model_names:
        return None
    same = ("rule", "column", "reason")
    values = (row["value"] for row in rows if all(row[each] == reason[each] for each in same))
    return option_advice(run.pipeline.tables[name], reason["column"], next(values, None), reason["reason"]) or None


def time_travel(pipeline: str | Path, table: str, time: datetime | str) -> DataFrame:
    """Return a table's rows at a time: those of the newest snapshot that was accepted for that time or before.

    Args:
        pipeline: A folder with pipeline.yml, or that file.
        table: One of its tables, with a history (scd 2) or without.
        time: With a time zone, else it is UTC; or its text, YYYYMMDD_HHMMSS or ISO.

    Returns:
        The declared columns and `_cdc_*`; empty before the first snapshot.

    Raises:
        ConfigError: There is no such table, or the text is no time.
    """
    from lakehouse.bronze import read

    run = open_run(pipeline, [table])
    if table not in run.pipeline.tables:
        raise ConfigError(
            f"{table} is a model",
            expected=f"a table: {', '.join(run.pipeline.tables)}",
            where=str(run.pipeline.path),
            next_step="spark.read.format('delta').option('timestampAsOf', ...), for a model as it was",
        )
    ref = TableRef(run.spark, run.lake, table, run.pipeline.tables[table], run.pipeline.tuning)
    return read.rows_as_of(ref, _read_history(run, table), parse_time(time) if isinstance(time, str) else to_utc(time))


as_of = time_travel  # an earlier name


def single_table(run: Run, allow_model: bool = False) -> str:
    """Return the one table, or the one model, that a command is about.

    Args:
        run: The command.
        allow_model: Whether a model is allowed, too.

    Raises:
        ConfigError: The command names none or several.
    """
    known = [*run.pipeline.tables, *(run.pipeline.model_names if allow_model else ())]
    if len(run.names) != 1 or run.names[0] not in known:
        given = f"{counted(len(run.names), 'name')}: {', '.join(run.names)}" if run.names else "no name"
        is_model = len(run.names) == 1 and run.names[0] in run.pipeline.model_names
        raise ConfigError(
            f"{run.names[0]} is a model" if is_model else given,
            expected=f"one of {', '.join(known)}",
            where=str(run.pipeline.path),
            next_step=f"the same command with one of them, such as {known[0]}" if known else "",
        )
    return run.names[0]


def _read_history(run: Run, table: str) -> LedgerHistory:
    return ledger.read_histories(run.lazy_spark, run.lake, [table])[table]
