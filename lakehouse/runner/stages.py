"""Runs the stages of a pipeline. Entry point: `run_stages`. Its steps:

1. Lock the lake. If nothing changed since the last run, stop: no JVM is started.
2. extract   new snapshots of the source                     -> landing; stop if the source had to be read and has none
3. ingest    each landed snapshot, compared with bronze      -> raw, ledger
4. bronze    the change sets that the ledger accepted        -> bronze
5. silver    the changes of bronze                           -> silver
6. gold      the changes of silver                           -> gold
7. publish   the changes of the published tables             -> PostgreSQL, if the pipeline publishes
8. expire    once a day: remove old files and versions by `retention`
9. compact   at most four tables that have come to many small files (`compaction.py`)
10. Write the clean mark and the run record, and notify `on_failure` if the run failed.

If a stage failed because files of a table were lost, the table is repaired and the stages run once more (`repair.py`).
All tables and models are attempted. Each has an `Outcome`, and the exit code is the worst of theirs.
From a notebook: `lakehouse.run("conf/loyalty")`, or one: `lakehouse.stages.silver("conf/loyalty", "silver.clientes")`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse import extract as sources
from lakehouse.config.layers import MODEL_LAYERS
from lakehouse.error_mapping import retry_transient
from lakehouse.errors import ConfigError, ExitCode
from lakehouse.failpoints import failpoint
from lakehouse.models import file_order
from lakehouse.models.sql.determinism import NEWEST_SNAPSHOT
from lakehouse.runner import expiring, missing_keys, publishing, repair, up_to_date
from lakehouse.runner.compaction import compact_written
from lakehouse.runner.context import Run, lock_lake, open_run, record_run, run_in_parallel, save_record
from lakehouse.runner.expiring import EXPIRE
from lakehouse.runner.outcome import FAILED, WAITING, Outcome, Report
from lakehouse.runner.publishing import PUBLISH
from lakehouse.storage import file_io, landing
from lakehouse.storage.paths import snapshot_name, to_utc

if TYPE_CHECKING:
    from lakehouse.ingest import IngestResult
    from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
    from lakehouse.models.expectations import RuleResult
    from lakehouse.models.model import Model

STAGES = ("extract", "ingest", "bronze", "silver", "gold")
_TABLE_STAGES = ("ingest", "bronze")

_LIGHT_BYTES = 1 << 20  # of a snapshot that takes little time and memory


def run_stages(run: Run, stages: Iterable[str]) -> Report:
    """Lock the lake and run stages in order.

    Args:
        run: The command, with its pipeline and names.
        stages: The names of the stages. All of `STAGES` are a run, which also publishes and expires.

    Raises:
        LakeBusy: Another run has locked the lake.
    """
    report, requested = Report(run.pipeline.name, run.id), tuple(stages)
    is_run = requested == STAGES
    command = "run" if is_run else " ".join(requested)
    run.stages = (*STAGES, PUBLISH) if is_run and run.published_tables() else requested
    if run.full_refresh and requested == ("bronze",):  # another type or name goes through all layers by one command
        run.stages, run.follows_tables = ("bronze", *MODEL_LAYERS), True
    for warning in run.warnings:
        run.log.warning("check the models", reason=warning)
    with ExitStack() as stack:
        record = stack.enter_context(record_run(run, report, command))
        if "extract" in requested:
            _require_source(run, command)
        stack.enter_context(lock_lake(run, command))
        if "extract" in requested:
            sources.record_look(run.pipeline, run.lake)
        work = _decide(run, is_run)
        standing = up_to_date.read_warnings(run.lake)
        if not work.stages:
            report.nothing_new = True
            for table, note in standing.items():
                report.outcomes.append(Outcome("extract", table, "nothing new", note=note))
                run.log.warning("the source differs from what was taken", table=table, reason=note)
            return report
        save_record(run, record)
        up_to_date.remove_mark(run.lake)
        _run_in_order(run, report, work)
        if again := repair.repair_failed(run, report, work.stages):
            _run_in_order(run, report, replace(work, stages=again, only_source_can_change=False))
        report.outcomes += compact_written(run, report)
        if work.inputs is not None and report.code == ExitCode.OK and not report.stopped_before:
            if "extract" in work.stages:
                standing = {o.name: o.note for o in report.outcomes if o.stage == "extract" and o.note}
            due = min(missing_keys.due_times(run, run.pipeline.tables).values(), default=None)
            up_to_date.write_mark(run.lake, work.inputs, run.pipeline, standing, due)
    return report


def _require_source(run: Run, command: str) -> None:
    """Raise if the source is missing, before a lake is made; a lake that is there and busy gets no record of it."""
    try:
        sources.require_source(run.pipeline, run.rewritten)
    except ConfigError:
        if file_io.list_names(run.lake.path()):
            with lock_lake(run, command):
                pass
        raise


@dataclass(frozen=True)
class _Work:
    """The work of a command.

    Attributes:
        stages: The stages to run; empty if nothing has changed since the last run.
        only_source_can_change: Nothing else has changed, so the run ends after `extract` if that lands nothing.
        inputs: The state that the run read before its first stage, for the mark; None if it must not leave a mark.
    """

    stages: tuple[str, ...]
    only_source_can_change: bool = False
    inputs: dict[str, Any] | None = None


def _decide(run: Run, is_run: bool) -> _Work:
    """Return the work of a command. Only a run of everything, and `expire` of a lake that is up to date, mark it."""
    is_complete = is_run and not run.names and not run.full_refresh
    if not is_complete and run.stages != (EXPIRE,):
        return _Work(run.stages)
    is_up_to_date = up_to_date.is_up_to_date(run.pipeline, run.lake, run.snapshot_time)
    if is_complete and is_up_to_date:
        return _Work(())
    if not is_complete:
        return _Work(run.stages, inputs=up_to_date.read_inputs(run.pipeline, run.lake) if is_up_to_date else None)
    return _Work(
        (*run.stages, EXPIRE) if expiring.is_due(run) else run.stages,
        up_to_date.is_up_to_date_if_nothing_lands(run.pipeline, run.lake, run.snapshot_time),
        up_to_date.read_inputs(run.pipeline, run.lake),
    )


def _run_in_order(run: Run, report: Report, work: _Work) -> None:
    """Run the stages, until a stop is requested or another run turns out to work on the lake."""
    for stage in work.stages:
        if run.stop_requested():
            report.stopped_before = stage
            run.log.warning("stopped, as asked", before=stage)
            return
        run.log.info("stage begun", stage=stage)
        run.progress.begin(stage, _count_subjects(run, stage))
        failpoint("before_stage", stage)
        outcomes = retry_transient(partial(_STAGE_FUNCTIONS[stage], run))
        failpoint("after_stage", stage)
        report.outcomes += outcomes
        run.blocked.update(f"bronze.{o.name}" for o in outcomes if o.stage in _TABLE_STAGES and o.status == FAILED)
        if any(outcome.code == ExitCode.BUSY for outcome in report.outcomes):
            return
        is_first = stage == work.stages[0]
        if is_first and work.only_source_can_change and all(o.status == "nothing new" for o in report.outcomes):
            report.nothing_new = True
            return


def _count_subjects(run: Run, stage: str) -> int:
    """Return the number of tables or models that a stage works on; 0 if that is known only later."""
    if stage in MODEL_LAYERS:
        return sum(map(len, run.model_groups(stage)))
    return {PUBLISH: len(run.published_tables()), EXPIRE: 0}.get(stage, len(run.selected_tables()))


def approve(run: Run, table: str, time: datetime) -> Report:
    """Accept a held snapshot without applying the guards; or put one in its place that was late or has changed.

    Args:
        run: The command.
        table: The name of the table.
        time: The time of the snapshot.

    Raises:
        ConfigError: The snapshot is neither held, late nor changed; or it is held, and a newer one was accepted since.
        DataRefused: A later snapshot cannot be compared again.
    """
    from lakehouse.ingest import IngestContext, approve_snapshot
    from lakehouse.lake import ledger
    from lakehouse.spark.session import isolated_session

    report, command = Report(run.pipeline.name, run.id), f"approve {table}"
    with record_run(run, report, command) as record, lock_lake(run, command):
        save_record(run, record)
        up_to_date.remove_mark(run.lake)
        ledger.create_if_missing(run.spark, run.lake)
        history = ledger.read_histories(run.spark, run.lake, [table])[table]
        table_ref = run.table_ref(table, isolated_session(run.spark))
        is_landed_again = _land_again(run, table, time, is_known=history.entry_at(time) is not None)
        context = IngestContext(table_ref, run.pipeline, run.id, history)
        report.outcomes += _ingest_outcomes(approve_snapshot(context, time, is_landed_again), run)
    return report


def _land_again(run: Run, table: str, time: datetime, is_known: bool) -> bool:
    """Land a snapshot again if its folder in the source changed after it was taken; return whether it did.

    So it is for a held one too, and for one that nothing was decided about: its old bytes may be the truncated file
    that was mended since. One that the ledger knows, and that is not there, was removed by an attempt that was killed.
    """
    landed = landing.find_snapshot(run.lake, table, time)
    if not sources.has_folders(run.pipeline) or (landed is None and not is_known):
        return False
    with sources.open_source(run.pipeline, run.lake, [table]) as source:
        if landed and not sources.changed_snapshots(source, [landed]):
            return False
        if not sources.land_again(source, table, time):
            return False
    failpoint("after_landed_again", table)
    return True


# --- the stages -------------------------------------------------------------------------------------------------------


def _extract(run: Run) -> list[Outcome]:
    now = datetime.now(timezone.utc)

    def work(name: str) -> Iterator[Outcome]:
        result = sources.extract_table(source, name, now, run.snapshot_time, due.get(name))
        status, counts = "landed" if result.landed_times else "nothing new", {"snapshots": len(result.landed_times)}
        yield Outcome("extract", name, status, counts, note="\n".join(result.warnings))

    with sources.open_source(run.pipeline, run.lake, run.selected_tables(), run.rewritten) as opened:
        source = replace(opened, on_bytes=run.progress.add_bytes)
        due = {} if source.snapshot_times else missing_keys.due_times(run, run.selected_tables())
        return run_in_parallel(run, "extract", run.selected_tables(), work)


def _ingest(run: Run) -> list[Outcome]:
    from lakehouse.ingest import (
        IngestContext,
        ingest_table,
        rebuild_change_sets,
        remove_scratch,
        replay,
        require_landed_events,
        reset_tables,
    )
    from lakehouse.lake import ledger

    spark, tables, replay_from = run.spark, run.selected_tables(), run.replay_from
    remove_scratch(run.lake, tables)
    ledger.create_if_missing(spark, run.lake)
    if run.full_refresh and run.stages == ("ingest",) and not replay_from:
        for name, history in ledger.read_histories(spark, run.lake, tables).items():
            if run.pipeline.tables[name].feed:
                require_landed_events(run.lake, name, history)
        reset_tables(spark, run.lake, tables)
    histories = ledger.read_histories(spark, run.lake, tables)
    unchanged: list[LedgerEntry] = []

    def work(name: str) -> Iterator[Outcome]:
        history = _pop_history(run, histories, name)
        context = IngestContext(run.table_ref(name), run.pipeline, run.id, history, unchanged=unchanged)
        if start := run.replays.get(name) or replay_from:
            cause = "change sets were lost" if name in run.replays else "a full refresh"
            result = replay(context, start, f"{cause} from {snapshot_name(start)}")
            yield from _ingest_outcomes(result, run)
            context.history = ledger.read_histories(spark, run.lake, [name])[name]
        if run.full_refresh and "bronze" in run.stages and (rebuilt := rebuild_change_sets(context)):
            context.history = rebuilt.history
            yield Outcome("ingest", name, "rebuilt", note=rebuilt.reason)
        result = ingest_table(context)
        if context.computed:
            run.computed[name] = context.computed
        yield from _ingest_outcomes(result, run)

    is_light = max(map(run.snapshot_bytes, tables), default=0) <= _LIGHT_BYTES
    outcomes = run_in_parallel(run, "ingest", tables, work, is_light)
    if unchanged:
        ledger.append_unchanged(spark, run.lake, unchanged)
    return outcomes


def _pop_history(run: Run, histories: dict[str, LedgerHistory], name: str) -> LedgerHistory:
    """Take a table's history out of those that were read for all tables; read it again when the work is retried."""
    from lakehouse.lake import ledger

    return histories.pop(name, None) or ledger.read_histories(run.spark, run.lake, [name])[name]


