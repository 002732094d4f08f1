"""Collects the contents of a report as plain values, from the lake and the configuration. Writes nothing.

    status, runs         the document of `lakehouse status`, and the last runs
    flow                 the tables and models of each stage, their changes by the last run, and their inputs
    data_age             how old the data of each table is, and whether that is old     data_age.py
    entries, changes     the ledger: decisions about snapshots, and the changes of the accepted ones
    changed_rows         the rows that the newest snapshots changed                 changed_rows.py
    quality              row counts of the newest snapshots, and the expectations of the models
    quarantine           the number of rejected rows by rule; never a row or a value
    lineage              the source columns of each column                         lineage.py
    cubes                the rows of the charts, and the newest rows               cubes.py
                         and the rows that made some of these                      explained_rows.py

Each table is read at its current version. A run in progress can commit between two reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

import lakehouse
from lakehouse import logs
from lakehouse.concurrency import worker_pool
from lakehouse.inspect import status
from lakehouse.inspect.json_rows import json_rows
from lakehouse.lake import delta, ledger, quarantine
from lakehouse.lake.cdc import COUNT_COLUMNS
from lakehouse.lake.ledger import LedgerHistory
from lakehouse.lake.marked_rows import live_rows
from lakehouse.models import expectations
from lakehouse.report import cubes, lineage
from lakehouse.report.changed_rows import MAX_ROWS, MAX_SNAPSHOTS, read_changed_rows
from lakehouse.report.data_age import old_after
from lakehouse.report.explained_rows import IsPersonal, explain_rows
from lakehouse.runner import records
from lakehouse.runner.context import Run
from lakehouse.spark.session import isolated_session
from lakehouse.storage.paths import utc_text, utc_text_z

Document = dict[str, Any]
ColumnsByRelation = dict[str, tuple[lineage.LineageColumn, ...]]

MAX_DECISIONS, MAX_CHANGES, MAX_RUNS = 400, 60, 20
_RUN_KEYS = ("run_id", "doing", "started", "ended", "seconds", "exit_code", "nothing_new")


def gather(run: Run) -> Document:
    """Return everything that the page shows of the selected tables and models, with secrets masked.

    Args:
        run: A run that is open; its selection limits the tables and models.

    Returns:
        A document of JSON values. Its keys are listed in the description of this module.
    """
    columns = lineage.relation_columns(run.pipeline, run.plans)
    data_bytes = run.data_bytes(*run.pipeline.tables)

    def is_personal(relation: str) -> IsPersonal:
        return lineage.personal_predicate(columns, relation)

    def read_cube(model: str) -> Document | None:
        spark = isolated_session(run.spark, data_bytes)
        cube = cubes.read_cube(spark, run.lake, run.plans[model], is_personal(model))
        return cube and cube | {"explained": explain_rows(run, cube, is_personal)}

    tables = run.selected_tables()
    histories = ledger.read_histories(run.spark, run.lake, tables)
    with worker_pool() as pool:
        rows_read = [pool.submit(read_changed_rows, run.table_ref(name), histories[name]) for name in tables]
        cubes_read = [pool.submit(read_cube, model) for group in run.model_groups("gold") for model in group]
        document = _document_of_lake(run, isolated_session(run.spark, data_bytes), columns, histories)
        tables_read = [rows for future in rows_read if (rows := future.result())]
        document["changed_rows"] = {"max_rows": MAX_ROWS, "max_snapshots": MAX_SNAPSHOTS, "tables": tables_read}
        document["cubes"] = [cube for future in cubes_read if (cube := future.result())]
    redacted: Document = logs.redact_document(document)
    return redacted


def _document_of_lake(
    run: Run, spark: SparkSession, columns: ColumnsByRelation, histories: dict[str, LedgerHistory]
) -> Document:
    """Return the document without its keys `cubes` and `changed_rows`."""
    now = datetime.now(timezone.utc)
    run_records = records.read_newest(run.lake)
    models = run.selected_models()
    plans = [run.plans[model] for model in models]
    return {
        "pipeline": run.pipeline.name,
        "folder": str(run.pipeline.argument),
        "lake": run.lake.root,
        "version": lakehouse.__version__,
        "made": utc_text(now),
        "time_zone": run.pipeline.business_timezone,
        "status": status.status(run),
        "data_age": [_data_age(name, history, now) for name, history in histories.items()],
        "runs": [
            {key: r.get(key) for key in _RUN_KEYS}
            | {"failed": [f"{o['stage']} {o['name']}: {o['status']}" for o in r.get("outcomes") or () if o["code"]]}
            for r in run_records[:MAX_RUNS]
        ],
        "flow": _flow(run, spark, run_records, histories, models),
        **_decisions(histories),
        "quality": _quality(run, spark, histories, models),
        "quarantine": list(_quarantine(run, spark, histories, models)),
        "models": [
            {"model": p.model, "strategy": p.strategy, "reason": p.reason, "keys": list(p.keys), "inputs": p.inputs}
            for p in plans
        ],
        "lineage": [
            {
                "relation": relation,
                "columns": [
                    {
                        "name": c.name,
                        "text": c.expression,
                        "origins": list(map(list, c.origins)),
                        "personal": c.is_personal,
                    }
                    for c in of_relation
                ],
            }
            for relation, of_relation in columns.items()
        ],
    }


def _data_age(table: str, history: LedgerHistory, now: datetime) -> Document:
    """Return how old a table's data is: the time of the newest snapshot that bronze is equal to, and its age."""
    times = history.confirmed_times
    age = now - times[-1] if times else None
    return {
        "table": table,
        "time": utc_text_z(times[-1]) if times else None,
        "seconds": int(age.total_seconds()) if age is not None else None,
        "is_old": age is not None and age >= old_after(times),
    }


