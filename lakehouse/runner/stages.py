"""The stages, and a run over all of them. In order:

    hold the lake -> nothing new? done, without a JVM
    extract   the source's new snapshots          -> landing; a source that had to be read for it, and nothing new? done
    ingest    each landed snapshot, against bronze -> raw, ledger
    bronze    the ledger's accepted change sets    -> bronze
    silver    what changed in bronze               -> silver
    gold      what changed in silver               -> gold
    publish   what changed in what is published    -> PostgreSQL, where the pipeline says so
    expire    once a day, what `retention` says may go
    leave the clean mark, a run record and, if it failed, word with whom `on_failure` names

Every table and model is attempted; what became of each is an `Outcome`, and the exit code is the worst of theirs.
From a notebook: `lakehouse.run("conf/loyalty")`, or one: `lakehouse.stages.silver("conf/loyalty", "silver.clientes")`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse import extract as sources
from lakehouse.config import Retention
from lakehouse.error_mapping import with_retries
from lakehouse.errors import ExitCode, worst_exit_code
from lakehouse.models import file_order
from lakehouse.runner import publishing, up_to_date
from lakehouse.runner.context import Run, lock_lake, open_run, record_run, run_in_parallel, save_record
from lakehouse.runner.outcome import Outcome, Report
from lakehouse.runner.publishing import PUBLISH

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.lake.ledger import LedgerHistory
    from lakehouse.models.expectations import RuleResult
    from lakehouse.models.refresh import Model
    from lakehouse.retention.expire import RetentionResult

STAGES = ("extract", "ingest", "bronze", "silver", "gold")
EXPIRE = "expire"


def run_stages(run: Run, wanted_stages: Iterable[str]) -> Report:
    """Hold the lake and do these stages.

    Raises:
        LakeBusy: another run holds it.
    """
    report, wanted = Report(run.pipeline.name, run.id), tuple(wanted_stages)
    doing, is_run = " ".join(wanted) if wanted != STAGES else "run", wanted == STAGES
    wanted = (*STAGES, PUBLISH) if is_run and run.published_tables() else wanted
    run.stages = wanted
    with record_run(run, report, doing) as record, lock_lake(run, doing):
        whole = is_run and not run.names and not run.full_refresh
        is_clean = (whole or wanted == (EXPIRE,)) and up_to_date.is_up_to_date(run.pipeline, run.lake)
        if whole and is_clean:
            report.nothing_new = True
        else:
            before = up_to_date.read_inputs(run.pipeline, run.lake) if whole or is_clean else {}
            settled = whole and up_to_date.is_up_to_date_if_nothing_lands(run.pipeline, run.lake)
            save_record(run, record)
            up_to_date.remove_mark(run.lake)
            _run_in_order(run, report, (*wanted, EXPIRE) if whole and _is_expire_due(run) else wanted, settled)
            if (whole or is_clean) and report.code == ExitCode.OK and not report.stopped_before:
                up_to_date.write_mark(run.lake, before, run.pipeline)
    return report


def _run_in_order(run: Run, report: Report, wanted: tuple[str, ...], only_source_can_change: bool) -> None:
    """The stages, up to one before which somebody asked for an end.

    Args:
        settled: only the source could have changed, which the first stage tells.
    """
    for stage in wanted:
        if run.stop_requested():
            report.stopped_before = stage
            run.log.warning("stopped, as asked", before=stage)
            return
        run.log.info("stage begun", stage=stage)
        report.outcomes += with_retries(partial(_STAGE_FUNCTIONS[stage], run))
        if any(outcome.code == ExitCode.BUSY for outcome in report.outcomes):
            return  # another run works on this lake: not a stage more
        if only_source_can_change and all(o.status == "nothing new" for o in report.outcomes):
            report.nothing_new = True
            return
        only_source_can_change = False


def approve(run: Run, table: str, time: datetime) -> Report:
    """Accept a held snapshot with the guards off.

    Raises:
        ConfigError: it is not held, or no longer the newest.
    """
    from lakehouse.ingest import decide as ingesting
    from lakehouse.spark.session import isolated_session

    report = Report(run.pipeline.name, run.id)
    with record_run(run, report, f"approve {table}") as record, lock_lake(run, f"approve {table}"):
        save_record(run, record)
        up_to_date.remove_mark(run.lake)
        done = ingesting.approve(isolated_session(run.spark), run.pipeline, run.lake, table, time, run.id)
        report.outcomes += _ingest_outcomes(done)
    return report


# --- the stages -------------------------------------------------------------------------------------------------


def _extract(run: Run) -> list[Outcome]:
    now = datetime.now(timezone.utc)

    def work(name: str) -> Iterator[Outcome]:
        done = sources.extract_table(source, name, now, run.as_of)
        status = "landed" if done.landed_times else "nothing new"
        yield Outcome("extract", name, status, {"snapshots": len(done.landed_times)}, note="\n".join(done.warnings))

    with sources.open_source(run.pipeline, run.lake, run.selected_tables()) as source:
        return run_in_parallel(run, "extract", run.selected_tables(), work)


def _ingest(run: Run) -> list[Outcome]:
    from lakehouse.ingest import reset
    from lakehouse.ingest.decide import ingest
    from lakehouse.lake import ledger
    from lakehouse.spark.session import isolated_session

    spark = run.spark
    ledger.create_if_missing(spark, run.lake)
    if run.full_refresh and run.stages == ("ingest",):
        reset.reset_tables(spark, run.lake, run.selected_tables())
    histories = ledger.read_histories(spark, run.lake, run.selected_tables())

    def work(name: str) -> Iterator[Outcome]:
        own = isolated_session(spark, run.snapshot_bytes(name))
        return _ingest_outcomes(ingest(own, run.pipeline, run.lake, name, run.id, _pop_history(run, histories, name)))

    return run_in_parallel(run, "ingest", run.selected_tables(), work)


def _pop_history(run: Run, histories: dict[str, LedgerHistory], name: str) -> LedgerHistory:
    """What has been read of a table; anew, where its work is done again."""
    from lakehouse.lake import ledger

    return histories.pop(name, None) or ledger.read_histories(run.spark, run.lake, [name])[name]


def _ingest_outcomes(done: Any) -> Iterator[Outcome]:
    """One outcome a decision; a snapshot that waits for approval is told again on every run."""
    for entry in done.entries:
        code, note = ExitCode.OK, entry.reason or ""
        if entry.status == "held":
            code = ExitCode.HELD
        elif entry.status == "rejected" and entry not in done.late:
            code = ExitCode.REFUSED
        yield Outcome("ingest", entry.table, entry.status, entry.counts, code=code, note=note)
    if done.held and done.held not in done.entries:
        yield Outcome("ingest", done.table, "held", done.held.counts, code=ExitCode.HELD, note=done.held.reason or "")
    if not done.entries and not done.held:
        yield Outcome("ingest", done.table, "nothing new")


def _bronze(run: Run) -> list[Outcome]:
    from lakehouse.bronze import apply
    from lakehouse.lake import ledger
    from lakehouse.spark.session import isolated_session

    spark = run.spark
    histories = ledger.read_histories(spark, run.lake, run.selected_tables())

    def work(name: str) -> Iterator[Outcome]:
        size, table = run.snapshot_bytes(name), run.pipeline.tables[name]
        own = isolated_session(spark, size)
        history = _pop_history(run, histories, name)
        done = apply.refresh(own, run.lake, name, table, history, size, run.full_refresh)
        counts = {"inserted": done.inserted, "updated": done.updated, "deleted": done.deleted}
        status = "healed" if done.repair_reason else "applied" if done.commits else "current"
        yield Outcome("bronze", name, status, counts, note=done.repair_reason)

    return run_in_parallel(run, "bronze", run.selected_tables(), work)


def _models(run: Run, layer: str) -> list[Outcome]:
    from lakehouse.models.refresh import refresh
    from lakehouse.spark.session import SMALL_DATA_BYTES, isolated_session

    spark, outcomes = run.spark, list[Outcome]()
    results: list[RuleResult] = []
    prepared, size = build_models(run), run.snapshot_bytes(*run.pipeline.tables)

    def work(name: str) -> Iterator[Outcome]:
        own = isolated_session(spark, size)
        done = refresh(own, run.lake, prepared[name], size < SMALL_DATA_BYTES, run.full_refresh, results.extend)
        counts = {k: getattr(done.written, k) for k in ("inserted", "updated", "deleted")}
        yield Outcome(layer, name, done.status, counts | dict(done.rejected), note=done.reason)

    for group in run.model_groups(layer):
        outcomes += run_in_parallel(run, layer, group, work)
    _record_expectations(run, results)
    return outcomes


def _record_expectations(run: Run, results: list[RuleResult]) -> None:
    """Record what came of the expectations of a layer's models, and tell of those that are not met."""
    from lakehouse.lake import ledger
    from lakehouse.models import expectations

    for r in (r for r in results if not r.is_met and r.on_fail != "fail"):  # which is told as the model's error
        run.log.warning("expectation not met", model=r.model, rule=r.rule, on_fail=r.on_fail, found=r.observed)
    if results:
        expectations.record_results(
            run.spark, run.lake, results, run.id, ledger.newest_accepted_time(run.spark, run.lake)
        )


