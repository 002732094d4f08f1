"""The stages, and a run over all of them. In order:

    hold the lake -> nothing new? done, without a JVM
    extract   the source's new snapshots          -> landing; a source that had to be read for it, and nothing new? done
    ingest    each landed snapshot, against bronze -> raw, ledger
    bronze    the ledger's accepted change sets    -> bronze
    silver    what changed in bronze               -> silver
    gold      what changed in silver               -> gold
    expire    once a day, what `retention` says may go
    leave the clean mark, a run record and, if it failed, word with whom `on_failure` names

Every table and model is attempted; what became of each is an `Outcome`, and the exit code is the worst of theirs.
From a notebook: `lakehouse.run("conf/loyalty")`, or one: `lakehouse.stages.silver("conf/loyalty", "silver.clientes")`.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import cached_property, partial
from pathlib import Path
from time import monotonic as time_now
from typing import TYPE_CHECKING, Any

from lakehouse import clean, config, landing, lock, logs, notify, records
from lakehouse import extract as sources
from lakehouse.config import Pipeline, Retention, Table
from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError, Exit, LakeBusy, LakehouseError, worst
from lakehouse.failures import patiently, understood
from lakehouse.lake import Lake
from lakehouse.plan import Plan, in_order
from lakehouse.plan import plan as plan_of
from lakehouse.sums import declared_inexact, inexact_sums

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.ledger import History
    from lakehouse.models import Model

STAGES = ("extract", "ingest", "bronze", "silver", "gold")
EXPIRE = "expire"
_SIDE_BY_SIDE = 4  # tables at once: the driver plans one while the executors work on another


@dataclass(frozen=True)
class Outcome:
    """What a stage did for one table or model.

    Attributes:
        status: a word: `accepted`, `unchanged`, `held`, `rejected`, `applied`, `current`, `row-wise`, `full`, ...
        counts: rows, by what was done to them.
        seconds: wall time.
        code: the exit code it asks for.
        note: the reason, the warning or the error, as people read it.
    """

    stage: str
    name: str
    status: str
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    code: Exit = Exit.OK
    note: str = ""


Told = Callable[[Outcome], None]


@dataclass
class Report:
    """A run, or a single stage: what became of everything, and the exit code.

    Attributes:
        stopped_before: the stage that was not begun, because somebody had asked for an orderly end.
    """

    pipeline: str
    run_id: str
    outcomes: list[Outcome] = field(default_factory=list)
    nothing_new: bool = False
    seconds: float = 0.0
    stopped_before: str | None = None

    @property
    def code(self) -> int:
        return worst(o.code for o in self.outcomes)

    def document(self) -> dict[str, Any]:
        """As plain values, for --json, run records and `on_failure`."""
        outcomes = [vars(o) | {"code": int(o.code)} for o in self.outcomes]
        return {**vars(self), "outcomes": outcomes, "exit_code": int(self.code)}


@dataclass
class Run:
    """One command at work on one lake.

    Attributes:
        told: hears each outcome at once.
        stop: whether somebody has asked for an orderly end.
        dry_run: of `expire`: say what would go.
    """

    pipeline: Pipeline
    names: tuple[str, ...] = ()
    as_of: datetime | None = None
    full_refresh: bool = False
    verbose: bool = False
    dry_run: bool = False
    told: Told = lambda outcome: None
    stop: Callable[[], bool] = lambda: False
    log: logs.Log = field(default_factory=logs.logger)
    id: str = field(default_factory=lambda: f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}")
    held: lock.Held | None = None
    wanted: tuple[str, ...] = ()  # the stages that the command asks for

    @cached_property
    def lake(self) -> Lake:
        assert isinstance(self.pipeline.lake, str)
        return Lake.of(self.pipeline.lake)

    @cached_property
    def spark(self) -> SparkSession:
        from lakehouse.session import jvm_pid, session

        spark = session(self.lake, f"lakehouse {self.pipeline.name}", self.verbose, self.size(*self.pipeline.tables))
        if self.held:
            self.held.note_jvm(jvm_pid(spark))
        return spark

    @cached_property
    def plans(self) -> dict[str, Plan]:
        return plans(self.pipeline)

    def tables(self) -> list[str]:
        """The tables that the command is narrowed to."""
        named = [n for n in self.names if n in self.pipeline.tables]
        return named if self.names else list(self.pipeline.tables)

    def size(self, *tables: str) -> int:
        """Bytes of the newest snapshots of these tables, as received: how much there is to work on."""
        found = [landing.newest(self.lake, table) for table in tables]
        return sum(landed.size for landed in found if landed)

    def models(self, layer: str) -> list[list[str]]:
        """The layer's models that the command is narrowed to, in groups that need nothing of each other."""
        own = {m: p for m, p in self.plans.items() if m.startswith(f"{layer}.")}
        wanted = {m for m in own if not self.names or m in self.names}
        return [chosen for group in in_order(own) if (chosen := [m for m in group if m in wanted])]