def _ingest_outcomes(result: IngestResult, run: Run) -> Iterator[Outcome]:
    """Yield one outcome per decision; a held snapshot is reported by every run until it is approved or superseded."""
    from lakehouse.lake.ledger import LedgerHistory

    decided = LedgerHistory([*result.entries])
    for entry in result.entries:
        code, note, kept = ExitCode.OK, entry.reason or "", None
        if entry.status == "held":
            if decided.superseding(entry.snapshot_time):  # by one of this run; of a feed, by none
                note += "; a later snapshot supersedes it"
            else:
                code, (note, kept) = ExitCode.HELD, _held_notes(result, entry)
        elif entry in result.late:
            stamp = snapshot_name(entry.snapshot_time)
            note += f"; to put it in its place: lakehouse approve {run.pipeline.argument} {entry.table} {stamp}"
        elif entry.status == "rejected":
            code = ExitCode.REFUSED
        yield Outcome("ingest", entry.table, entry.status, entry.counts, code=code, note=note, kept_note=kept)
    held = result.held
    if held and held not in result.entries:
        note, kept = _held_notes(result, held)
        yield Outcome("ingest", result.table, "held", held.counts, code=ExitCode.HELD, note=note, kept_note=kept)
    if not result.entries and not held:
        yield Outcome("ingest", result.table, "nothing new")