def refresh_models(run: Run, layer: str) -> list[Outcome]:
    """Bring a layer's models up to date, for a command that holds the lake already."""
    return _models(run, layer)


def build_models(run: Run) -> dict[str, Model]:
    """The pipeline's models, with the keys of their inputs and the parameters of this run."""
    from lakehouse.lake.ledger import newest_accepted_time
    from lakehouse.models.refresh import Model

    keys = run.key_columns()
    parameters = {
        "as_of": newest_accepted_time(run.spark, run.lake),
        "business_timezone": run.pipeline.business_timezone,
    }
    sought = file_order.lookup_columns(run.plans)
    return {
        name: Model(plan, {r: keys[r] for r in plan.inputs}, parameters, sought.get(name, ()))
        for name, plan in run.plans.items()
    }


def _is_expire_due(run: Run) -> bool:
    if run.pipeline.retention == Retention():
        return False
    from lakehouse.retention import expire

    return expire.is_due(run.pipeline.retention, run.lake, datetime.now(timezone.utc))


def _expire(run: Run) -> list[Outcome]:
    from lakehouse.retention import expire

    now = datetime.now(timezone.utc)
    todo = _expire_tasks(run, now)

    def work(name: str) -> Iterator[Outcome]:
        done = todo[name]()
        yield Outcome(EXPIRE, name, done.status, done.counts, note=done.reason)

    outcomes = run_in_parallel(run, EXPIRE, list(todo), work)
    if not run.names and not run.dry_run and worst_exit_code(o.code for o in outcomes) == ExitCode.OK:
        expire.record_done(run.pipeline.retention, run.lake, now)
    return outcomes


