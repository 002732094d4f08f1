"""Removes the files and versions that `retention:` in pipeline.yml allows to remove: the stage `expire`.

Entry points, each for one table, that return the removals:

1. `expire_snapshots`      files of landed snapshots                                      expire.py
2. `compact_change_sets`   change sets, after a base state has taken their place          compact.py
3. `vacuum_table`          files that no recent version of a Delta table needs            expire.py

A run calls them if `is_due`, and then `record_done`.
"""

from lakehouse.retention.compact import compact_change_sets
from lakehouse.retention.expire import (
    RetentionLimit,
    RetentionResult,
    expire_snapshots,
    expired_snapshots,
    is_due,
    pending_readers,
    record_done,
    vacuum_table,
)

__all__ = [
    "RetentionLimit",
    "RetentionResult",
    "compact_change_sets",
    "expire_snapshots",
    "expired_snapshots",
    "is_due",
    "pending_readers",
    "record_done",
    "vacuum_table",
]
