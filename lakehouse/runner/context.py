"""One command at work on one lake: what it was asked for, what became of it, and its record.

open_run       the pipeline, read and understood
attended       its time and its record; word with whom `on_failure` names, if it fails
holding        the lake, which nobody else works on meanwhile
side_by_side   the same work for several tables or models; none keeps another from being attempted
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from time import monotonic as time_now
from typing import TYPE_CHECKING, Any

from lakehouse import config, logs
from lakehouse.config import Pipeline
from lakehouse.config.strict_model import did_you_mean
from lakehouse.error_mapping import to_lakehouse_error, with_retries
from lakehouse.errors import ConfigError, LakeBusy, LakehouseError
from lakehouse.models.sql import pipeline_plans
from lakehouse.models.sql.plan import Plan, dependency_levels
from lakehouse.runner import notify, records
from lakehouse.runner.outcome import OnOutcome, Outcome, Report
from lakehouse.storage import landing, lock
from lakehouse.storage.paths import Lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_PARALLEL_TASKS = 4  # tables at once: the driver plans one while the executors work on another


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
    on_outcome: OnOutcome = lambda outcome: None
    stop_requested: Callable[[], bool] = lambda: False
    log: logs.Log = field(default_factory=logs.create_logger)
    id: str = field(default_factory=lambda: f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}")
    lake_lock: lock.LakeLock | None = None
    stages: tuple[str, ...] = ()  # the stages that the command asks for

    @cached_property
    def lake(self) -> Lake:
        where = self.pipeline.lake
        if isinstance(where, str):
            return Lake.from_root(where)
        return Lake.in_catalog(where.catalog, where.volume, self.pipeline.name, self.pipeline.tables)

    @cached_property
    def spark(self) -> SparkSession:
        from lakehouse.spark.session import get_session, jvm_pid

        spark = get_session(
            self.lake, f"lakehouse {self.pipeline.name}", self.verbose, self.snapshot_bytes(*self.pipeline.tables)
        )
        if self.lake_lock:
            self.lake_lock.record_jvm(jvm_pid(spark))
        return spark

    @cached_property
    def plans(self) -> dict[str, Plan]:
        return pipeline_plans.plan_pipeline(self.pipeline)

    def selected_tables(self) -> list[str]:
        """The tables that the command is narrowed to."""
        named = [n for n in self.names if n in self.pipeline.tables]
        return named if self.names else list(self.pipeline.tables)

    def published_tables(self) -> dict[str, str]:
        """What the command is narrowed to of what is published: by the lake's name, the table that follows it."""
        tables = self.pipeline.publish.tables if self.pipeline.publish else {}
        return {s: t for s, t in tables.items() if not self.names or {s, s.removeprefix("bronze.")} & {*self.names}}

    def key_columns(self) -> dict[str, tuple[str, ...]]:
        """What tells the rows of each table and model apart."""
        from lakehouse.bronze.scd2 import row_keys

        tables = {f"bronze.{name}": tuple(row_keys(table)) for name, table in self.pipeline.tables.items()}
        return tables | {name: plan.keys for name, plan in self.plans.items()}

    def snapshot_bytes(self, *tables: str) -> int:
        """Bytes of the newest snapshots of these tables, as received: how much there is to work on."""
        found = [landing.newest_snapshot(self.lake, table) for table in tables]
        return sum(landed.size for landed in found if landed)

    def model_groups(self, layer: str) -> list[list[str]]:
        """The layer's models that the command is narrowed to, in groups that need nothing of each other."""
        own = {m: p for m, p in self.plans.items() if m.startswith(f"{layer}.")}
        wanted = {m for m in own if not self.names or m in self.names}
        return [chosen for group in dependency_levels(own) if (chosen := [m for m in group if m in wanted])]


