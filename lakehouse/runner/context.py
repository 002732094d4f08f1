"""Defines `Run`: one command that works on one lake, with its lock, its record and its threads.

1. `open_run` reads and checks the pipeline.
2. `record_run` keeps the record of the command, and notifies `on_failure` if it fails.
3. `lock_lake` keeps other commands from working on the lake.
4. `run_in_parallel` does the same work for several tables or models; a failure of one does not stop the others.
"""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from time import monotonic as time_now
from typing import TYPE_CHECKING, Any

from lakehouse import config, logs
from lakehouse.concurrency import worker_pool
from lakehouse.config import Pipeline
from lakehouse.config.layers import MODEL_LAYERS
from lakehouse.config.postgres import tls_warning
from lakehouse.config.strict_model import did_you_mean
from lakehouse.error_mapping import retry_transient
from lakehouse.errors import ConfigError, LakeBusy, LakehouseError
from lakehouse.models.sql import pipeline_plans
from lakehouse.models.sql.plan import Plan, dependency_levels
from lakehouse.runner import bug_files, notify, records
from lakehouse.runner.outcome import FAILED, OnOutcome, Outcome, Report
from lakehouse.runner.progress import Progress
from lakehouse.storage import file_io, landing, lock
from lakehouse.storage.archives import text_bytes
from lakehouse.storage.delta_files import read_column_names
from lakehouse.storage.landing import LandedFile
from lakehouse.storage.paths import Lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.bronze import ComputedBatch
    from lakehouse.lake.table_ref import TableRef
    from lakehouse.models.expectations import RuleResult


def new_run_id(now: datetime) -> str:
    """Return an id of a run; ids sort by the time at which they were made, within a second too.

    >>> new_run_id(datetime(2025, 10, 3, 17, 5, 52, 250_000))[:-1]
    '20251003T170552-3d090'

    Args:
        now: The current time, in UTC.
    """
    return f"{now:%Y%m%dT%H%M%S}-{now.microsecond:05x}{uuid.uuid4().hex[0]}"