def open_run(path: str | Path, names: Iterable[str] = (), **options: Any) -> Run:
    """Read the pipeline and check that it, and the names, can be worked with.

    Raises:
        ConfigError: with all that stands in the way.
    """
    pipeline = config.load(path)
    logs.learn(pipeline)
    if missing := config.not_yet(pipeline):
        raise ConfigError("\n".join(missing), where=str(pipeline.path), next_step="see docs/decisions/0001-scope.md")
    run = Run(pipeline, tuple(names), **options)
    run.log = run.log.bind(run_id=run.id, pipeline=pipeline.name)
    logs.tell_retries(run.log)
    known = [*pipeline.tables, *run.plans]
    if unknown := [n for n in run.names if n not in known]:
        near = "".join(did_you_mean(n, known) for n in unknown[:1])
        raise ConfigError(
            f"{pipeline.name} has no {', '.join(unknown)}{near}",
            expected=f"tables or models: {', '.join(known)}",
            where=str(pipeline.path),
        )
    return run


def plan_for(path: str | Path, model: str) -> Plan:
    """How one model is kept up to date. Starts no JVM.

    Args:
        model: its name; its layer may be left out where one layer alone has such a model.

    Raises:
        ConfigError: there is no such model.
    """
    found = plans(config.load(path))
    names = [name for name in found if model in (name, name.partition(".")[2])]
    if len(names) != 1:
        raise ConfigError(
            f"{len(names) or 'no'} models are named {model}{did_you_mean(model, [*found])}",
            expected=f"one of {', '.join(found)}",
            where=str(path),
        )
    return found[names[0]]


def plans(pipeline: Pipeline) -> dict[str, Plan]:
    """Every model, understood; and that what it reads is there, in its own layer or one before.

    Raises:
        ConfigError: naming the model and its file.
    """
    keys = {f"bronze.{t}": (*table.keys, *_window_start(table)) for t, table in pipeline.tables.items()}
    found = _planned(pipeline, keys)
    # Again, now that the models' own keys are known: they tell whether a window's order can leave ties.
    found = _planned(pipeline, keys | {model: plan.keys for model, plan in found.items()})
    readable = {f"bronze.{t}" for t in pipeline.tables} | {f"silver.{m}" for m in pipeline.silver}
    for name, plan in found.items():
        allowed = readable | ({f"gold.{m}" for m in pipeline.gold} if name.startswith("gold.") else set())
        if strangers := [r for r in plan.inputs if r not in allowed]:
            near = did_you_mean(strangers[0], sorted(allowed))
            raise ConfigError(
                f"{name} reads {', '.join(strangers)}, which the pipeline does not have{near}",
                expected=f"one of {', '.join(sorted(allowed))}",
                where=str(pipeline.folder / f"{name.replace('.', '/', 1)}.sql"),
            )
    in_order(found)
    _refuse_sums_of_double(pipeline, found)
    return found


def _refuse_sums_of_double(pipeline: Pipeline, found: dict[str, Plan]) -> None:
    doubles = {
        (f"bronze.{name.lower()}", column.name.lower())
        for name, table in pipeline.tables.items()
        for column in table.columns
        if column.canonical_type in ("DOUBLE", "FLOAT")
    }
    for model in found:
        if sums := declared_inexact(found, model, doubles):
            raise inexact_sums(sums, model, str(pipeline.folder / f"{model.replace('.', '/', 1)}.sql"))