def _flow(
    run: Run,
    spark: SparkSession,
    run_records: list[records.Record],
    histories: dict[str, LedgerHistory],
    models: list[str],
) -> Document:
    """Return the tables of each stage, and their changes by the newest run that changed something."""
    ended = [r for r in run_records if r["doing"] == "run" and r["ended"]]
    last = next((r for r in ended if r.get("outcomes") and not r.get("nothing_new")), None)
    row_counts = _row_counts(run, spark, [*(f"bronze.{name}" for name in histories), *models])
    outcomes = _outcomes_by_name(last or {})
    return {
        "ended": last["ended"] if last else None,
        "published": [{"relation": name, "outcome": o} for (stage, name), o in outcomes.items() if stage == "publish"],
        "nothing_since": ended.index(last) if last else 0,
        "tables": [
            {
                "table": name,
                "snapshot_time": utc_text_z(history.newest_entry.snapshot_time) if history.newest_entry else None,
                "extract": outcomes.get(("extract", name)),
                "ingest": outcomes.get(("ingest", name)),
                "bronze": outcomes.get(("bronze", name)),
                "rows": row_counts[f"bronze.{name}"],
            }
            for name, history in histories.items()
        ],
        "models": [
            {
                "model": model,
                "reads": run.plans[model].inputs,
                "outcome": outcomes.get((model.partition(".")[0], model)),
                "rows": row_counts[model],
            }
            for model in models
        ],
    }


def _outcomes_by_name(record: records.Record) -> dict[tuple[str, str], Document]:
    """Return the outcomes of a run by stage and name.

    If a table had several snapshots, their counts are added up, and the status is that of the last one.
    """
    outcomes: dict[tuple[str, str], Document] = {}
    for outcome in record.get("outcomes") or ():
        key = outcome["stage"], outcome["name"]
        before = outcomes.get(key, {"counts": {}, "code": 0})
        counts = {name: before["counts"].get(name, 0) + n for name, n in outcome["counts"].items()}
        outcomes[key] = {"status": outcome["status"], "counts": counts, "code": max(before["code"], outcome["code"])}
    return outcomes


def _row_counts(run: Run, spark: SparkSession, relations: list[str]) -> dict[str, int | None]:
    """Return the current number of rows of each relation, by one query; None if its table does not exist."""
    paths = {relation: run.lake.table(relation) for relation in relations}
    counts = [
        live_rows(relation, delta.read(spark, path))
        .agg(F.count("*").alias("rows"))
        .select(F.lit(relation).alias("relation"), "rows")
        for relation, path in paths.items()
        if delta.exists(spark, path)
    ]
    counted = {row["relation"]: row["rows"] for row in reduce(DataFrame.unionAll, counts).collect()} if counts else {}
    return {relation: counted.get(relation) for relation in relations}


