"""What a snapshot would change, to look at before a run: decided by `ingest`'s own functions, and nothing is written.

    which       the source's newest snapshot against bronze, or two landed snapshots against each other
    decide      what would become of it: the verdict, the counts and the guards' word are those of `ingest`
    contents    what `ingest` would write, counted by column and sampled instead          samples.py

From a notebook: `lakehouse.diff("conf/loyalty", "clientes")`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

from lakehouse import extract, logs
from lakehouse.bronze import apply, read
from lakehouse.config import Guard
from lakehouse.error_mapping import to_lakehouse_error
from lakehouse.errors import ConfigError, ExitCode, LakehouseError, worst_exit_code
from lakehouse.extract import Source
from lakehouse.ingest import decide, guards
from lakehouse.ingest.compare import change_set, compare_snapshot, undelivered_columns
from lakehouse.ingest.context import IngestContext, fingerprint
from lakehouse.inspect.diff_samples import describe_changes, persist_rows
from lakehouse.lake import delta, ledger
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.runner.context import Run, open_run
from lakehouse.schema import table_schema
from lakehouse.spark.session import isolated_session, local_frame
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name

Document = dict[str, Any]

_SIDE_BY_SIDE = 4
_MAX_STAMPS = 20


@dataclass(frozen=True)
class Baseline:
    """What a snapshot is held against: rows, the columns that the snapshot may lack, and what to know of the rows."""

    rows: DataFrame
    optional_columns: frozenset[str]
    note: str = ""


def diff(
    pipeline: str | Path,
    *names: str,
    from_: str | None = None,
    to: str | None = None,
    samples: int = 5,
    verbose: bool = False,
) -> Document:
    """What would change: the source's newest snapshot against bronze or, given `from_` or `to`, two landed ones.

    Args:
        pipeline: a folder with pipeline.yml, or that file.
        names: of tables; none: all of them.
        from_: a landed snapshot, YYYYMMDD_HHMMSS; left out: the one that landed before `to`.
        to: a landed snapshot; left out: the newest.
        samples: rows to show of each kind of change.

    Returns:
        The document of `lakehouse diff --json`. A table that cannot be compared has the verdict `failed`, and
        `exit_code` is not 0 only for such.

    Raises:
        ConfigError: a name that is no table, a snapshot that has not landed, no source.
    """
    run = open_run(pipeline, names, verbose=verbose)
    if models := [n for n in run.names if n not in run.pipeline.tables]:
        raise ConfigError(
            f"{', '.join(models)}: models are not compared",
            expected=f"tables: {', '.join(run.pipeline.tables)}",
            next_step=f"lakehouse status {run.pipeline.folder}, for where the models stand",
        )
    with _table_comparison(run, from_, to, samples) as compare, ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        spark, histories = run.spark, ledger.read_histories(run.spark, run.lake, run.selected_tables())

        def attempt(name: str) -> tuple[Document, ExitCode]:
            try:
                return compare(IngestContext(spark, run.lake, run.pipeline, name, run.id, histories[name])), ExitCode.OK
            except Exception as error:
                known = to_lakehouse_error(error, verbose=verbose)
                return _failed_document(name, known), known.exit_code

        found = list(pool.map(attempt, run.selected_tables()))
    return {
        "pipeline": run.pipeline.name,
        "tables": [t for t, _ in found],
        "exit_code": int(worst_exit_code(c for _, c in found)),
    }


def _failed_document(name: str, error: LakehouseError) -> Document:
    return {
        "table": name,
        "from": None,
        "to": None,
        "verdict": "failed",
        "reason": logs.redact(error.to_text()),
        **_empty_comparison(),
    }


def _empty_comparison() -> Document:
    """What is said of a table whose rows were not looked at."""
    return {
        "counts": {},
        "rows_before": None,
        "percent": {},
        "columns": {},
        "quarantine": [],
        "samples": {"inserted": [], "updated": [], "deleted": []},
        "note": None,
    }


# --- which ------------------------------------------------------------------------------------------------------


@contextmanager
def _table_comparison(
    run: Run, first: str | None, second: str | None, samples: int
) -> Iterator[Callable[[IngestContext], Document]]:
    """How a table is compared: two landed snapshots of it, or the source, open meanwhile, against bronze."""
    if first is None and second is None:
        with extract.open_source(run.pipeline, run.lake, run.selected_tables()) as source:
            yield lambda work: _diff_with_bronze(work, source, samples)
    else:
        pairs = {
            name: select_pair(name, landing.list_snapshots(run.lake, name), first, second)
            for name in run.selected_tables()
        }
        yield lambda work: _diff_landed(work, *pairs[work.name], samples)


def select_pair(
    table: str, landed: list[LandedSnapshot], first: str | None, second: str | None
) -> tuple[LandedSnapshot, LandedSnapshot]:
    """The snapshots to compare, the older one first.

    Raises:
        ConfigError: one has not landed, or they come in the wrong order; with what has landed.
    """
    there = {snapshot_name(s.time): s for s in landed}
    to = second or max(there, default="")
    start = first or max((stamp for stamp in there if stamp < to), default="")
    if unknown := [stamp for stamp in (first, second) if stamp and stamp not in there]:
        wrong = f"no snapshot {' and no '.join(unknown)} of {table} has landed"
    elif not start:
        wrong = f"no snapshot of {table} has landed before {to}" if to else f"no snapshot of {table} has landed"
    elif start >= to:
        wrong = f"--from {start} is not before --to {to}"
    else:
        return there[start], there[to]
    raise ConfigError(
        wrong,
        expected=f"--from before --to, each a YYYYMMDD_HHMMSS of these: {_list_stamps(list(there))}",
        next_step="lakehouse extract PIPELINE, to land what the source has; or name the tables that have landed then",
    )


def _list_stamps(stamps: list[str]) -> str:
    older = len(stamps) - _MAX_STAMPS
    return ", ".join(stamps[-_MAX_STAMPS:]) + (f", and {older} older" if older > 0 else "") if stamps else "none"


def _diff_with_bronze(work: IngestContext, source: Source, samples: int) -> Document:
    """The source's newest snapshot against bronze as the ledger says that it must be."""
    landed, warning = extract.peek(source, work.name, datetime.now(timezone.utc))
    work.spark = isolated_session(work.spark, landed.size)
    decide.require_same_columns(work)
    waiting = _count_waiting(work, source, landed.time)
    older = f"older snapshots wait ({waiting}), and a run takes them first" if waiting else ""
    return _diff_document(work, landed, _bronze_baseline, samples, (warning, older))


