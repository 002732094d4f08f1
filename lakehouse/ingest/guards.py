"""What keeps a snapshot from being accepted."""

from __future__ import annotations

from dataclasses import replace

from lakehouse.config import Guard
from lakehouse.errors import DataRefused
from lakehouse.ingest import diff
from lakehouse.ingest.context import Comparison, IngestContext
from lakehouse.lake import ledger
from lakehouse.lake.ledger import LedgerEntry


def apply_guards(base: LedgerEntry, comparison: Comparison, guard: Guard | None) -> LedgerEntry:
    """`base` with the counts, and with the guards' word or, where they have none, accepted."""
    numbers = {k: getattr(comparison.counts, k) for k in ledger.COUNT_COLUMNS}
    if guard and (reason := _hold_reason(comparison, guard)):
        return replace(base, status="held", reason=reason, **numbers)
    unnamed = comparison.parsed.unknown_columns
    return replace(base, status="accepted", reason=_unnamed(unnamed) if unnamed else None, **numbers)


def require_acceptable(context: IngestContext, comparison: Comparison) -> None:
    """Raises: DataRefused, where the snapshot cannot be taken, whatever the guards say."""
    name, table, counts, where = context.name, context.table, comparison.counts, str(comparison.snapshot.folder)
    if comparison.parsed.record_count is not None and comparison.parsed.record_count != counts.rows_read:
        raise DataRefused(
            f"{name} has {counts.rows_read} records by one reader and {comparison.parsed.record_count} by another",
            expected="a file that every reader of CSV takes alike",
            where=where,
            next_step="look for quotes that open or close in the middle of a field",
        )
    if counts.conflicts:
        keys = diff.example_keys(comparison.verdicts, diff.CONFLICT, table)
        raise DataRefused(
            f"{counts.conflicts} keys of {name} stand on rows of different content: {keys}",
            expected=f"one row a key (duplicates: {table.duplicates})",
            where=where,
            next_step="mend the source, or set `duplicates` to latest or quarantine",
        )
    if table.malformed == "fail" and counts.quarantined:
        row = diff.quarantine_rows(comparison.received_rows, comparison.verdicts, table).limit(1).collect()[0]
        raise DataRefused(
            f"{counts.quarantined} rows of {name} cannot be taken, such as {row['value']!r}: {row['reason']}",
            expected="rows as the schema says (malformed: fail)",
            where=where,
            next_step="mend the source, or set `malformed: quarantine`",
        )


def _hold_reason(comparison: Comparison, guard: Guard) -> str | None:
    """Why the snapshot has to be approved by somebody, or None."""
    reasons, counts = [], comparison.counts
    accepted = counts.rows_read - counts.quarantined
    if accepted < guard.min_rows:
        reasons.append(f"{accepted} rows accepted, fewer than min_rows {guard.min_rows}")
    if counts.deleted:
        live = counts.unchanged + counts.updated + counts.deleted
        if counts.quarantined:  # which may protect rows of bronze: those are in no count
            live = comparison.full_state.count()
        if counts.deleted > guard.max_deleted * live:
            reasons.append(f"{counts.deleted} of {live} rows deleted, more than max_deleted {guard.max_deleted:g}")
        if counts.unreadable_keys:
            reasons.append(
                f"{counts.unreadable_keys} rows whose key cannot be read, beside {counts.deleted} rows deleted"
            )
    if counts.quarantined > guard.max_quarantined * counts.rows_read:
        reasons.append(
            f"{counts.quarantined} of {counts.rows_read} rows quarantined,"
            f" more than max_quarantined {guard.max_quarantined:g}"
        )
    return "; ".join(reasons) or None


def _unnamed(names: tuple[str, ...]) -> str:
    return f"columns that the schema does not name are not taken: {', '.join(names)}"