@dataclass
class Run:
    """One command that works on one lake.

    Attributes:
        pipeline: The pipeline as it was read at the start.
        names: The tables and models to which the command is limited; empty for all.
        snapshot_time: The time of a snapshot whose source has none.
        full_refresh: Rebuild from the layer before.
        replay_from: For a full refresh by `ingest`: the time of the first snapshot to decide about again; None: all.
        verbose: Show Spark's own output and full traces.
        dry_run: For `expire`: only report the removals.
        rewritten: For a git repository as the source: go on although its history was rewritten.
        on_outcome: Receives each outcome as soon as there is one.
        on_rule_not_met: Receives the result of each expectation that is not met and does not fail its model; None: it
            is logged as a warning.
        progress: Receives the steps of the command, and how far they are.
        stop_requested: Returns whether somebody has requested that the command stops.
        log: The logger, with the run's id and the pipeline's name.
        id: The run's id, which starts with its time in UTC.
        lake_lock: The lock, while the lake is locked.
        stages: The stages of the command.
        follows_tables: Whether the models after the named tables belong to the command.
        replays: The tables whose snapshots `ingest` decides again, because change sets were lost: from which time on.
        computed: The changes of the newest batch of a change feed, by table, that `ingest` leaves to `bronze`.
        blocked: The tables and models that failed in this command or wait for one that did, by layer and name: the
            models that read them wait.
    """

    pipeline: Pipeline
    names: tuple[str, ...] = ()
    snapshot_time: datetime | None = None
    full_refresh: bool = False
    replay_from: datetime | None = None
    verbose: bool = False
    dry_run: bool = False
    rewritten: bool = False
    on_outcome: OnOutcome = lambda outcome: None
    on_rule_not_met: Callable[[RuleResult], None] | None = None
    progress: Progress = field(default_factory=Progress)
    stop_requested: Callable[[], bool] = lambda: False
    log: logs.Log = field(default_factory=logs.create_logger)
    id: str = field(default_factory=lambda: new_run_id(datetime.now(timezone.utc)))
    lake_lock: lock.LakeLock | None = None
    stages: tuple[str, ...] = ()
    follows_tables: bool = False
    replays: dict[str, datetime] = field(default_factory=dict)
    computed: dict[str, ComputedBatch] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)

    @cached_property
    def lake(self) -> Lake:
        """The lake of the pipeline."""
        location = self.pipeline.lake
        if isinstance(location, str):
            return Lake.from_root(self.pipeline.lake_path(location))
        return Lake.in_catalog(location.catalog, location.volume, self.pipeline.name, self.pipeline.tables)

    @cached_property
    def spark(self) -> SparkSession:
        """The session, which starts the JVM at first use."""
        with self.progress.waiting("starting Spark"):
            from lakehouse.spark.session import get_session, jvm_pid

            app_name, data_bytes = f"lakehouse {self.pipeline.name}", self.data_bytes(*self.pipeline.tables)
            spark = get_session(self.lake, app_name, self.verbose, data_bytes)
        if self.lake_lock:
            self.lake_lock.record_jvm(jvm_pid(spark))
        return spark

    @cached_property
    def lazy_spark(self) -> SparkSession:
        """The session for functions that need it only if the driver cannot read a table; nothing starts before that."""
        from lakehouse.spark.lazy_session import lazy_session

        return lazy_session(lambda: self.spark)

    def table_ref(self, name: str, spark: SparkSession | None = None) -> TableRef:
        """Return one table of the pipeline, with a session that nobody else uses.

        Args:
            name: The table's name.
            spark: The session to use; None: a new one, with settings for the table's size.
        """
        from lakehouse.lake import delta
        from lakehouse.lake.table_ref import TableRef
        from lakehouse.spark.session import lazy_session

        session = spark or lazy_session(self.spark, self.data_bytes(name))
        table, address = self.pipeline.tables[name], self.lake.bronze_table(name)
        if self.lake.catalog and delta.exists(session, address):
            table = config.with_stored_names(table, delta.schema(session, address).names)
        return TableRef(session, self.lake, name, table, self.pipeline.tuning)

    @cached_property
    def plans(self) -> dict[str, Plan]:
        """The plans of all models, by name."""
        return pipeline_plans.plan_pipeline(self.pipeline)

    @property
    def warnings(self) -> list[str]:
        """The parts of the pipeline and its models that are allowed, and may not be meant."""
        return [*self.unlisted_models, *(warning for plan in self.plans.values() for warning in plan.warnings)]

    @property
    def unlisted_models(self) -> list[str]:
        """A warning for each SQL file beside the pipeline that is no model of it."""
        return [
            f"{file}: not a model of {self.pipeline.path.name}, so it is never computed; "
            f"add `{file.stem}` to `{file.parent.name}`, or move the file"
            for file in self.pipeline.unlisted_sql_files()
        ]

    def selected_tables(self) -> list[str]:
        """Return the tables to which the command is limited."""
        named = [name for name in self.names if name in self.pipeline.tables]
        return named if self.names else list(self.pipeline.tables)

    def selected_models(self) -> list[str]:
        """Return the models to which the command is limited, silver first, each after the models that it reads."""
        return [model for layer in MODEL_LAYERS for group in self.model_groups(layer) for model in group]

    def model_groups(self, layer: str) -> list[list[str]]:
        """Return the selected models of a layer, in groups in which no model reads another.

        Args:
            layer: `silver` or `gold`.
        """
        plans = {model: plan for model, plan in self.plans.items() if model.startswith(f"{layer}.")}
        named = {*self.names, *(self._models_after(self.names) if self.follows_tables else ())}
        selected = {model for model in plans if not self.names or model in named}
        return [group for level in dependency_levels(plans) if (group := [m for m in level if m in selected])]

    def _models_after(self, tables: Iterable[str]) -> set[str]:
        """Return the models that depend on a table, directly or through other models."""
        found = {f"bronze.{name}" for name in tables}
        for level in dependency_levels(self.plans):
            found |= {name for name in level if found.intersection(self.plans[name].dependencies)}
        return found.intersection(self.plans)

    def published_tables(self) -> dict[str, str]:
        """Return the published tables to which the command is limited: by the lake's name, the one in PostgreSQL."""
        tables = self.pipeline.publish.tables if self.pipeline.publish else {}
        if not self.names:
            return dict(tables)
        return {
            source: table
            for source, table in tables.items()
            if {source, source.removeprefix("bronze.")} & set(self.names)
        }

    def key_columns(self) -> dict[str, tuple[str, ...]]:
        """Return the columns that identify a row of each table and model."""
        tables = [f"bronze.{name}" for name in self.pipeline.tables]
        return {name: self.keys_of(name) for name in [*tables, *self.plans]}

    def keys_of(self, relation: str) -> tuple[str, ...]:
        """Return the columns that identify a row of a table or model.

        Args:
            relation: Its name with the layer, such as `bronze.customers`.
        """
        from lakehouse.bronze import row_keys

        layer, _, name = relation.partition(".")
        return tuple(row_keys(self.pipeline.tables[name])) if layer == "bronze" else self.plans[relation].keys

    def snapshot_bytes(self, *tables: str) -> int:
        """Return the size of the newest snapshots of some tables as received.

        Args:
            tables: The names of the tables.
        """
        return sum(file.size for file in self._newest_files(tables))

    def data_bytes(self, *tables: str) -> int:
        """Return about how much there is to work on: the size of the newest snapshots of some tables as plain text.

        Args:
            tables: The names of the tables.
        """
        return text_bytes(self._newest_files(tables))

    def _newest_files(self, tables: Iterable[str]) -> list[LandedFile]:
        found = (landing.newest_snapshot(self.lake, table) for table in tables)
        return [file for snapshot in found if snapshot for file in snapshot.files]