def _planned(pipeline: Pipeline, keys: dict[str, tuple[str, ...]]) -> dict[str, Plan]:
    found: dict[str, Plan] = {}
    for layer, models in {"silver": pipeline.silver, "gold": pipeline.gold}.items():
        for short, model in models.items():
            file = str(pipeline.folder / layer / f"{short}.sql")
            sql, name = pipeline.sql(layer, short), f"{layer}.{short}"
            found[name] = plan_of(name, sql, tuple(model.keys), file, keys)
    return found


def _window_start(table: Table) -> tuple[str, ...]:
    """What tells a key's windows apart, in a history."""
    return ("__START_AT",) if table.scd == 2 else ()


# --- a command, from its lock to its report ---------------------------------------------------------------------


def perform(run: Run, stages: Iterable[str]) -> Report:
    """Hold the lake and do these stages.

    Raises:
        LakeBusy: another run holds it.
    """
    report, wanted = Report(run.pipeline.name, run.id), tuple(stages)
    run.wanted = wanted
    doing = " ".join(wanted) if wanted != STAGES else "run"
    with _attended(run, report, doing) as record, holding(run, doing):
        whole = wanted == STAGES and not run.names and not run.full_refresh
        is_clean = (whole or wanted == (EXPIRE,)) and clean.is_clean(run.pipeline, run.lake)
        if whole and is_clean:
            report.nothing_new = True
        else:
            before = clean.seen(run.pipeline, run.lake) if whole or is_clean else {}
            settled = whole and clean.is_clean_if_nothing_lands(run.pipeline, run.lake)
            _keep(run, record)
            clean.unmark(run.lake)
            _in_order(run, report, (*wanted, EXPIRE) if whole and _expires(run) else wanted, settled)
            if (whole or is_clean) and report.code == Exit.OK and not report.stopped_before:
                clean.mark(run.lake, before, run.pipeline)
    return report


def _in_order(run: Run, report: Report, wanted: tuple[str, ...], settled: bool) -> None:
    """The stages, up to one before which somebody asked for an end.

    Args:
        settled: only the source could have changed, which the first stage tells.
    """
    for stage in wanted:
        if run.stop():
            report.stopped_before = stage
            run.log.warning("stopped, as asked", before=stage)
            return
        run.log.info("stage begun", stage=stage)
        report.outcomes += patiently(partial(_STAGES[stage], run))
        if any(outcome.code == Exit.BUSY for outcome in report.outcomes):
            return  # another run works on this lake: not a stage more
        if settled and all(o.status == "nothing new" for o in report.outcomes):
            report.nothing_new = True
            return
        settled = False


def approve(run: Run, table: str, time: datetime) -> Report:
    """Accept a held snapshot with the guards off.

    Raises:
        ConfigError: it is not held, or no longer the newest.
    """
    from lakehouse import ingest as ingesting
    from lakehouse.session import isolated

    report = Report(run.pipeline.name, run.id)
    with _attended(run, report, f"approve {table}") as record, holding(run, f"approve {table}"):
        _keep(run, record)
        clean.unmark(run.lake)
        done = ingesting.approve(isolated(run.spark), run.pipeline, run.lake, table, time, run.id)
        report.outcomes += _ingested(done)
    return report


@contextmanager
def _attended(run: Run, report: Report, doing: str) -> Iterator[records.Record]:
    """Time a command, keep its record, and if it fails tell whom `on_failure` names."""
    began, error = time_now(), None
    record = records.begun(run.pipeline.name, run.id, doing, run.names)
    run.log.info("run begun", doing=doing)
    try:
        yield record
    except Exception as raised:
        error = understood(raised, verbose=run.verbose)
        raise
    finally:
        report.seconds = round(time_now() - began, 2)
        if error or sys.exc_info()[0] is None:  # interrupted, it has not ended in a way that a record could tell
            _concluded(run, report, record, error)


def _concluded(run: Run, report: Report, record: records.Record, error: LakehouseError | None) -> None:
    """The end of a command in its record, in the log, and with whom `on_failure` names."""
    code = error.exit_code if error else report.code
    told = {"error": error.block() if error else None}
    record = records.ended(record, code, **{k: v for k, v in report.document().items() if k != "exit_code"}, **told)
    if not isinstance(error, LakeBusy):  # who was turned away did nothing there
        _keep(run, record)
    ended = {"doing": record["doing"], "exit_code": int(code), "seconds": report.seconds}
    run.log.info("run ended", **ended, nothing_new=report.nothing_new)
    if code and run.pipeline.on_failure:
        document = record | {"lake": run.lake.root, "repeats": records.repeats(run.lake, record)}
        notify.tell(run.pipeline.on_failure, document, run.log)


