"""Compares a snapshot before a run, with the functions of `ingest`, and writes nothing. The entry point is `diff`.

1. Choose the two sides: the source's newest snapshot and bronze, two landed snapshots, or the lake at two times. The
   latter, also of models, is compared from the change sets, and nothing is decided about it.                between.py
2. Decide as `ingest` would: the verdict, the counts and the guards' reason.
   If it was already taken, nothing has to be compared: show the last change from its change set.   last_change.py
3. Describe the changes that `ingest` would write, by column and with a few rows.          diff_samples.py

From a notebook: `lakehouse.diff("conf/loyalty", "clientes")`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse import bronze, extract, logs
from lakehouse.concurrency import once, worker_pool
from lakehouse.config import Guard
from lakehouse.errors import ConfigError, DataRefused, ExitCode, worst_exit_code
from lakehouse.extract import Source
from lakehouse.ingest import decide, guards
from lakehouse.ingest.compare import compare_snapshot, undelivered_columns
from lakehouse.ingest.context import IngestContext, StateRows
from lakehouse.ingest.grace import find_grace, state_of_bronze
from lakehouse.inspect.between import Interval, diff_model, diff_table
from lakehouse.inspect.diff_samples import describe_changes
from lakehouse.inspect.last_change import describe_last_change
from lakehouse.lake import delta, ledger
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.lake.slices import Slices
from lakehouse.lake.table_ref import TableRef
from lakehouse.lake.table_rows import TableRows
from lakehouse.runner import bug_files
from lakehouse.runner.context import Run, open_run
from lakehouse.spark.lazy_session import lazy_session
from lakehouse.spark.persist import persist_rows
from lakehouse.spark.session import isolated_session, local_frame
from lakehouse.storage import landing
from lakehouse.storage.archives import text_bytes
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name

Document = dict[str, Any]

_MAX_STAMPS = 20


@dataclass(frozen=True)
class Baseline:
    """The rows that a snapshot is compared with.

    Attributes:
        rows: The rows, by the declared schema.
        optional_columns: Declared columns that the snapshot may lack.
        note: A note on the rows, for readers of the result.
    """

    rows: StateRows
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
    """Return the changes that a snapshot would make, or those between two times. Nothing is written.

    Without `from_` and `to`, the source's newest snapshot is compared with bronze. With both, the tables and models of
    the lake are compared with themselves, as they were at these times; a landed snapshot about which nothing was
    decided yet is compared by its files. With one of them, two landed snapshots are compared.

    Args:
        pipeline: A folder with pipeline.yml, or that file.
        *names: Tables, and with both times models; none: all tables.
        from_: A time, YYYYMMDD_HHMMSS or ISO. Without `to`, a landed snapshot; None: the last one before `to`.
        to: A later time. Without `from_`, a landed snapshot; None: the newest.
        samples: The number of rows to show of each kind of change.
        verbose: Whether errors have their full trace.

    Returns:
        The document of `lakehouse diff --json`. A table that cannot be compared has the verdict `failed`; only such a
        table makes `exit_code` other than 0.

    Raises:
        ConfigError: A name is no table, a snapshot has not landed, or the source does not exist.
    """
    return compare_snapshots(open_run(pipeline, names, checks_models=False, verbose=verbose), from_, to, samples)


def compare_snapshots(run: Run, from_: str | None, to: str | None, samples: int) -> Document:
    """Return the changes that a snapshot would make, as `diff` does, for a command that is open.

    Args:
        run: The command, with its pipeline and names.
        from_: As in `diff`.
        to: As in `diff`.
        samples: As in `diff`.

    Raises:
        ConfigError: As in `diff`.
    """
    models = [name for name in run.names if name not in run.pipeline.tables]
    if models and not (from_ and to):
        raise ConfigError(
            f"{', '.join(models)}: models are not compared with the source",
            expected=f"--from TIME and --to TIME, or tables: {', '.join(run.pipeline.tables)}",
            next_step=f"lakehouse status {run.pipeline.argument}, for the state of the models",
        )
    interval = Interval.from_texts(from_, to) if from_ and to else None
    names = [*run.selected_tables(), *models]
    histories = ledger.read_histories(run.lazy_spark, run.lake, list(run.pipeline.tables))
    with _table_comparison(run, histories, interval, (from_, to), samples) as compare, worker_pool() as pool:

        def compare_name(name: str, spark: SparkSession) -> Document:
            if name in models:
                assert interval is not None
                _ = spark.version  # raises if there is no session yet
                return diff_model(run, name, histories, interval, samples)
            table = TableRef(spark, run.lake, name, run.pipeline.tables[name], run.pipeline.tuning)
            return compare(IngestContext(table, run.pipeline, run.id, histories[name]))

        def attempt(name: str, spark: SparkSession) -> tuple[Document, ExitCode] | None:
            """Return the document of a table or model; None if it needs a session and `spark` is none."""
            try:
                done = compare_name(name, spark), ExitCode.OK
            except _NeedsSessionError:
                return None
            except Exception as raised:
                error = bug_files.report_bug(raised, run.verbose, run, "diff", name)
                verdict = {"verdict": "failed", "slices": None, "reason": logs.redact(error.to_text())}
                done = {"table": name, "from": None, "to": None, **verdict, **_empty_comparison()}, error.exit_code
            run.progress.advance()
            return done

        run.progress.begin("diff", len(names))
        # First without a session, which a snapshot that was already taken does not need. It is started by this thread:
        # the others do not see the active session of a notebook.
        no_session = lazy_session(_raise_needs_session)
        found = dict(zip(names, pool.map(partial(attempt, spark=no_session), names), strict=True))
        if waiting := [name for name in names if found[name] is None]:
            found |= zip(waiting, pool.map(partial(attempt, spark=run.spark), waiting), strict=True)
        results = [done for done in found.values() if done]
    return {
        "pipeline": run.pipeline.name,
        "tables": [document for document, _ in results],
        "exit_code": int(worst_exit_code(code for _, code in results)),
    }


class _NeedsSessionError(Exception):
    """A table cannot be compared without a session."""


def _raise_needs_session() -> SparkSession:
    raise _NeedsSessionError


def _empty_comparison() -> Document:
    """Return the part of a table's document about its rows, for rows that were not compared."""
    return {
        "counts": {},
        "rows_before": None,
        "percent": {},
        "columns": {},
        "missing": None,
        "quarantine": [],
        "samples": {"inserted": [], "updated": [], "deleted": []},
        "last_change": None,
        "note": None,
    }


