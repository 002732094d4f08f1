"""Keeps bronze equal to the ledger: the current rows of each table (scd 1), or their history (scd 2).

Entry point: `refresh` brings one table to the ledger's last accepted sequence. In order:

1. add columns that were declared since; done if bronze is at that sequence            apply.py
2. from `tuning.stream_from_bytes` on, a stream over the ledger starts the work          apply.py
3. read each pending change set and check that it is complete                           lakehouse/lake/change_sets.py
4. scd 1: merge it as it is; scd 2: compute the windows that it opens and closes        apply.py, scd2.py
5. if bronze is not where a change set began: fold all change sets and merge the rows that differ   fold.py

Of a table with `missing`, `missing_keys.py` does step 4; of one with a change feed, `apply_feed.py`.
`read.py` reads bronze for other packages: current rows, rows as of a time, and rows that bronze has to have.
"""

from lakehouse.bronze.apply import BronzeResult, apply_pending, is_current, is_rebuild_pending, refresh
from lakehouse.bronze.apply_feed import ComputedBatch
from lakehouse.bronze.fold import fold_to_live_rows, require_all_change_sets, require_values_fit
from lakehouse.bronze.missing_keys import MissingKeys, find_missing, find_missing_by_slice
from lakehouse.bronze.read import (
    STATE_FIELDS,
    current_rows,
    expected_rows,
    expected_state_rows,
    find_current_rows,
    rows_as_of,
    schema_mismatches,
    state_rows,
)
from lakehouse.bronze.scd2 import is_open_window, row_keys

__all__ = [
    "STATE_FIELDS",
    "BronzeResult",
    "ComputedBatch",
    "MissingKeys",
    "apply_pending",
    "current_rows",
    "expected_rows",
    "expected_state_rows",
    "find_current_rows",
    "find_missing",
    "find_missing_by_slice",
    "fold_to_live_rows",
    "is_current",
    "is_open_window",
    "is_rebuild_pending",
    "refresh",
    "require_all_change_sets",
    "require_values_fit",
    "row_keys",
    "rows_as_of",
    "schema_mismatches",
    "state_rows",
]