def _held_notes(result: IngestResult, entry: LedgerEntry) -> tuple[str, str]:
    """Return the note of a snapshot that is held, and the one to keep; the ledger's reason if it was not compared."""
    message = result.held_messages.get(entry.snapshot_time)
    return (message.to_text(), message.to_record()) if message else (entry.reason or "", entry.reason or "")


def _bronze(run: Run) -> list[Outcome]:
    from lakehouse import bronze
    from lakehouse.ingest import IngestContext, rebuild_change_sets
    from lakehouse.lake import ledger

    histories = ledger.read_histories(run.spark, run.lake, run.selected_tables())

    def work(name: str) -> Iterator[Outcome]:
        context = IngestContext(run.table_ref(name), run.pipeline, run.id, _pop_history(run, histories, name))
        is_rebuilt_before = "ingest" in run.stages  # by the stage before, with the snapshots that are new
        rebuilt = rebuild_change_sets(context) if run.full_refresh and not is_rebuilt_before else None
        history, size = rebuilt.history if rebuilt else context.history, run.snapshot_bytes(name)
        computed = run.computed.pop(name, None)
        result = bronze.refresh(context.table, history, size, run.full_refresh, computed)
        counts = {"inserted": result.inserted, "updated": result.updated, "deleted": result.deleted}
        status = "healed" if result.repair_reason else "applied" if result.commits else "current"
        yield Outcome("bronze", name, status, counts, note=rebuilt.reason if rebuilt else result.repair_reason)

    return run_in_parallel(run, "bronze", run.selected_tables(), work)


