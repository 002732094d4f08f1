"""What a report tells, as plain values: read from the lake as it is, and from the configuration. Nothing is written.

    status, runs         what `lakehouse status` tells
    flow                 each stage's tables and models, with what the last run did and what reads what
    entries, changes     the ledger: decisions about snapshots, and what the accepted ones changed
    quality              what came of the newest snapshots, and the models' expectations
    quarantine           what was refused, by reason; never a row or a value
    lineage              from column to column                                     lineage.py
    cubes                charts' rows and the newest rows, a bounded part          cubes.py

Each table is read as it is when its turn comes: a run at work may commit between two of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

import lakehouse
from lakehouse import logs
from lakehouse.config.expect import Expectation
from lakehouse.inspect import status
from lakehouse.inspect.diff_samples import json_rows
from lakehouse.lake import delta, ledger, quarantine
from lakehouse.lake.ledger import COUNT_COLUMNS, LedgerHistory
from lakehouse.models import expectations
from lakehouse.report import cubes, lineage
from lakehouse.runner import records
from lakehouse.runner.context import Run
from lakehouse.spark.session import isolated_session

Document = dict[str, Any]
ColumnsByRelation = dict[str, tuple[lineage.LineageColumn, ...]]

MAX_DECISIONS, MAX_CHANGES, MAX_RUNS = 400, 60, 20
_THREADS = 4


def gather(run: Run) -> Document:
    """All that the page shows of the tables and models that `run` is narrowed to; secrets are out of sight."""
    columns = lineage.relation_columns(run.pipeline, run.plans)
    with ThreadPoolExecutor(_THREADS) as pool:
        read = [pool.submit(_read_cube, run, columns, model) for group in run.model_groups("gold") for model in group]
        found = _document_without_cubes(run, columns)
        found["cubes"] = [cube for each in read if (cube := each.result())]
    hidden: Document = logs.redact_document(found)
    return hidden


def _document_without_cubes(run: Run, columns: ColumnsByRelation) -> Document:
    """All but the cubes."""
    spark = isolated_session(run.spark, run.snapshot_bytes(*run.pipeline.tables))
    histories, newest = ledger.read_histories(spark, run.lake, run.selected_tables()), records.read_newest(run.lake)
    models = [m for layer in ("silver", "gold") for group in run.model_groups(layer) for m in group]
    return {
        "pipeline": run.pipeline.name,
        "folder": str(run.pipeline.folder if run.pipeline.path.stem == "pipeline" else run.pipeline.path),
        "lake": run.lake.root,
        "version": lakehouse.__version__,
        "made": records.utc_text(datetime.now(timezone.utc)),
        "status": status.status(run),
        "runs": _run_summaries(newest[:MAX_RUNS]),
        "flow": _flow(run, spark, newest, histories, models),
        "entries": _ledger_entries(histories.values()),
        "changes": {name: _change_counts(history) for name, history in histories.items()},
        "quality": _quality(run, spark, histories, models),
        "quarantine": [
            *(row for name, history in histories.items() for row in _table_quarantine(run, spark, name, history)),
            *(row for model in models for row in _model_quarantine(run, spark, model)),
        ],
        "models": [_model_document(run, model) for model in models],
        "lineage": _lineage_document(columns),
    }


def _read_cube(run: Run, columns: ColumnsByRelation, model: str) -> Document | None:
    own = isolated_session(run.spark, run.snapshot_bytes(*run.pipeline.tables))
    return cubes.read_cube(own, run.lake, run.plans[model], lineage.personal_predicate(columns, model))


def _run_summaries(run_records: list[records.Record]) -> list[Document]:
    """Run records in a line each."""
    told = ("run_id", "doing", "started", "ended", "seconds", "exit_code", "nothing_new")
    return [
        {name: record.get(name) for name in told}
        | {"failed": [f"{o['stage']} {o['name']}: {o['status']}" for o in record.get("outcomes") or () if o["code"]]}
        for record in run_records
    ]


def _flow(
    run: Run,
    spark: SparkSession,
    run_records: list[records.Record],
    histories: dict[str, LedgerHistory],
    models: list[str],
) -> Document:
    """The stages' tables, and what the newest run that found something did to each."""
    ended = [r for r in run_records if r["doing"] == "run" and r["ended"]]
    last = next((r for r in ended if r.get("outcomes") and not r.get("nothing_new")), None)
    since = ended.index(last) if last else 0
    bronze = [f"bronze.{name}" for name in histories]
    counted = _row_counts(run, spark, [*bronze, *models])
    outcomes = _outcomes_by_name(last or {})
    reads = {model: run.plans[model].inputs for model in models}
    return {
        "ended": last["ended"] if last else None,
        "published": [{"relation": name, "outcome": o} for (stage, name), o in outcomes.items() if stage == "publish"],
        "nothing_since": since,
        "tables": [
            {
                "table": name,
                "snapshot_time": _utc_text(history.newest_entry.snapshot_time) if history.newest_entry else None,
                "extract": outcomes.get(("extract", name)),
                "ingest": outcomes.get(("ingest", name)),
                "bronze": outcomes.get(("bronze", name)),
                "rows": counted[f"bronze.{name}"],
            }
            for name, history in histories.items()
        ],
        "models": [
            {
                "model": model,
                "reads": reads[model],
                "outcome": outcomes.get((model.partition(".")[0], model)),
                "rows": counted[model],
            }
            for model in models
        ],
    }