def open_run(
    path: str | Path,
    names: Iterable[str] = (),
    reads_lake: bool = True,
    checks_models: bool = True,
    **options: Any,
) -> Run:
    """Read a pipeline and check it, its models' SQL and the names.

    From here on, all files that this process and its JVM create have the permissions of the pipeline's `access`.
    Declared columns have the lake's names where these differ in case only.

    Args:
        path: A folder with pipeline.yml, or that file.
        names: Tables and models to which the command is limited.
        reads_lake: Whether the command needs the lake at all.
        checks_models: Whether the SQL of all models is checked; else it is when the command needs their plans.
        options: Further attributes of `Run`.

    Raises:
        ConfigError: With all problems that were found.
    """
    pipeline = config.load(path)
    logs.register_secrets(pipeline)
    os.umask(pipeline.umask)
    run = Run(pipeline, tuple(names), **options)
    if reads_lake:
        run.pipeline = _with_stored_names(pipeline, run.lake)
    bug_files.set_current(run)
    run.log = run.log.bind(run_id=run.id, pipeline=pipeline.name)
    logs.log_retries(run.log)
    if checks_models:
        _ = run.plans  # raises if one is not valid
    known = [*pipeline.tables, *pipeline.model_names]
    if unknown := [name for name in run.names if name not in known]:
        raise ConfigError(
            f"{pipeline.name} has no {', '.join(unknown)}{did_you_mean(unknown[0], known)}",
            expected=f"tables or models: {', '.join(known)}",
            where=str(pipeline.path),
        )
    return run


def _with_stored_names(pipeline: Pipeline, lake: Lake) -> Pipeline:
    """Return a pipeline whose columns have the names of the lake's tables where these differ in case only."""
    if lake.catalog:  # only Spark knows its tables: `Run.table_ref`
        return pipeline
    try:
        stored = file_io.map_paths(read_column_names, [lake.path("bronze", name) for name in pipeline.tables])
        named = list(zip(pipeline.tables.items(), stored, strict=True))
    except (OSError, LakehouseError):  # the stage that needs the lake reports it
        return pipeline
    tables = {name: config.with_stored_names(table, columns) for (name, table), columns in named}
    is_same = all(tables[name] is table for name, table in pipeline.tables.items())
    return pipeline if is_same else pipeline.model_copy(update={"tables": tables})


def tls_warnings(pipeline: Pipeline) -> list[str]:
    """Return a warning for each address of PostgreSQL that leaves the check of the server's certificate open.

    Args:
        pipeline: The pipeline.
    """
    addresses = {}
    if isinstance(pipeline.source, config.Jdbc):
        from lakehouse.extract.postgres.source import to_libpq_url

        addresses["source.url"] = to_libpq_url(pipeline.source.url)
    if pipeline.publish and pipeline.publish.postgres:
        addresses["publish.postgres.url"] = pipeline.publish.postgres.url
    return [warning for setting, url in addresses.items() if (warning := tls_warning(url, setting))]


@contextmanager
def record_run(run: Run, report: Report, command: str) -> Iterator[records.Record]:
    """Measure the time of a command, keep its record, and notify `on_failure` if it fails.

    Args:
        run: The command.
        report: Its report, which gets the time.
        command: The command, for people: `run`, the stages, or `approve clientes`.
    """
    started, error = time_now(), None
    record = records.start_record(run.pipeline.name, run.id, command, run.names)
    run.log.info("run begun", doing=command)
    try:
        yield record
    except Exception as raised:
        error = bug_files.report_bug(raised, run.verbose, run, command)
        raise
    finally:
        report.seconds = round(time_now() - started, 2)
        if error or sys.exc_info()[0] is None:  # an interrupted run has no exit code to record
            _finish_record(run, report, record, error)