# --- which snapshots --------------------------------------------------------------------------------------------


@contextmanager
def _table_comparison(
    run: Run,
    histories: Mapping[str, LedgerHistory],
    interval: Interval | None,
    stamps: tuple[str | None, str | None],
    samples: int,
) -> Iterator[Callable[[IngestContext], Document]]:
    """Yield the function that compares a table; the source stays open for the length of the `with` block."""
    from_, to = stamps
    if interval is not None:
        landed = {name: landing.list_snapshots(run.lake, name) for name in run.selected_tables()}
        is_empty = not any(history.accepted for history in histories.values())
        pairs = {
            name: select_pair(name, snapshots, snapshot_name(interval.start), snapshot_name(interval.end))
            for name, snapshots in landed.items()
            if not run.pipeline.tables[name].feed and (is_empty or _is_waiting(histories[name], snapshots, interval))
        }
        yield (
            lambda context: (
                _diff_landed(context, *pairs[context.table.name], samples)
                if context.table.name in pairs
                else _diff_lake(context, landed[context.table.name], interval, samples)
            )
        )
    elif from_ is None and to is None:
        with extract.open_source(run.pipeline, run.lake, run.selected_tables()) as source:
            peeked = {name: _peek_once(source, name) for name in run.selected_tables()}
            yield lambda context: _diff_with_bronze(context, source, peeked[context.table.name](), samples)
    else:
        if feeds := [name for name in run.selected_tables() if run.pipeline.tables[name].feed]:
            raise ConfigError(
                f"--from and --to compare two snapshots, and {', '.join(feeds)} has batches of a change feed",
                expected="tables of snapshots, named after the pipeline",
                next_step=f"lakehouse diff {run.pipeline.argument} {feeds[0]}, for what the newest batch would change",
            )
        pairs = {
            name: select_pair(name, landing.list_snapshots(run.lake, name), from_, to) for name in run.selected_tables()
        }
        yield lambda context: _diff_landed(context, *pairs[context.table.name], samples)