def _decisions(histories: dict[str, LedgerHistory]) -> Document:
    """Return the newest decisions (`entries`) and the changes of the newest accepted snapshots (`changes`).

    Decisions are in the order in which they were recorded. The full load of a table is not in its changes.
    """
    entries = sorted(
        (entry for history in histories.values() for entry in history.entries),
        key=lambda e: (e.recorded_at or e.snapshot_time, e.table, e.snapshot_time),
    )
    names = ("table", "sequence", "status", "kind", *COUNT_COLUMNS, "reason")
    changes = {}
    for table, history in histories.items():
        later = [entry for entry in history.accepted if entry.kind != "full-load"][-MAX_CHANGES:]
        changes[table] = [
            {"snapshot_time": utc_text_z(e.snapshot_time)}
            | {name: getattr(e, name) or 0 for name in ("inserted", "updated", "deleted")}
            for e in later
        ]
    shown = [
        {name: getattr(entry, name) for name in names} | {"snapshot_time": utc_text_z(entry.snapshot_time)}
        for entry in entries[-MAX_DECISIONS:]
    ]
    return {"entries": {"of": len(entries), "shown": shown}, "changes": changes}


def _quality(run: Run, spark: SparkSession, histories: dict[str, LedgerHistory], models: list[str]) -> Document:
    """Return the row counts of each table's newest accepted snapshot, and the expectations with their results."""
    accepted = [h.last_accepted for h in histories.values() if h.last_accepted]
    results = expectations.latest_results(spark, run.lake).where(F.col("model").isin(models))
    models_by_layer = {"silver": run.pipeline.silver, "gold": run.pipeline.gold}
    declared = []
    for model in models:
        layer, _, short_name = model.partition(".")
        for name, expectation in models_by_layer[layer][short_name].expect.items():
            # as it is written in pipeline.yml; of a `check`, the condition alone
            settings = expectation.model_dump(mode="json", exclude={"on_fail"}, exclude_none=True)
            check = str(settings["check"]) if list(settings) == ["check"] else json.dumps(settings, ensure_ascii=False)
            on_fail = getattr(expectation, "policy", expectation.on_fail)
            declared.append({"model": model, "name": name, "check": check, "on_fail": on_fail})
    return {
        "tables": [{"table": e.table, "snapshot_time": utc_text_z(e.snapshot_time)} | e.counts for e in accepted],
        "expectations": declared,
        "results": json_rows(results.orderBy("model", "rule")),
    }


def _quarantine(
    run: Run, spark: SparkSession, histories: dict[str, LedgerHistory], models: list[str]
) -> Iterator[Document]:
    """Yield the number of unresolved and of resolved rows by table or model, stage, rule and column."""
    for table, history in histories.items():
        if history.last_accepted and history.last_accepted.sequence is not None:
            rows = quarantine.read_of_table(spark, run.lake, table, history.last_accepted.sequence)
            yield from _count_by_rule(table, rows)
    for model in models:
        version = delta.current_version(spark, run.lake.table(model))
        if version is not None and any(rule.on_fail == "quarantine" for rule in run.plans[model].rules):
            rows = quarantine.read_of_model(spark, run.lake, model, version.last_refresh_version)
            # Their `first_sequence` is a version of the model's table, not the sequence of a snapshot.
            yield from (row | {"since": None} for row in _count_by_rule(model, rows))


def _count_by_rule(name: str, rows: DataFrame) -> list[Document]:
    """Return the number of unresolved and of resolved rows, and the first sequence of the unresolved ones."""
    counts = rows.groupBy("stage", "rule", "column").agg(
        F.count(F.when(~F.col("resolved"), 1)).alias("waiting"),
        F.count(F.when(F.col("resolved"), 1)).alias("resolved"),
        F.min(F.when(~F.col("resolved"), F.col("first_sequence"))).alias("since"),
    )
    return [{"table": name} | row for row in json_rows(counts.orderBy(F.desc("waiting"), "stage", "rule", "column"))]
