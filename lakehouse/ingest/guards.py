"""Checks whether a compared snapshot can be accepted, and whether its guard holds it for approval."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from pyspark.sql import DataFrame

from lakehouse.concurrency import once
from lakehouse.config import Guard, Table
from lakehouse.config.option_advice import option_advice
from lakehouse.errors import DataRefused
from lakehouse.ingest.comparison import Comparison
from lakehouse.ingest.diff import Counts
from lakehouse.ingest.feed_comparison import FeedComparison
from lakehouse.ingest.held import commonest_reasons, held_message
from lakehouse.ingest.readers.snapshot_reader import example_lines
from lakehouse.ingest.rekeyed import rekeyed_text
from lakehouse.ingest.shares import is_more_than
from lakehouse.lake import ledger
from lakehouse.lake.cdc import COUNT_COLUMNS
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.usual_range import FIGURES, PastFigures
from lakehouse.text import counted

_MAX_EXAMPLES = 3


def apply_guards(base: LedgerEntry, comparison: Comparison, guard: Guard | None) -> LedgerEntry:
    """Return a snapshot's ledger row with the counts, held if the guard has a reason, else accepted.

    Of a snapshot that is held, the context gets the whole message: the ledger's reason has no values of rows.

    Args:
        base: The ledger row without counts.
        comparison: The comparison of the snapshot.
        guard: The limits to apply; None accepts any change.
    """
    counts = {name: getattr(comparison.counts, name) for name in COUNT_COLUMNS}
    if comparison.before.grace:
        counts |= {"missing": comparison.counts.missing, "marks": comparison.counts.marks}
    correction = comparison.correction if isinstance(comparison, FeedComparison) else None
    if correction:
        counts |= {"corrected": correction.keys}
    base = replace(base, slices=comparison.slices.to_json() if comparison.slices else None)
    reason = _hold_reason(comparison, guard) if guard else None
    rekeyed = rekeyed_text(comparison, is_held=reason is not None) if guard else None
    if guard and reason:
        reason = "; ".join(filter(None, [reason, rekeyed]))
        reasons = commonest_reasons(comparison)
        context = comparison.context
        context.held_messages[comparison.snapshot.time] = held_message(comparison, reason, reasons, guard)
        kept = "; ".join([reason, *(each.text(with_value=False) for each in reasons)])
        return replace(base, status="held", reason=kept, **counts)
    warnings = [rekeyed] if rekeyed else []
    if correction and comparison.context.history.accepted and (drift := correction.describe()):
        warnings.append(drift)
    if unknown := ", ".join(comparison.unknown_columns):
        warnings.append(f"columns that are not in the schema are ignored: {unknown}")
    if isinstance(comparison, FeedComparison) and comparison.missing_columns and comparison.counts.rows_read:
        warnings.append(f"columns that the batch lacks are null: {', '.join(sorted(comparison.missing_columns))}")
    if comparison.context.history.last_accepted is None and (columns := comparison.leading_zero_columns()):
        warnings.append(_leading_zeros(columns, comparison.context.config))
    return replace(base, status="accepted", reason="; ".join(warnings) or None, **counts)


def _leading_zeros(columns: tuple[str, ...], table: Table) -> str:
    """Return the warning that a first load has numbers with leading zeros, which may be identifiers; keys first."""
    types = {each.name: each.canonical_type for each in table.columns}
    ordered = sorted(columns, key=lambda name: name not in table.keys)
    named = ", ".join(f"{'the KEY ' if name in table.keys else ''}{name} ({types[name]})" for name in ordered)
    return f"{ledger.LEADING_ZEROS} of {named}: declare identifiers as STRING, and rebuild the table"


def require_acceptable(comparison: Comparison) -> None:
    """Raise if a snapshot cannot be accepted, regardless of the guard.

    Args:
        comparison: The comparison of the snapshot.

    Raises:
        DataRefused: Two readers count different records, rows of one key conflict, or a row is malformed and
            `malformed` is `fail`.
    """
    name, table = comparison.context.table.name, comparison.context.config
    counts, where = comparison.counts, str(comparison.snapshot.folder)
    if comparison.record_count is not None and comparison.record_count != counts.rows_read:
        raise DataRefused(
            f"{name} has {counted(counts.rows_read, 'record')} by one reader and {comparison.record_count} by another",
            expected="a file that every CSV reader reads the same way",
            where=where,
            next_step="look for quotes that open or close in the middle of a field",
        )
    if counts.conflicts:
        found, expected = comparison.describe_conflicts()
        raise DataRefused(
            f"{found}: {comparison.example_keys()}",
            kept=f"{found}{_example_lines(comparison, comparison.conflicting_rows(_MAX_EXAMPLES))}",
            expected=expected,
            where=where,
            next_step="correct the source, or set `duplicates` to latest or quarantine",
        )
    if table.malformed == "fail" and counts.quarantined:
        rejected = comparison.quarantine_rows().limit(1)
        row, found = rejected.collect()[0], f"{counted(counts.quarantined, 'row')} of {name} cannot be accepted"
        advice = option_advice(table, row["column"], row["value"], row["reason"])
        raise DataRefused(
            f"{found}, such as {row['value']!r}: {row['reason']}",
            kept=f"{found}{_example_lines(comparison, rejected)}: {row['reason']} ({row['rule']})",
            expected="rows that follow the schema (malformed: fail)",
            where=where,
            next_step="; or ".join(filter(None, [advice, "correct the source", "set `malformed: quarantine`"])),
        )


def _example_lines(comparison: Comparison, rows: DataFrame) -> str:
    return example_lines(comparison.context.table.spark, rows, comparison.context.config, comparison.snapshot)


def _hold_reason(comparison: Comparison, guard: Guard) -> str | None:
    if isinstance(comparison, FeedComparison):
        return comparison.hold_reason(guard)
    history, time = comparison.context.history, comparison.snapshot.time
    past = PastFigures.of_snapshot(history, time) if guard.learned else PastFigures()
    return hold_reason(comparison.counts, guard, comparison.count_before, past)


def hold_reason(
    counts: Counts, guard: Guard, count_live_rows: Callable[[], int], past: PastFigures | None = None
) -> str | None:
    """Return why a snapshot has to be approved, or None.

    Args:
        counts: The counts of the comparison.
        guard: The limits to apply.
        count_live_rows: Counts the rows before the snapshot; called only if the counts do not include all of them.
        past: The figures of the snapshots before it, for `learned`.
    """
    live_rows = once(lambda: _live_rows(counts, count_live_rows))
    reasons = [*_exceeded_limits(counts, guard, live_rows)]
    if guard.learned and past is not None:
        reasons += past.unusual_figures(
            {name: getattr(counts, name) for name in FIGURES} | {"deleted": counts.lost}, live_rows
        )
    return "; ".join(reasons) or None


def _live_rows(counts: Counts, count_live_rows: Callable[[], int]) -> int:
    """Return the number of live rows before a snapshot."""
    if counts.live_rows is not None:  # of the snapshot's slices
        return counts.live_rows
    if counts.quarantined or counts.missing is not None:  # bronze may have rows that no count includes
        return count_live_rows()
    return counts.unchanged + counts.updated + counts.deleted


def _exceeded_limits(counts: Counts, guard: Guard, live_rows: Callable[[], int]) -> Iterator[str]:
    """Yield each limit of the guard that a snapshot exceeds."""
    accepted = counts.rows_read - counts.quarantined
    if accepted < guard.min_rows:
        yield f"{counted(accepted, 'row')} accepted, fewer than min_rows {guard.min_rows}"
    kind_lost = "missing" if counts.went_missing else "deleted"
    shares = (
        ("deleted", kind_lost, counts.lost, guard.max_deleted),
        ("updated", "updated", counts.updated, guard.max_updated),
        ("inserted", "inserted", counts.inserted, guard.max_inserted),
    )
    for name, kind, count, limit in shares:
        # Without rows before, nothing is a share of them: the first load inserts all of its rows.
        if limit is not None and count and (live := live_rows()) and is_more_than(count, limit, live):
            of_rows = f"{counted(count, 'row')} inserted beside {live}" if name == "inserted" else ""
            yield f"{of_rows or f'{count} of {live} rows {kind}'}, more than max_{name} {limit:g}"
    if counts.unreadable_keys and (counts.deleted or counts.went_missing or counts.fewer):
        unreadable, kinds = counted(counts.unreadable_keys, "row"), []
        kinds += [f"{counted(counts.deleted, 'row')} deleted"] if counts.deleted else []
        kinds += [f"{counted(counts.went_missing, 'row')} missing"] if counts.went_missing else []
        kinds += [f"{counted(counts.fewer, 'row')} with a lower count"] if counts.fewer else []
        yield f"{unreadable} whose key cannot be read, beside {' and '.join(kinds)}"
    if is_more_than(counts.quarantined, guard.max_quarantined, counts.rows_read):
        yield (
            f"{counts.quarantined} of {counts.rows_read} rows quarantined,"
            f" more than max_quarantined {guard.max_quarantined:g}"
        )
