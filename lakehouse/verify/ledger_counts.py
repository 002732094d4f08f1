"""Checks the half of I5 that needs no Delta log: the ledger's counts, among themselves and against the change sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lakehouse.lake.cdc import GOES_MISSING, IS_BACK
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.text import counted
from lakehouse.verify.check import Check, Claim, format_ranges, is_gone
from lakehouse.verify.checked_table import COUNT_BY_OPERATION, CheckedTable
from lakehouse.verify.feed import feed_count_checks

_STATE = "rows"  # in place of an operation, for the state that retention wrote in place of change sets
_MARKS = "M or R"  # the rows of keys that go missing or are back, which the ledger counts together
_MAX_FAULTS = 5

Counts = dict[tuple[int, str], int]  # rows by sequence and operation


def count_checks(table: CheckedTable) -> Iterator[Check]:
    """Check that the counts of each ledger entry add up, and that the change sets have as many rows."""
    if table.config.feed:
        yield from feed_count_checks(table)
        return
    claim, faults = Claim("I5", "the ledger's counts add up", table.name), []
    for entry in table.accepted:
        parts = [entry.inserted, entry.updated, entry.unchanged, entry.quarantined, entry.duplicates]
        total = sum(part or 0 for part in parts)
        if total != entry.rows_read:
            faults.append(f"sequence {entry.sequence}: {entry.rows_read} rows read, {total} accounted for")
    row_count = sum(entry.rows_read or 0 for entry in table.accepted)
    details = f"{counted(row_count, 'row')} read in sequences {_sequence_ranges(table.accepted)}"
    yield claim.fails("; ".join(faults[:_MAX_FAULTS])) if faults else claim.holds(details)
    yield _check_change_sets(Claim("I5", "change sets = the ledger", table.name), table)
    if dropped := [entry for entry in table.accepted if table.history.is_dropped(entry)]:
        cause = "a rebuild replaced" if table.history.rebuild_start else "retention dropped"
        reason = f"{cause} those of sequences {_sequence_ranges(dropped)}"
        yield Claim("I5", "older change sets = the ledger", table.name).not_checkable(reason)


def _check_change_sets(claim: Claim, table: CheckedTable) -> Check:
    try:
        grouped = table.read_change_sets().groupBy("_cdc_sequence", "_cdc_operation").count()
        actual: Counts = Counter()
        for row in grouped.collect():
            operation = _MARKS if row._cdc_operation in (GOES_MISSING, IS_BACK) else row._cdc_operation
            actual[row._cdc_sequence, operation] += row["count"]
    except Exception as error:
        if is_gone(error):
            return claim.not_checkable("change sets no longer exist")
        raise
    expected, details = _expected_counts(table), ""
    if base := table.history.base_state:
        # Each of its rows has the sequence and operation of the change set that it came from.
        row_count = sum(actual.pop(key) for key in list(actual) if key[0] <= (base.sequence or 0))
        actual[base.sequence or 0, _STATE] = row_count
        details = f" after the state of sequence {base.sequence}, {counted(row_count, 'row')}"
    faults = [
        f"sequence {sequence}: {actual.get((sequence, operation), 0)} {operation}, but"
        f" {expected.get((sequence, operation), 0)} in the ledger"
        for sequence, operation in sorted(actual.keys() | expected.keys(), key=str)
        if actual.get((sequence, operation), 0) != expected.get((sequence, operation), 0)
    ]
    if faults:
        return claim.fails("; ".join(faults[:_MAX_FAULTS]))
    sums = Counter[str]()
    for (_, operation), count in actual.items():
        sums[operation] += count
    shown = [*COUNT_BY_OPERATION, *([_MARKS] if _MARKS in sums else [])]
    totals = ", ".join(f"{sums[operation]:,} {operation}" for operation in shown)
    set_count = sum(not entry.is_base_state for entry in table.history.entries_to_fold)
    erased = sum(table.erased_counts[entry.path].total() for entry in table.history.entries_to_fold if entry.path)
    less = f", after {counted(erased, 'row was', 'rows were')} forgotten" if erased else ""
    return claim.holds(f"{totals} in {set_count} change sets{details}{less}")


def _expected_counts(table: CheckedTable) -> Counts:
    """Return the number of rows that the ledger states for each change set, less those erased from it since."""
    expected: Counts = {}
    for entry in table.history.entries_to_fold:
        sequence, erased = entry.sequence or 0, table.erased_counts[entry.path] if entry.path else Counter[str]()
        if entry.is_base_state:
            expected[sequence, _STATE] = entry.changed_rows - erased.total()
            continue
        for operation, name in COUNT_BY_OPERATION.items():
            expected[sequence, operation] = (getattr(entry, name) or 0) - erased[operation]
        if entry.keeps_missing:
            expected[sequence, _MARKS] = (entry.marks or 0) - erased[GOES_MISSING] - erased[IS_BACK]
    return expected


def _sequence_ranges(entries: list[LedgerEntry]) -> str:
    return format_ranges([entry.sequence for entry in entries if entry.sequence is not None])