def _expire_tasks(run: Run, now: datetime) -> dict[str, Callable[[], RetentionResult]]:
    """Landed snapshots by table, change sets by table, then versions by Delta table."""
    from lakehouse.lake import ledger
    from lakehouse.retention import compact, expire
    from lakehouse.spark.session import isolated_session

    keep, lake, dry = run.pipeline.retention, run.lake, run.dry_run
    size = run.snapshot_bytes(*run.pipeline.tables)
    todo: dict[str, Callable[[], RetentionResult]] = {}
    if keep.landing:
        histories = ledger.read_histories(run.spark, lake, run.selected_tables())
        todo |= {n: partial(expire.expire_snapshots, lake, n, h, now, keep.landing, dry) for n, h in histories.items()}
    if keep.change_sets:
        for name in run.selected_tables():
            own, table = isolated_session(run.spark, run.snapshot_bytes(name)), run.pipeline.tables[name]
            fold = partial(compact.compact_change_sets, own, lake, name, table, now, keep.change_sets, run.id, dry)
            todo[f"raw.{name}"] = fold
    if keep.vacuum:
        todo |= {
            name: partial(_expire_versions, run, isolated_session(run.spark, size), name)
            for name in _tables_to_vacuum(run)
        }
    return todo


def _tables_to_vacuum(run: Run) -> list[str]:
    """The Delta tables that the command is narrowed to, and the quarantine of each of them."""
    models = [model for layer in ("silver", "gold") for group in run.model_groups(layer) for model in group]
    keeping = [m.partition(".")[2] for m in models if any(r.on_fail == "quarantine" for r in run.plans[m].rules)]
    own = [f"{layer}.{table}" for table in run.selected_tables() for layer in ("quarantine", "bronze")]
    return list(dict.fromkeys([*own, *models, *(f"quarantine.{name}" for name in keeping)]))


def _expire_versions(run: Run, spark: SparkSession, name: str) -> RetentionResult:
    from lakehouse.retention import expire

    keep, others = run.pipeline.retention.vacuum or timedelta.max, publishing.pending_readers(spark, run, name)
    return expire.vacuum_table(spark, run.lake, name, run.plans, keep, run.dry_run, others)


_STAGE_FUNCTIONS: dict[str, Callable[[Run], list[Outcome]]] = {
    "extract": _extract,
    "ingest": _ingest,
    "bronze": _bronze,
    "silver": lambda run: _models(run, "silver"),
    "gold": lambda run: _models(run, "gold"),
    PUBLISH: publishing.publish_tables,
    EXPIRE: _expire,
}


# --- for notebooks ----------------------------------------------------------------------------------------------


def run(pipeline: str | Path, *names: str, **options: Any) -> Report:
    """All stages in order.

    Args:
        pipeline: a folder with pipeline.yml, or that file.
        names: tables and models to narrow the run to.
        options: `as_of`, `full_refresh`, `verbose`, as on the command line.

    Raises:
        ConfigError, LakeBusy: nothing was begun. What goes wrong later is in the report.
    """
    return run_stages(open_run(pipeline, names, **options), STAGES)


def _stage_function(stage: str) -> Callable[..., Report]:
    def one(pipeline: str | Path, *names: str, **options: Any) -> Report:
        return run_stages(open_run(pipeline, names, **options), (stage,))

    one.__name__ = one.__qualname__ = stage
    one.__doc__ = f"The stage `{stage}` alone; arguments, result and errors as of `run`."
    return one


extract, ingest, bronze, silver, gold = map(_stage_function, STAGES)
publish = _stage_function(PUBLISH)