def select_pair(
    table: str, snapshots: list[LandedSnapshot], from_: str | None, to: str | None
) -> tuple[LandedSnapshot, LandedSnapshot]:
    """Return the two landed snapshots to compare, the older one first.

    Args:
        table: The table's name, for messages.
        snapshots: Its landed snapshots.
        from_: The older one's time; None: the last one before `to`.
        to: The newer one's time; None: the newest.

    Raises:
        ConfigError: One has not landed, or they are in the wrong order; the message lists those that have.
    """
    landed = {snapshot_name(snapshot.time): snapshot for snapshot in snapshots}
    newer = to or max(landed, default="")
    older = from_ or max((stamp for stamp in landed if stamp < newer), default="")
    if unknown := [stamp for stamp in (from_, to) if stamp and stamp not in landed]:
        problem = f"no snapshot {' and no '.join(unknown)} of {table} has landed"
    elif not older:
        problem = f"no snapshot of {table} has landed before {newer}" if newer else f"no snapshot of {table} has landed"
    elif older >= newer:
        problem = f"--from {older} is not before --to {newer}"
    else:
        return landed[older], landed[newer]
    stamps = list(landed)[-_MAX_STAMPS:]
    rest = f", and {len(landed) - _MAX_STAMPS} older" if len(landed) > _MAX_STAMPS else ""
    raise ConfigError(
        problem,
        expected=f"--from before --to, each a YYYYMMDD_HHMMSS of these: {', '.join(stamps) or 'none'}{rest}",
        next_step="lakehouse extract PIPELINE, to land the source's snapshots; or name only tables with such snapshots",
    )


def _is_waiting(history: LedgerHistory, snapshots: list[LandedSnapshot], interval: Interval) -> bool:
    """Return whether one of the times is that of a landed snapshot about which nothing was decided yet."""
    waiting = {snapshot.time for snapshot in snapshots if history.entry_at(snapshot.time) is None}
    return bool(waiting & {interval.start, interval.end})


def _diff_lake(context: IngestContext, snapshots: list[LandedSnapshot], interval: Interval, samples: int) -> Document:
    """Return the difference of a table at two times; of two snapshots, by their files if change sets were dropped."""
    decided = [context.history.entry_at(time) for time in (interval.start, interval.end)]
    notes = [
        f"the snapshot {snapshot_name(entry.snapshot_time)} is {entry.status}: it has no part in the lake"
        for entry in decided
        if entry and entry.status in ("held", "rejected")
    ]
    try:
        return diff_table(context.table, context.history, interval, samples) | {"note": "\n".join(notes) or None}
    except DataRefused:
        landed = {snapshot.time: snapshot for snapshot in snapshots if snapshot.files and not snapshot.expired}
        if interval.start not in landed or interval.end not in landed or context.config.feed:
            raise
        return _diff_landed(context, landed[interval.start], landed[interval.end], samples)


def _in_isolated_session(context: IngestContext, data_bytes: int) -> IngestContext:
    """Return the context with a session of its own, with settings for the size of the data."""
    return replace(context, table=context.table.with_spark(isolated_session(context.table.spark, data_bytes)))


# --- the source's newest snapshot with bronze --------------------------------------------------------------------


def _peek_once(source: Source, table: str) -> Callable[[], tuple[LandedSnapshot, str]]:
    """Return a function that returns the source's newest snapshot of a table, which may have to be downloaded, once."""
    return once(lambda: extract.peek(source, table, datetime.now(timezone.utc)))


def _diff_with_bronze(
    context: IngestContext, source: Source, peeked: tuple[LandedSnapshot, str], samples: int
) -> Document:
    """Return the changes of the source's newest snapshot in bronze, once bronze is at the ledger's last sequence."""
    snapshot, warning = peeked
    decide.require_same_columns(context)
    history = context.history
    landed_snapshots = landing.list_snapshots(context.table.lake, context.table.name)
    times = source.times_of(context.table.name) | {landed.time for landed in landed_snapshots}
    waiting = sum(
        time < snapshot.time and history.entry_at(time) is None and history.superseding(time) is None for time in times
    )
    older = f"older snapshots wait ({waiting}), and a run takes them first" if waiting else ""
    notes = (*source.warnings_of(context.table.name), warning, older)
    document = _diff_document(context, snapshot, _bronze_baseline, samples, notes, is_lazy=True)
    if document["verdict"] == "unchanged":  # by the bytes: the snapshot was taken, or an equal one
        document["last_change"] = describe_last_change(context, samples)
    return document