def _keep(run: Run, record: records.Record) -> None:
    """A record that cannot be written is no reason for a run to end otherwise."""
    try:
        records.write(run.lake, record)
    except OSError as error:
        run.log.warning("the run record could not be written", reason=str(error))


@contextmanager
def holding(run: Run, doing: str) -> Iterator[None]:
    """Hold the run's lake, and have the session say which JVM works on it."""
    with lock.hold(run.lake, run.id, doing) as held:
        run.held = held
        yield


def side_by_side(run: Run, stage: str, names: list[str], work: Callable[[str], Iterable[Outcome]]) -> list[Outcome]:
    """Do `work` for each name, several at once. What it raises becomes an outcome, so that the others are attempted."""

    def attempt(name: str) -> list[Outcome]:
        began = time_now()
        try:
            outcomes = patiently(lambda: list(work(name)))
        except Exception as error:
            known = understood(error, verbose=run.verbose)
            outcomes = [Outcome(stage, name, "failed", code=known.exit_code, note=known.block())]
        spent = (time_now() - began) / max(len(outcomes), 1)
        timed = [replace(o, seconds=round(spent, 2), note=logs.redact(o.note)) for o in outcomes]
        for outcome in timed:
            run.told(outcome)
        return timed

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        return [outcome for outcomes in pool.map(attempt, names) for outcome in outcomes]


# --- the stages -------------------------------------------------------------------------------------------------


def _extract(run: Run) -> list[Outcome]:
    now = datetime.now(timezone.utc)

    def work(name: str) -> Iterator[Outcome]:
        done = sources.extract(source, name, now, run.as_of)
        status = "landed" if done.landed else "nothing new"
        yield Outcome("extract", name, status, {"snapshots": len(done.landed)}, note="\n".join(done.warnings))

    with sources.opened(run.pipeline, run.lake, run.tables()) as source:
        return side_by_side(run, "extract", run.tables(), work)


def _ingest(run: Run) -> list[Outcome]:
    from lakehouse import anew, ledger
    from lakehouse.ingest import ingest
    from lakehouse.session import isolated

    spark = run.spark
    ledger.create(spark, run.lake)
    if run.full_refresh and run.wanted == ("ingest",):
        anew.begin(spark, run.lake, run.tables())
    histories = ledger.read(spark, run.lake, run.tables())

    def work(name: str) -> Iterator[Outcome]:
        own = isolated(spark, run.size(name))
        return _ingested(ingest(own, run.pipeline, run.lake, name, run.id, _history(run, histories, name)))

    return side_by_side(run, "ingest", run.tables(), work)


def _history(run: Run, read: dict[str, History], name: str) -> History:
    """What has been read of a table; anew, where its work is done again."""
    from lakehouse import ledger

    return read.pop(name, None) or ledger.read(run.spark, run.lake, [name])[name]


def _ingested(done: Any) -> Iterator[Outcome]:
    """One outcome a decision; a snapshot that waits for approval is told again on every run."""
    for entry in done.entries:
        code, note = Exit.OK, entry.reason or ""
        if entry.status == "held":
            code = Exit.HELD
        elif entry.status == "rejected" and entry not in done.late:
            code = Exit.REFUSED
        yield Outcome("ingest", entry.table, entry.status, entry.counts, code=code, note=note)
    if done.held and done.held not in done.entries:
        yield Outcome("ingest", done.table, "held", done.held.counts, code=Exit.HELD, note=done.held.reason or "")
    if not done.entries and not done.held:
        yield Outcome("ingest", done.table, "nothing new")


def _bronze(run: Run) -> list[Outcome]:
    from lakehouse import bronze, ledger
    from lakehouse.session import isolated

    spark = run.spark
    histories = ledger.read(spark, run.lake, run.tables())

    def work(name: str) -> Iterator[Outcome]:
        size, table = run.size(name), run.pipeline.tables[name]
        own = isolated(spark, size)
        history = _history(run, histories, name)
        done = bronze.refresh(own, run.lake, name, table, history, size, run.full_refresh)
        counts = {"inserted": done.inserted, "updated": done.updated, "deleted": done.deleted}
        status = "healed" if done.healed else "applied" if done.commits else "current"
        yield Outcome("bronze", name, status, counts, note=done.healed)

    return side_by_side(run, "bronze", run.tables(), work)


