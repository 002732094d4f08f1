"""Names the columns, operations and commit keys of change data capture, as change sets and bronze have them."""

from __future__ import annotations

from lakehouse.config import FEED_SEQUENCE, Table

INSERT, UPDATE, DELETE, UNCHANGED = "I", "U", "D", "="
GOES_MISSING, IS_BACK = "M", "R"  # of tables with `missing`: a snapshot lacks the key; it has it again, and equal
CDC_COLUMNS = ["_cdc_operation", "_cdc_timestamp", "_cdc_sequence"]
MISSING_SINCE = "_cdc_missing_since"  # the time of the first snapshot without the key; null while the key is there
START_AT, END_AT = "__START_AT", "__END_AT"
_CDC_DDL = "_cdc_operation STRING, _cdc_timestamp TIMESTAMP, _cdc_sequence BIGINT"
# Of the ledger.
COUNT_COLUMNS = ("rows_read", "inserted", "updated", "deleted", "unchanged", "quarantined", "duplicates")
CHANGED_COLUMNS = "_cdc_changed"  # of a change set: the names of the columns that an update changes
# In the metadata of a commit that repaired bronze: the reason. The name since version 0.1, stored in commits.
REPAIR_REASON_KEY = "healed"
# In the metadata of bronze's commits: how often the ledger had numbered the table's change sets again.
REPLAYS_KEY = "replays"
# In the metadata of a commit that applied the net change of several change sets: their sequences.
SEQUENCES_KEY = "sequences"


def own_columns_ddl(table: Table) -> str:
    """Return the columns that bronze adds to those of a table, as DDL.

    Args:
        table: The table's configuration.
    """
    feed_sequence = f", {FEED_SEQUENCE} {table.sequence_type}" if table.feed else ""
    window = f", {START_AT} {table.sequence_type}, {END_AT} {table.sequence_type}" if table.scd == 2 else ""
    missing = f", {MISSING_SINCE} TIMESTAMP" if table.grace else ""
    return f"{_CDC_DDL}{missing}{feed_sequence}{window}"