def _bronze_baseline(context: IngestContext, time: datetime) -> Baseline:
    """Return bronze's rows at the ledger's last sequence, for a snapshot of a time.

    The version is pinned, so that a run at the same time changes nothing. If no version is at that sequence, the rows
    are computed from the change sets.
    """
    table, history = context.table, context.history
    version, optional_columns = delta.current_version(table.spark, table.bronze), undelivered_columns(context)
    if bronze.is_current(version, table.config, history):
        number = version.version if version else None
        return Baseline(state_of_bronze(context, time, number), optional_columns)
    grace = find_grace(context, time)
    fold = bronze.expected_state_rows if grace else bronze.expected_rows
    rows = StateRows(lambda: fold(table, history.entries_to_fold), grace=grace)
    note = "bronze is not at the ledger's last sequence: compared with the rows of the accepted change sets"
    return Baseline(rows, optional_columns, f"{note}; `lakehouse bronze` applies them")


# --- two landed snapshots ---------------------------------------------------------------------------------------


def _diff_landed(context: IngestContext, older: LandedSnapshot, newer: LandedSnapshot, samples: int) -> Document:
    """Return the changes of the newer snapshot, as if the older one were the only accepted snapshot."""
    context = _in_isolated_session(context, max(text_bytes(older.files), text_bytes(newer.files)))
    older_fingerprint = context.fingerprint(older)
    entry = LedgerEntry(context.table.name, 1, older.time, older_fingerprint, "accepted", recorded_at=older.time)
    # The baseline is the older snapshot's rows as bronze would have them if it were the first one.
    entries = [e for e in context.history.entries if e.snapshot_time <= older.time or e.is_base_state]
    before = replace(context, history=LedgerHistory(entries))
    no_rows = local_frame(before.table.spark, before.table.schema)
    none = StateRows(lambda: no_rows, TableRows)
    context = replace(context, history=LedgerHistory([entry]))
    with (
        compare_snapshot(before, older, none, undelivered_columns(before)) as comparison,
        persist_rows(comparison.change_set(1).select(*no_rows.columns)) as rows,
    ):
        quarantined = comparison.counts.quarantined
        note = f"rows of {snapshot_name(older.time)} that would be quarantined are missing: {quarantined}"
        grace = find_grace(context, newer.time)
        absence = [F.lit(None).cast(each.dataType).alias(each.name) for each in bronze.STATE_FIELDS if grace]
        state = StateRows(lambda: rows.select("*", *absence), comparison.inserted_rows, grace)
        baseline = Baseline(state, comparison.missing_columns, note if quarantined else "")
        return _diff_document(context, newer, lambda *_: baseline, samples)


# --- verdict and contents ---------------------------------------------------------------------------------------


def _diff_document(
    context: IngestContext,
    snapshot: LandedSnapshot,
    read_baseline: Callable[[IngestContext, datetime], Baseline],
    samples: int,
    notes: tuple[str, ...] = (),
    is_lazy: bool = False,
) -> Document:
    """Return a table's document: the verdict that `ingest` would give a snapshot, and the changes that it would write.

    The baseline is read only if the snapshot has to be compared. If `is_lazy`, no session is there before that.
    """
    contents, last = _empty_comparison(), context.history.last_accepted

    def compare(
        context: IngestContext, snapshot: LandedSnapshot, base: LedgerEntry, guard: Guard | None
    ) -> LedgerEntry:
        context = _in_isolated_session(context, text_bytes(snapshot.files)) if is_lazy else context
        baseline = read_baseline(context, snapshot.time)
        with compare_snapshot(context, snapshot, baseline.rows, baseline.optional_columns) as comparison:
            entry = guards.apply_guards(base, comparison, guard)
            contents.update(describe_changes(context, comparison, entry.counts, samples), note=baseline.note)
            return entry

    entry = decide.decide_snapshot(context, snapshot, context.config.guard, compare)
    return {
        "table": context.table.name,
        "from": snapshot_name(last.snapshot_time) if last else None,
        "to": snapshot_name(snapshot.time),
        "verdict": "late" if snapshot.time in context.late else entry.status,
        "reason": entry.reason,
        "slices": Slices.describe_json(entry.slices),
        **contents,
        "note": "\n".join(filter(None, (contents["note"], *notes))) or None,
    }