def _models(run: Run, layer: str) -> list[Outcome]:
    from lakehouse.models import refresh
    from lakehouse.session import SMALL_BYTES, isolated

    spark, outcomes = run.spark, list[Outcome]()
    prepared, size = models(run), run.size(*run.pipeline.tables)

    def work(name: str) -> Iterator[Outcome]:
        own = isolated(spark, size)
        done = refresh(own, run.lake, prepared[name], size < SMALL_BYTES, run.full_refresh)
        counts = {k: getattr(done.written, k) for k in ("inserted", "updated", "deleted")}
        yield Outcome(layer, name, done.how, counts, note=done.why)

    for group in run.models(layer):
        outcomes += side_by_side(run, layer, group, work)
    return outcomes


def refresh_models(run: Run, layer: str) -> list[Outcome]:
    """Bring a layer's models up to date, for a command that holds the lake already."""
    return _models(run, layer)


def models(run: Run) -> dict[str, Model]:
    """The pipeline's models, with the keys of their inputs and the parameters of this run."""
    from lakehouse.ledger import newest_accepted
    from lakehouse.models import Model
    from lakehouse.windows import keys as keys_of

    keys = {f"bronze.{name}": tuple(keys_of(t)) for name, t in run.pipeline.tables.items()}
    keys |= {name: plan.keys for name, plan in run.plans.items()}
    parameters = {"as_of": newest_accepted(run.spark, run.lake), "business_timezone": run.pipeline.business_timezone}
    return {name: Model(plan, {r: keys[r] for r in plan.inputs}, parameters) for name, plan in run.plans.items()}


def _expires(run: Run) -> bool:
    if run.pipeline.retention == Retention():
        return False
    from lakehouse import expire

    return expire.is_due(run.pipeline.retention, run.lake, datetime.now(timezone.utc))


def _expire(run: Run) -> list[Outcome]:
    """Landed snapshots by table, then versions by Delta table."""
    from lakehouse import expire, ledger
    from lakehouse.session import isolated

    now, keep = datetime.now(timezone.utc), run.pipeline.retention
    landings, versions = keep.landing or timedelta.max, keep.vacuum or timedelta.max
    histories = ledger.read(run.spark, run.lake, run.tables()) if keep.landing else {}
    size = run.size(*run.pipeline.tables)

    def work(name: str) -> Iterator[Outcome]:
        if name in histories:
            done = expire.landed(run.lake, name, histories[name], now, landings, run.dry_run)
        else:
            own = isolated(run.spark, size)
            done = expire.versions(own, run.lake, name, run.plans, versions, run.dry_run)
        yield Outcome(EXPIRE, name, done.status, done.counts, note=done.kept)

    stored = [f"{layer}.{table}" for table in run.tables() for layer in ("quarantine", "bronze")]
    stored += [model for layer in ("silver", "gold") for group in run.models(layer) for model in group]
    outcomes = side_by_side(run, EXPIRE, [*histories, *(stored if keep.vacuum else [])], work)
    if not run.names and not run.dry_run and worst(o.code for o in outcomes) == Exit.OK:
        expire.done(keep, run.lake, now)
    return outcomes


_STAGES: dict[str, Callable[[Run], list[Outcome]]] = {
    "extract": _extract,
    "ingest": _ingest,
    "bronze": _bronze,
    "silver": lambda run: _models(run, "silver"),
    "gold": lambda run: _models(run, "gold"),
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
    return perform(open_run(pipeline, names, **options), STAGES)


def _stage(stage: str) -> Callable[..., Report]:
    def one(pipeline: str | Path, *names: str, **options: Any) -> Report:
        return perform(open_run(pipeline, names, **options), (stage,))

    one.__name__ = one.__qualname__ = stage
    one.__doc__ = f"The stage `{stage}` alone; arguments, result and errors as of `run`."
    return one


extract, ingest, bronze, silver, gold = map(_stage, STAGES)
