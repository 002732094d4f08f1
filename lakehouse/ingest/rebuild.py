"""Rebuilds the change sets of a table from the landed bytes after its declared schema changed.

Entry point: `rebuild_change_sets`, for `lakehouse bronze PIPELINE TABLE --full-refresh`. Its steps:

1. compare the columns of the change sets with the declared ones; if they fit, there is nothing to do
2. read each accepted snapshot again, oldest first, and compare it with the rows before it: a change set each. The
   guards are not applied: an accepted one stays accepted, a rejected one stays rejected
3. raise if a row that the table has does not fit the new schema
4. write the quarantine of the last snapshot
5. append the rows of the ledger, in one commit: from now on, folding begins with the first of them

Before step 5 nothing has happened. Bronze then follows like after any change set that it has not applied. The change
sets of snapshots whose files have expired are copied with their values cast, as are all older ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse import bronze
from lakehouse.config.column_names import stored_names
from lakehouse.errors import DataRefused
from lakehouse.failpoints import failpoint
from lakehouse.ingest.compare import compare_snapshot
from lakehouse.ingest.comparison import Comparison
from lakehouse.ingest.context import IngestContext
from lakehouse.ingest.diff import DUPLICATE_KEY
from lakehouse.ingest.grace import state_of_bronze
from lakehouse.ingest.guards import apply_guards
from lakehouse.ingest.readers import snapshot_reader
from lakehouse.lake import change_sets, delta, ledger, quarantine
from lakehouse.lake.cdc import CDC_COLUMNS, CHANGED_COLUMNS, GOES_MISSING, IS_BACK, MISSING_SINCE
from lakehouse.lake.ledger import REBUILT, LedgerEntry, LedgerHistory
from lakehouse.lake.slices import Slices
from lakehouse.lake.table_ref import TableRef
from lakehouse.schema import mismatch, pii
from lakehouse.schema.cast import cast_text
from lakehouse.spark.persist import persist_rows
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import snapshot_name
from lakehouse.text import counted, visible

_MAX_EXAMPLES = 3


@dataclass(frozen=True)
class Rebuild:
    """The result of a rebuild.

    Attributes:
        history: The ledger's rows of the table, with the new ones.
        reason: The changes of the schema, and the sources of the rebuilt change sets.
    """

    history: LedgerHistory
    reason: str


@dataclass(frozen=True)
class _Step:
    """One change set to write again: of a snapshot that is read again, or the copy of a change set."""

    entry: LedgerEntry
    snapshot: LandedSnapshot | None
    is_copy: bool


@dataclass(frozen=True)
class _ScratchTable(TableRef):
    """The rows up to a snapshot, in a table of its own: bronze stays as it is until the ledger has the new rows."""

    @property
    def bronze(self) -> str:
        return self.lake.spark_path(f"_state/rebuild/{self.name}")


def rebuild_change_sets(context: IngestContext) -> Rebuild | None:
    """Write the change sets of a table again if the declared schema renames, removes or retypes their columns.

    Args:
        context: The table's ingest.

    Returns:
        The new history; None if the change sets fit the schema.

    Raises:
        DataRefused: A snapshot cannot be read with the new schema, or a row of the table does not fit it.
        ConfigError: `pii` was changed since, or the history needs change sets that were dropped.
    """
    table, history = context.table, context.history
    # A table with a feed is always built from its events, which are rebuilt from landing by `ingest --full-refresh`.
    changes = [] if context.config.feed else schema_changes(table, history)
    if not changes:
        return None
    steps = _plan_steps(context)
    _require_files_of_rows_without_key(context, steps, changes)
    bronze.require_all_change_sets(table, [step.entry for step in steps if step.is_copy])
    entries = _write_change_sets(context, steps)
    failpoint("after_rebuild_written", table.name)
    reason = f"{REBUILT}: {'; '.join(changes)}{_loss(steps)}"
    entries[0] = replace(entries[0], reason="; ".join(filter(None, [reason, entries[0].reason])))
    for entry in ledger.append_all(table.spark, table.lake, entries):
        history = history.with_entry(entry)
    return Rebuild(history, reason)


def _require_files_of_rows_without_key(context: IngestContext, steps: list[_Step], changes: list[str]) -> None:
    """Raise if rows without a key are to be taken from change sets: other columns make other rows of them.

    Raises:
        DataRefused: The landed files of some snapshots have expired.
    """
    lost = [step.entry for step in steps if step.is_copy]
    if not lost or not (context.config.counts_rows or any(line.startswith("keys: all") for line in changes)):
        return
    raise DataRefused(
        f"{context.table.name}: {'; '.join(changes)}, but the files up to {snapshot_name(lost[-1].snapshot_time)} have"
        " expired, and rows without a key can only be told apart by all of their values",
        expected="the landed files of all accepted snapshots",
        where=str(context.pipeline.path),
        next_step="undo the change in pipeline.yml",
    )


def schema_changes(table: TableRef, history: LedgerHistory) -> list[str]:
    """Return the columns of the change sets that the declared schema renames, removes or retypes, one line each.

    Args:
        table: The table.
        history: The ledger's rows of the table.

    Raises:
        ConfigError: `pii` was changed since they were written.
    """
    lines = []
    for entry in (each for each in history.entries_to_fold if each.path):
        written = change_sets.written_schema(table, entry)
        change_sets.require_same_pii(table, entry, written)
        own = {*CDC_COLUMNS, CHANGED_COLUMNS, MISSING_SINCE}
        compared = T.StructType([f for f in written if f.name not in own])
        lines += mismatch.table_mismatches(compared, table.schema, table.config)
    return list(dict.fromkeys(lines))


def _plan_steps(context: IngestContext) -> list[_Step]:
    """Return the change sets to write, in order.

    The files of a snapshot give its rows only if those of all later ones are there as well: a change set can be
    applied to the rows that it was compared with, and those may have other keys by the new schema.
    """
    table, history = context.table, context.history
    landed = {snapshot.time: snapshot for snapshot in landing.list_snapshots(table.lake, table.name)}
    readable = {time for time, snapshot in landed.items() if snapshot.files and not snapshot.expired}
    has_all = all(entry.snapshot_time in readable for entry in history.accepted)
    entries = history.accepted if has_all else history.entries_to_fold
    last_lost = max((e.snapshot_time for e in entries if e.snapshot_time not in readable), default=None)
    if last_lost is None and not has_all:  # of a base state, whose rows are older than its snapshot
        last_lost = entries[0].snapshot_time
    steps: dict[object, _Step] = {}
    for entry in sorted(entries, key=lambda e: (e.snapshot_time, e.sequence or 0)):
        time, is_copy = entry.snapshot_time, last_lost is not None and entry.snapshot_time <= last_lost
        # A snapshot that was read several times, by other configurations, is read once by today's.
        steps[entry.sequence if is_copy else time] = _Step(entry, landed.get(time), is_copy)
    return list(steps.values())


def _loss(steps: list[_Step]) -> str:
    """Return the sources from which the change sets were rebuilt, and since when the landed bytes determine them."""
    copied = [step.entry for step in steps if step.is_copy]
    read = len({step.entry.snapshot_time for step in steps if not step.is_copy})
    text = f"; {counted(read, 'landed snapshot')} read again"
    if copied:
        text += (
            f"; the files up to {snapshot_name(copied[-1].snapshot_time)} have expired: until then, values are those"
            " of the change sets, cast, without what these could not keep (such as leading zeros)"
        )
    return text


def _write_change_sets(context: IngestContext, steps: list[_Step]) -> list[LedgerEntry]:
    """Write the change sets and the quarantine of the last one; return the rows of the ledger that publish them."""
    history = context.history
    first = (history.accepted[-1].sequence or 0) + 1
    entries: list[LedgerEntry] = []
    with _scratch_context(context) as scratch:
        delivered: set[str] = set()
        for number, step in enumerate(steps, start=first):
            scratch.history = LedgerHistory(_as_first(entries))
            bronze.apply_pending(scratch.table, scratch.history, step.snapshot.size if step.snapshot else 0)
            used = frozenset(e.path for e in (*history.entries, *entries) if e.path)
            lake, name, time = context.table.lake, context.table.name, step.entry.snapshot_time
            path = (lake.change_set_path if entries else lake.compacted_path)(name, number, time, used)
            base = replace(step.entry, sequence=number, path=path, kind="cdc" if entries else "full-load")
            base = replace(base, run_id=context.run_id, reason=None)
            if step.snapshot and not step.snapshot.expired:
                base = replace(base, fingerprint=context.fingerprint(step.snapshot))
            if step.is_copy:
                entries.append(_copy_change_set(context.table, step.entry, base))
            else:
                is_last = step is steps[-1]
                base = replace(base, missing=None, marks=None)
                entries.append(_read_again(context, scratch, step, base, delivered, is_last))
            delivered.update(change_sets.written_schema(context.table, entries[-1]).names)
        if steps[-1].is_copy:
            quarantine.write_of_table(context.table, None, entries[-1].sequence or 0)
    return entries


@contextmanager
def _scratch_context(context: IngestContext) -> Iterator[IngestContext]:
    """Provide the ingest of a table that has the rows up to a snapshot, and is removed at the end."""
    table = context.table
    config = table.config.model_copy(update={"scd": 1, "history_for": None, "history_except": None})
    scratch = _ScratchTable(table.spark, table.lake, table.name, config, table.tuning)
    delta.drop(table.spark, scratch.bronze)  # of a rebuild that was killed
    try:
        taken = context.history.confirmed
        yield IngestContext(scratch, context.pipeline, context.run_id, LedgerHistory([]), taken=taken)
    finally:
        delta.drop(table.spark, scratch.bronze)


def _as_first(entries: list[LedgerEntry]) -> list[LedgerEntry]:
    """Return the rows as those of a table that has no others."""
    kinds = ["full-load", *["cdc"] * len(entries)]
    return [replace(e, sequence=n, kind=k) for n, (e, k) in enumerate(zip(entries, kinds, strict=False), start=1)]


def _copy_change_set(table: TableRef, entry: LedgerEntry, base: LedgerEntry) -> LedgerEntry:
    """Copy a change set with its values cast, and return the row of the ledger that publishes the copy.

    Raises:
        DataRefused: A value does not fit the schema.
    """
    bronze.require_values_fit(table, [entry], every_change=True)
    rows = change_sets.read_change_sets(table, [entry])
    columns = change_sets.source_columns(table, change_sets.written_schema(table, entry))
    rows = rows.drop(*[name for name in table.schema.names if name not in columns])
    if not entry.is_base_state or entry.is_rebuild_start:
        rows = rows.withColumn("_cdc_sequence", F.lit(base.sequence).cast("long"))
    erased = change_sets.count_erased(table.lake.path(entry.path or ""))
    counts = Counter({"I": entry.inserted or 0, "U": entry.updated or 0, "D": entry.deleted or 0}) - erased
    change_sets.write(table, pii.with_labels(rows, table.config), base.path or "", entry.changed_rows)
    rows_read = (entry.rows_read or 0) - erased["I"] - erased["U"]
    if entry.marks is not None:
        base = replace(base, marks=entry.marks - erased[GOES_MISSING] - erased[IS_BACK])
    return replace(base, rows_read=rows_read, inserted=counts["I"], updated=counts["U"], deleted=counts["D"])


def _read_again(
    context: IngestContext, scratch: IngestContext, step: _Step, base: LedgerEntry, delivered: set[str], is_last: bool
) -> LedgerEntry:
    """Read a snapshot with the new schema, write its change set and return the row of the ledger that publishes it."""
    assert step.snapshot is not None
    scratch = _sliced_as_recorded(scratch, step.entry)
    has_older_rows = any(entry.quarantined for entry in context.history.accepted)
    table, written = scratch.table, change_sets.written_schema(context.table, step.entry)
    known = change_sets.source_columns(context.table, written).keys()
    new = set(table.schema.names).difference(known, delivered, table.config.keys)
    before = state_of_bronze(scratch, step.snapshot.time)
    sequence = base.sequence or 0
    try:
        with compare_snapshot(scratch, step.snapshot, before, frozenset(new)) as comparison:
            # A row of an earlier snapshot is a current one if later snapshots have its key in quarantine.
            if is_last or context.config.scd == 2 or has_older_rows:
                _require_rows_fit(context, comparison, step.entry, written)
            if is_last or comparison.slices:  # a later snapshot does not repeat the rows of other slices
                _write_quarantine(context, comparison, sequence)
            comparison.write_change_set(sequence, base.path or "")
            return apply_guards(base, comparison, None)
    except DataRefused as refused:
        raise DataRefused(
            f"the snapshot {snapshot_name(step.snapshot.time)} does not fit the new schema: {refused.found}",
            kept=f"the snapshot {snapshot_name(step.snapshot.time)} does not fit the new schema: {refused.kept}",
            expected=refused.expected,
            where=refused.where,
            next_step="keep the column as it was and cast it in silver, or have the source corrected first"
            f"{', or ' + refused.next_step if refused.next_step else ''}; nothing was changed",
        ) from refused


def _sliced_as_recorded(scratch: IngestContext, entry: LedgerEntry) -> IngestContext:
    """Return the context with the `slice_by` by which a snapshot was accepted: it may have been set or changed since.

    Raises:
        DataRefused: The schema has lost a column of it.
    """
    config = scratch.table.config
    slice_by: list[str] | None = None
    if entry.slices is not None:  # without slices it deletes nothing, by whatever columns
        slice_by = stored_names(Slices.from_json(entry.slices).columns, scratch.table.schema.names)
        slice_by = slice_by or config.slice_by or list(config.keys)
    if lost := sorted(set(slice_by or ()).difference(scratch.table.schema.names)):
        raise DataRefused(
            f"it was accepted as slices by {', '.join(lost)}, and `schema` has no such column any more",
            expected="the columns by which the snapshot says what it contains",
            where=scratch.table.name,
        )
    table = replace(scratch.table, config=config.model_copy(update={"slice_by": slice_by}))
    return replace(scratch, table=table)


def _write_quarantine(context: IngestContext, comparison: Comparison, sequence: int) -> None:
    slices, time_zone = comparison.slices, context.pipeline.timezone
    if not comparison.counts.quarantined:
        quarantine.write_of_table(context.table, None, sequence, slices, time_zone)
        return
    with persist_rows(comparison.quarantine_rows()) as rows:
        numbered = snapshot_reader.add_line_numbers(context.table.spark, rows, context.config, comparison.snapshot)
        quarantine.write_of_table(context.table, numbered, sequence, slices, time_zone)


def _require_rows_fit(
    context: IngestContext, comparison: Comparison, entry: LedgerEntry, written: T.StructType
) -> None:
    """Raise if rows were readable by the earlier types and are not by the new ones, so that they would be lost.

    Args:
        context: The table's ingest.
        comparison: The comparison of a snapshot by the new schema.
        entry: The ledger row of the snapshot by the earlier schema.
        written: The earlier schema.
    """
    if not comparison.counts.quarantined:
        return
    table, schema = context.table, context.table.schema
    names = change_sets.source_columns(table, written)
    earlier = {name: written[other].dataType for name, other in names.items()}
    changed = {f.name: f.dataType.simpleString() for f in schema if earlier.get(f.name) != f.dataType}
    was_readable = F.lit(False)
    for name in changed:
        # A column that the change set lacks was not read; a value that `pii` protects cannot be read again.
        value, options = F.col("value"), context.config.options
        if name in earlier and name not in context.config.pii:
            value = cast_text(value, earlier[name], context.pipeline.timezone, options)[0]
        was_readable = was_readable | ((F.col("column") == name) & value.isNotNull())
    is_duplicate = F.col("reason") == DUPLICATE_KEY
    lost = was_readable & ~is_duplicate
    if changed.keys() & {*context.config.keys} and comparison.counts.quarantined > (entry.quarantined or 0):
        lost = lost | is_duplicate
    rows = comparison.quarantine_rows().where(lost).select("column", "value").distinct().orderBy("column", "value")
    if examples := rows.limit(_MAX_EXAMPLES).collect():
        texts = [
            f"{row['column']} {visible(row['value'] or '')} is no {changed.get(row['column'], 'key of one row')}"
            for row in examples
        ]
        columns = ", ".join(dict.fromkeys(row["column"] for row in examples))
        raise DataRefused(
            f"rows that could be read cannot any more: {'; '.join(texts)}",
            kept=f"rows that could be read cannot any more, in the columns {columns}",
            expected="values of the declared types in all rows of bronze",
            where=str(comparison.snapshot.folder),
        )