def refresh_models(run: Run, layer: str) -> list[Outcome]:
    """Refresh the selected models of a layer, and record the results of their expectations.

    Args:
        run: The command, which has locked the lake.
        layer: `silver` or `gold`.
    """
    from lakehouse.models.expectations import ExpectationsNotMet, without_recorded
    from lakehouse.models.refresh import refresh, waits_for
    from lakehouse.spark.session import SMALL_DATA_BYTES, lazy_session

    models, data_bytes = build_models(run), run.data_bytes(*run.pipeline.tables)
    rule_results: list[RuleResult] = []
    earlier_results: list[RuleResult] = []
    outcomes: list[Outcome] = []

    def work(name: str) -> Iterator[Outcome]:
        if blocking := [relation for relation in models[name].plan.dependencies if relation in run.blocked]:
            yield Outcome(layer, name, WAITING, note=waits_for(blocking, "not refreshed by this run"))
            return
        spark, is_small_lake = lazy_session(run.spark, data_bytes), data_bytes < SMALL_DATA_BYTES
        try:
            result = refresh(spark, run.lake, models[name], is_small_lake, run.full_refresh)
        except ExpectationsNotMet as error:
            rule_results.extend(error.results)
            raise
        rule_results.extend(result.rule_results)
        earlier_results.extend(result.earlier_results)
        counts = {action: getattr(result.written, action) for action in ("inserted", "updated", "deleted")}
        yield Outcome(layer, name, result.status, counts | dict(result.rejected), note=result.reason)

    for group in run.model_groups(layer):
        run.blocked.difference_update(group)  # of an attempt before this one
        done = run_in_parallel(run, layer, group, work)
        run.blocked.update(outcome.name for outcome in done if outcome.status in (FAILED, WAITING))
        outcomes += done
    # A run that was killed after a commit may not have appended its results, and nobody was warned.
    _record_rule_results(run, [*rule_results, *without_recorded(run.spark, run.lake, earlier_results)])
    return outcomes


def _record_rule_results(run: Run, results: list[RuleResult]) -> None:
    """Report the rules that are not met, and append all results to the lake."""
    from lakehouse.lake import ledger
    from lakehouse.models import expectations

    report_rules_not_met(run, results)
    if results:
        as_of = ledger.newest_accepted_time(run.spark, run.lake)
        expectations.record_results(run.spark, run.lake, results, run.id, as_of)


