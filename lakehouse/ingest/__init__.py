"""Decides about landed snapshots and writes their change sets: landing -> raw and ledger.

Entry point: `ingest_table`; its steps are listed in `decide.py`. The files, in the order of the data:

    readers/       read landed files by the declared schema
    fast_path/     finds the changed lines of large CSV files, so that only these are read
    compare.py     reads a snapshot and compares it with the rows before it
    diff.py        the comparison itself: keys, verdicts and changed rows
    hashes.py      the hashes by which rows are compared
    guards.py      whether a snapshot can be accepted, or waits for approval
    decide.py      the decision, the writes, and the row of the ledger
    reset.py       deletes all decisions about a table, for a full refresh
    context.py     the ingest of one table, and what comparing a snapshot yields
"""

from lakehouse.ingest.compare import change_set, compare_snapshot, undelivered_columns
from lakehouse.ingest.context import Comparison, IngestContext, IngestResult
from lakehouse.ingest.decide import approve_snapshot, decide_snapshot, ingest_table, require_same_columns
from lakehouse.ingest.diff import quarantine_rows
from lakehouse.ingest.guards import apply_guards
from lakehouse.ingest.reset import reset_tables

__all__ = [
    "Comparison",
    "IngestContext",
    "IngestResult",
    "apply_guards",
    "approve_snapshot",
    "change_set",
    "compare_snapshot",
    "decide_snapshot",
    "ingest_table",
    "quarantine_rows",
    "require_same_columns",
    "reset_tables",
    "undelivered_columns",
]