def _is_unmade_lake(run: Run) -> bool:
    """Whether the lake is a relative path at which a run has made nothing yet.

    Such a lake is not made for a record alone: the path can be wrong, as in a wrong working directory.
    """
    location = run.pipeline.lake
    is_relative = isinstance(location, str) and "://" not in location and not Path(location).is_absolute()
    return is_relative and not file_io.list_names(run.lake.path())


def _finish_record(run: Run, report: Report, record: records.Record, error: LakehouseError | None) -> None:
    """Write the end of a command to its record and the log, and notify `on_failure` if it failed."""
    exit_code = error.exit_code if error else report.code
    details = report.document(is_kept=True) | {"error": error.to_record() if error else None}
    del details["exit_code"]
    record = records.end_record(record, exit_code, **details)
    if not isinstance(error, LakeBusy) and not (error and _is_unmade_lake(run)):
        save_record(run, record)  # a lake that is busy is not written to
    fields = {"doing": record["doing"], "exit_code": int(exit_code), "seconds": report.seconds}
    run.log.info("run ended", **fields, nothing_new=report.nothing_new)
    if exit_code:
        notify_failure(run, record, run.log)


def save_record(run: Run, record: records.Record) -> None:
    """Write a record to the lake; if that fails, the run goes on with a warning.

    Args:
        run: The command.
        record: Its record so far.
    """
    try:
        records.write(run.lake, record)
    except OSError as error:
        run.log.warning("the run record could not be written", reason=str(error))


def notify_failure(run: Run, record: records.Record, log: logs.Log) -> None:
    """Send the record of a failed run to `on_failure`, with the number of runs that failed in the same way before it.

    Args:
        run: The command.
        record: Its record, with an end.
        log: Receives the errors.
    """
    if run.pipeline.on_failure:
        document = record | {"lake": run.lake.root, "repeats": records.count_repeats(run.lake, record)}
        notify.send(run.pipeline.on_failure, document, log)


@contextmanager
def lock_lake(run: Run, command: str) -> Iterator[None]:
    """Lock the run's lake; the lock also records the JVM that works on it.

    Args:
        run: The command.
        command: The command, for people.

    Raises:
        LakeBusy: Another run has locked the lake.
    """
    with lock.lock_lake(run.lake, run.id, command) as lake_lock:
        run.lake_lock = lake_lock
        yield


def name_pipeline(text: str, argument: str) -> str:
    """Return a message with the pipeline in the commands to type, which packages below `runner` do not know.

    >>> name_pipeline("correct it; then `lakehouse run PIPELINE` computes it again", "conf/shop")
    'correct it; then `lakehouse run conf/shop` computes it again'

    Args:
        text: The message, with PIPELINE after the verb, or after the path of a job.
        argument: The pipeline as the command line names it.
    """
    return re.sub(r"(\blakehouse \w+|\bjobs/\w+\.py) PIPELINE\b", lambda command: f"{command[1]} {argument}", text)


def _redacted(outcome: Outcome) -> Outcome:
    kept = None if outcome.kept_note is None else logs.redact(outcome.kept_note)
    return replace(outcome, note=logs.redact(outcome.note), kept_note=kept)


def run_in_parallel(
    run: Run, stage: str, names: list[str], work: Callable[[str], Iterable[Outcome]], is_light: bool = False
) -> list[Outcome]:
    """Do `work` for each name, several at a time, with retries.

    Args:
        run: The command; each outcome goes to its `on_outcome` at once.
        stage: The stage, for the outcome of work that fails.
        names: The tables or models.
        work: Yields the outcomes of one of them. An error becomes an outcome, and the others go on.
        is_light: Whether the work on each of them takes little time and memory.

    Returns:
        The outcomes in the order of the names, with their time.
    """

    def attempt(name: str) -> list[Outcome]:
        started = time_now()
        try:
            outcomes = retry_transient(lambda: list(work(name)))
        except Exception as raised:
            error = bug_files.report_bug(raised, run.verbose, run, stage, name)
            note, kept = name_pipeline(error.to_text(), run.pipeline.argument), error.to_record()
            outcomes = [Outcome(stage, name, FAILED, code=error.exit_code, note=note, kept_note=kept)]
        seconds = round((time_now() - started) / max(len(outcomes), 1), 2)
        outcomes = [_redacted(replace(outcome, seconds=seconds)) for outcome in outcomes]
        for outcome in outcomes:
            run.on_outcome(outcome)
        run.progress.advance()
        return outcomes

    with worker_pool(is_light) as pool:
        return [outcome for outcomes in pool.map(attempt, names) for outcome in outcomes]