def report_rules_not_met(run: Run, results: Iterable[RuleResult]) -> None:
    """Report each rule that is not met and does not fail its model, which the outcome of the model would not show.

    Args:
        run: The command; its `on_rule_not_met` receives the rules, or else its log.
        results: The results of all rules.
    """
    for r in results:
        if r.is_met or r.fails_refresh:
            continue
        if run.on_rule_not_met:
            run.on_rule_not_met(r)
        else:
            run.log.warning("expectation not met", model=r.model, rule=r.rule, on_fail=r.on_fail, found=r.observed)


def build_models(run: Run) -> dict[str, Model]:
    """Return all models of the pipeline by name, with the keys of their inputs and the parameters of this run.

    Args:
        run: The command.
    """
    from lakehouse.lake.ledger import newest_accepted_time
    from lakehouse.models.model import Model
    from lakehouse.models.readable import may_have_bytes

    has_bytes = may_have_bytes(run.pipeline.tables.values(), run.plans.values())
    keys, lookup_columns = run.key_columns(), file_order.lookup_columns(run.plans)
    parameters = {
        **dict.fromkeys(NEWEST_SNAPSHOT, newest_accepted_time(run.spark, run.lake)),
        "business_timezone": run.pipeline.business_timezone,
    }
    stored = {f"bronze.{name}": table.stored_columns for name, table in run.pipeline.tables.items()}
    columns = {relation: tuple(column.name for column in each) for relation, each in stored.items()}
    hashes = {name: plan.sql_hash for name, plan in run.plans.items()}
    return {
        name: Model(
            plan,
            {relation: keys[relation] for relation in plan.inputs},
            parameters,
            lookup_columns.get(name, ()),
            run.pipeline.tuning,
            run.pipeline.sql_path(name),
            hashes,
            columns,
            has_bytes,
        )
        for name, plan in run.plans.items()
    }


_STAGE_FUNCTIONS: dict[str, Callable[[Run], list[Outcome]]] = {
    "extract": _extract,
    "ingest": _ingest,
    "bronze": _bronze,
    "silver": lambda run: refresh_models(run, "silver"),
    "gold": lambda run: refresh_models(run, "gold"),
    PUBLISH: publishing.publish_tables,
    EXPIRE: expiring.expire,
}


# --- for notebooks ----------------------------------------------------------------------------------------------------


def run(
    pipeline: str | Path,
    *names: str,
    snapshot_time: datetime | str | None = None,
    full_refresh: bool = False,
    verbose: bool = False,
    as_of: datetime | str | None = None,
) -> Report:
    """Run all stages in order.

    Args:
        pipeline: A folder with pipeline.yml, or that file.
        *names: The tables and models to which the run is limited; none: all of them.
        snapshot_time: The time of a snapshot whose source has none; a text is ISO, and UTC unless it has a zone.
        full_refresh: Whether the named tables and models are rebuilt from the layer before.
        verbose: Whether Spark's own output and full traces are shown.
        as_of: An earlier name of `snapshot_time`.

    Returns:
        The outcome of each table and model in each stage; `code` is the exit code of the command line.

    Raises:
        ConfigError, LakeBusy: The run did not start. Later errors are in the report.
    """
    return _run_for_notebook(STAGES, pipeline, names, snapshot_time or as_of, full_refresh, verbose)


def _run_for_notebook(
    wanted: tuple[str, ...],
    pipeline: str | Path,
    names: tuple[str, ...],
    snapshot_time: datetime | str | None,
    full_refresh: bool,
    verbose: bool,
) -> Report:
    time = None if snapshot_time is None else to_utc(snapshot_time)
    return run_stages(open_run(pipeline, names, snapshot_time=time, full_refresh=full_refresh, verbose=verbose), wanted)


def _stage_function(stage: str) -> Callable[..., Report]:
    def run_stage(
        pipeline: str | Path,
        *names: str,
        snapshot_time: datetime | str | None = None,
        full_refresh: bool = False,
        verbose: bool = False,
        as_of: datetime | str | None = None,
    ) -> Report:
        return _run_for_notebook((stage,), pipeline, names, snapshot_time or as_of, full_refresh, verbose)

    run_stage.__name__ = run_stage.__qualname__ = stage
    run_stage.__doc__ = f"Run only the stage `{stage}`; arguments, result and errors are those of `run`."
    return run_stage


extract, ingest, bronze, silver, gold = map(_stage_function, STAGES)
publish = _stage_function(PUBLISH)
