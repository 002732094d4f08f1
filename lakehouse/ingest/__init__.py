"""Decides about landed snapshots and writes their change sets: landing -> raw and ledger.

Entry point: `ingest_table`; its steps are listed in `decide.py`. The files, in the order of the data:

    readers/       read landed files by the declared schema
    local/         reads and compares a snapshot in the driver, without Spark
    compare.py     reads a snapshot and compares it with the rows before it
    diff.py        the comparison itself: keys, verdicts and changed rows
    slices.py      the slices that a snapshot contains, and the keys of all others
    grace.py       the rows before a snapshot, and the grace of keys that it lacks
    guards.py      whether a snapshot can be accepted, or waits for approval
    shares.py      compares a number of rows with a share, as guards do
    rekeyed.py     rows that are back under another key
    renamed_columns.py   columns that are back under another name
    held.py        the message about one that waits
    decide.py      the decision, the writes, and the row of the ledger
    backlog.py     takes many snapshots in one pass
    approve.py     accepts a snapshot on request
    replay.py      decides again about the snapshots from a time on
    rebuild.py     writes the change sets again after the declared schema changed
    scratch.py     removes what a killed replay or rebuild left
    reset.py       deletes all decisions about a table, for a full refresh
    comparison.py  the result of comparing a snapshot
    context.py     the ingest of one table
"""

from lakehouse.ingest.approve import approve_snapshot
from lakehouse.ingest.compare import compare_snapshot, undelivered_columns
from lakehouse.ingest.comparison import Comparison
from lakehouse.ingest.context import IngestContext, IngestResult, StateRows
from lakehouse.ingest.decide import decide_snapshot, ingest_table, require_same_columns
from lakehouse.ingest.diff import quarantine_rows
from lakehouse.ingest.guards import apply_guards
from lakehouse.ingest.rebuild import Rebuild, rebuild_change_sets
from lakehouse.ingest.replay import replay
from lakehouse.ingest.reset import require_landed_events, reset_tables
from lakehouse.ingest.scratch import remove_scratch

__all__ = [
    "Comparison",
    "IngestContext",
    "IngestResult",
    "Rebuild",
    "StateRows",
    "apply_guards",
    "approve_snapshot",
    "compare_snapshot",
    "decide_snapshot",
    "ingest_table",
    "quarantine_rows",
    "rebuild_change_sets",
    "remove_scratch",
    "replay",
    "require_landed_events",
    "require_same_columns",
    "reset_tables",
    "undelivered_columns",
]