def _count_waiting(work: IngestContext, source: Source, until: datetime) -> int:
    """How many snapshots a run would compare before the one of `until`."""
    times = source.snapshot_times | {landed.time for landed in landing.list_snapshots(work.lake, work.name)}
    last = work.history.last_accepted
    newer = {time for time in times if last is None or time > last.snapshot_time}
    return sum(time < until and work.history.entry_at(time) is None for time in newer)


def _bronze_baseline(work: IngestContext) -> Baseline:
    """At the version whose commit says that it is where the ledger is: a run that is on meanwhile changes nothing."""
    spark, lake, name, history = work.spark, work.lake, work.name, work.history
    head, may_lack = delta.current_version(spark, lake.bronze_table(name)), undelivered_columns(work)
    if apply.is_current(head, work.table, history):
        version = head.version if head else None
        return Baseline(read.current_rows(spark, lake, name, work.table, version), may_lack)
    rows = read.expected_rows(spark, lake, work.table, history.entries_to_fold)
    note = "bronze is not where the ledger is: compared with what the accepted change sets come to"
    return Baseline(rows, may_lack, f"{note}; `lakehouse bronze` brings it there")


def _diff_landed(work: IngestContext, first: LandedSnapshot, second: LandedSnapshot, samples: int) -> Document:
    """The second snapshot, as if the first one were all that had been accepted."""
    work.spark = isolated_session(work.spark, max(first.size, second.size))
    print_ = fingerprint(work.pipeline, work.name, first)
    only = LedgerEntry(work.name, 1, first.time, print_, "accepted", recorded_at=first.time)
    with _snapshot_baseline(work, first) as before:
        return _diff_document(replace(work, history=LedgerHistory([only])), second, lambda _: before, samples)


@contextmanager
def _snapshot_baseline(work: IngestContext, landed: LandedSnapshot) -> Iterator[Baseline]:
    """A snapshot's rows as bronze would hold them, had it been the first one."""
    then = replace(
        work,
        history=LedgerHistory([e for e in work.history.entries if e.snapshot_time <= landed.time or e.is_base_state]),
    )
    nothing = local_frame(work.spark, table_schema.stored_schema(work.table))
    with compare_snapshot(then, landed, nothing, undelivered_columns(then)) as found:
        lost = found.counts.quarantined
        note = f"rows of {snapshot_name(landed.time)} count as not there, since they cannot be taken: {lost}"
        with persist_rows(change_set(then, found, 1).select(*nothing.columns)) as rows:
            yield Baseline(rows, found.parsed.missing_columns, note if lost else "")


# --- decide -----------------------------------------------------------------------------------------------------


def _diff_document(
    work: IngestContext,
    landed: LandedSnapshot,
    before: Callable[[IngestContext], Baseline],
    samples: int,
    notes: tuple[str, ...] = (),
) -> Document:
    """What `ingest` would say of the snapshot, and what it would do."""
    seen, last = _empty_comparison(), work.history.last_accepted

    def compare(work: IngestContext, landed: LandedSnapshot, base: LedgerEntry, guard: Guard | None) -> LedgerEntry:
        start = before(work)
        with compare_snapshot(work, landed, start.rows, start.optional_columns) as found:
            entry = guards.apply_guards(base, found, guard)
            seen.update(describe_changes(work, found, entry.counts, samples), note=start.note)
            return entry

    entry = decide.decide(work, landed, work.table.guard, compare)
    return {
        "table": work.name,
        "from": snapshot_name(last.snapshot_time) if last else None,
        "to": snapshot_name(landed.time),
        "verdict": "late" if landed.time in work.late else entry.status,
        "reason": entry.reason,
        **seen,
        "note": "\n".join(filter(None, (seen["note"], *notes))) or None,
    }