def _outcomes_by_name(record: records.Record) -> dict[tuple[str, str], Document]:
    """What a run did by stage and name: of several snapshots of one table the sum, and the last one's status."""
    found: dict[tuple[str, str], Document] = {}
    for o in record.get("outcomes") or ():
        before = found.get((o["stage"], o["name"]), {"counts": {}, "code": 0})
        counts = {k: before["counts"].get(k, 0) + v for k, v in o["counts"].items()}
        found[o["stage"], o["name"]] = {"status": o["status"], "counts": counts, "code": max(before["code"], o["code"])}
    return found


def _row_counts(run: Run, spark: SparkSession, relations: list[str]) -> dict[str, int | None]:
    """How many rows each has now, in one query; None where there is no table."""
    paths = {relation: run.lake.table(relation) for relation in relations}
    there = [relation for relation, path in paths.items() if delta.exists(spark, path)]
    counts = [delta.read(spark, paths[r]).agg(F.count("*").alias("n")).select(F.lit(r).alias("r"), "n") for r in there]
    counted = {row["r"]: row["n"] for row in reduce(DataFrame.unionAll, counts).collect()} if counts else {}
    return {relation: counted.get(relation) for relation in relations}


def _ledger_entries(histories: Iterable[LedgerHistory]) -> Document:
    """Decisions by time of recording, the newest last."""
    every = sorted(
        (entry for history in histories for entry in history.entries),
        key=lambda e: (e.recorded_at or e.snapshot_time, e.table, e.snapshot_time),
    )
    told = ("table", "sequence", "status", "kind", *COUNT_COLUMNS, "reason")
    shown = [{name: getattr(e, name) for name in told} | {"snapshot_time": _utc_text(e.snapshot_time)} for e in every]
    return {"of": len(shown), "shown": shown[-MAX_DECISIONS:]}


def _change_counts(history: LedgerHistory) -> list[Document]:
    """What the newest accepted snapshots changed, the full load left out, the newest last."""
    told = ("inserted", "updated", "deleted")
    later = [entry for entry in history.accepted if entry.kind != "full-load"]
    return [
        {"snapshot_time": _utc_text(e.snapshot_time)} | {name: getattr(e, name) or 0 for name in told}
        for e in later[-MAX_CHANGES:]
    ]


def _quality(run: Run, spark: SparkSession, histories: dict[str, LedgerHistory], models: list[str]) -> Document:
    """What became of the rows of each newest accepted snapshot, what the models are expected to be, and whether so."""
    accepted = [h.last_accepted for h in histories.values() if h.last_accepted]
    expected = {"silver": run.pipeline.silver, "gold": run.pipeline.gold}
    return {
        "tables": [{"table": e.table, "snapshot_time": _utc_text(e.snapshot_time)} | e.counts for e in accepted],
        "expectations": [
            {
                "model": model,
                "name": name,
                "check": _expectation_text(each),
                "on_fail": getattr(each, "policy", each.on_fail),
            }
            for model in models
            for layer, _, short in [model.partition(".")]
            for name, each in expected[layer][short].expect.items()
        ],
        "results": _expectation_results(run, spark, models),
    }


def _expectation_text(expectation: Expectation) -> str:
    """An expectation as pipeline.yml says it: the condition alone, where it is one."""
    said = expectation.model_dump(mode="json", exclude={"on_fail"}, exclude_none=True)
    return str(said["check"]) if list(said) == ["check"] else json.dumps(said, ensure_ascii=False)


def _expectation_results(run: Run, spark: SparkSession, models: list[str]) -> list[Document]:
    """The newest result of each expectation, as it is stored; no values of rows are in it."""
    rows = expectations.latest_results(spark, run.lake).where(F.col("model").isin(models))
    return json_rows(rows.orderBy("model", "rule"))


def _table_quarantine(run: Run, spark: SparkSession, table: str, history: LedgerHistory) -> list[Document]:
    """A table's quarantine by stage, rule and column: how much waits, and how much has been mended."""
    if history.last_accepted is None or history.last_accepted.sequence is None:
        return []
    return _quarantine_by_rule(table, quarantine.read_of_table(spark, run.lake, table, history.last_accepted.sequence))


def _model_quarantine(run: Run, spark: SparkSession, model: str) -> list[Document]:
    """The same of what expectations took out of a model, since a version of its table that has no sequence."""
    head = delta.current_version(spark, run.lake.table(model))
    if head is None or not any(rule.on_fail == "quarantine" for rule in run.plans[model].rules):
        return []
    told = _quarantine_by_rule(model, quarantine.read_of_model(spark, run.lake, model, head.last_refresh_version))
    return [row | {"since": None} for row in told]


def _quarantine_by_rule(name: str, rows: DataFrame) -> list[Document]:
    told = rows.groupBy("stage", "rule", "column").agg(
        F.count(F.when(~F.col("resolved"), 1)).alias("waiting"),
        F.count(F.when(F.col("resolved"), 1)).alias("resolved"),
        F.min(F.when(~F.col("resolved"), F.col("first_sequence"))).alias("since"),
    )
    return [{"table": name} | row for row in json_rows(told.orderBy(F.desc("waiting"), "stage", "rule", "column"))]


def _model_document(run: Run, model: str) -> Document:
    plan = run.plans[model]
    return {
        "model": model,
        "strategy": plan.strategy,
        "reason": plan.reason,
        "keys": list(plan.keys),
        "inputs": plan.inputs,
    }


def _lineage_document(columns: ColumnsByRelation) -> list[Document]:
    return [
        {
            "relation": relation,
            "columns": [
                {
                    "name": c.name,
                    "text": c.expression,
                    "origins": [list(o) for o in c.origins],
                    "personal": c.is_personal,
                }
                for c in each
            ],
        }
        for relation, each in columns.items()
    ]


def _utc_text(time: datetime) -> str:
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