def open_run(path: str | Path, names: Iterable[str] = (), **options: Any) -> Run:
    """Read the pipeline and check that it, and the names, can be worked with.

    Raises:
        ConfigError: with all that stands in the way.
    """
    pipeline = config.load(path)
    logs.register_secrets(pipeline)
    if missing := config.unavailable_features(pipeline):
        raise ConfigError("\n".join(missing), where=str(pipeline.path), next_step="see docs/decisions/0001-scope.md")
    run = Run(pipeline, tuple(names), **options)
    run.log = run.log.bind(run_id=run.id, pipeline=pipeline.name)
    logs.log_retries(run.log)
    known = [*pipeline.tables, *run.plans]
    if unknown := [n for n in run.names if n not in known]:
        near = "".join(did_you_mean(n, known) for n in unknown[:1])
        raise ConfigError(
            f"{pipeline.name} has no {', '.join(unknown)}{near}",
            expected=f"tables or models: {', '.join(known)}",
            where=str(pipeline.path),
        )
    return run


@contextmanager
def record_run(run: Run, report: Report, command: str) -> Iterator[records.Record]:
    """Time a command, keep its record, and if it fails tell whom `on_failure` names."""
    began, error = time_now(), None
    record = records.start_record(run.pipeline.name, run.id, command, run.names)
    run.log.info("run begun", doing=command)
    try:
        yield record
    except Exception as raised:
        error = to_lakehouse_error(raised, verbose=run.verbose)
        raise
    finally:
        report.seconds = round(time_now() - began, 2)
        if error or sys.exc_info()[0] is None:  # interrupted, it has not ended in a way that a record could tell
            _finish_record(run, report, record, error)


def _finish_record(run: Run, report: Report, record: records.Record, error: LakehouseError | None) -> None:
    """The end of a command in its record, in the log, and with whom `on_failure` names."""
    code = error.exit_code if error else report.code
    told = {"error": error.to_text() if error else None}
    record = records.end_record(
        record, code, **{k: v for k, v in report.document().items() if k != "exit_code"}, **told
    )
    if not isinstance(error, LakeBusy):  # who was turned away did nothing there
        save_record(run, record)
    ended = {"doing": record["doing"], "exit_code": int(code), "seconds": report.seconds}
    run.log.info("run ended", **ended, nothing_new=report.nothing_new)
    if code and run.pipeline.on_failure:
        document = record | {"lake": run.lake.root, "repeats": records.count_repeats(run.lake, record)}
        notify.send(run.pipeline.on_failure, document, run.log)


def save_record(run: Run, record: records.Record) -> None:
    """A record that cannot be written is no reason for a run to end otherwise."""
    try:
        records.write(run.lake, record)
    except OSError as error:
        run.log.warning("the run record could not be written", reason=str(error))


@contextmanager
def lock_lake(run: Run, command: str) -> Iterator[None]:
    """Hold the run's lake, and have the session say which JVM works on it."""
    with lock.lock_lake(run.lake, run.id, command) as held:
        run.lake_lock = held
        yield


def run_in_parallel(run: Run, stage: str, names: list[str], work: Callable[[str], Iterable[Outcome]]) -> list[Outcome]:
    """Do `work` for each name, several at once. What it raises becomes an outcome, so that the others are attempted."""

    def attempt(name: str) -> list[Outcome]:
        began = time_now()
        try:
            outcomes = with_retries(lambda: list(work(name)))
        except Exception as error:
            known = to_lakehouse_error(error, verbose=run.verbose)
            outcomes = [Outcome(stage, name, "failed", code=known.exit_code, note=known.to_text())]
        spent = (time_now() - began) / max(len(outcomes), 1)
        timed = [replace(o, seconds=round(spent, 2), note=logs.redact(o.note)) for o in outcomes]
        for outcome in timed:
            run.on_outcome(outcome)
        return timed

    with ThreadPoolExecutor(_PARALLEL_TASKS) as pool:
        return [outcome for outcomes in pool.map(attempt, names) for outcome in outcomes]
