"""Names the columns, operations and commit keys of change data capture, as change sets and bronze have them."""

from __future__ import annotations

INSERT, UPDATE, DELETE, UNCHANGED = "I", "U", "D", "="
CDC_COLUMNS = ["_cdc_operation", "_cdc_timestamp", "_cdc_sequence"]
START_AT, END_AT = "__START_AT", "__END_AT"
# The columns that bronze adds to those of the table, by `scd`.
_CDC_DDL = "_cdc_operation STRING, _cdc_timestamp TIMESTAMP, _cdc_sequence BIGINT"
OWN_COLUMNS_DDL = {1: _CDC_DDL, 2: f"{_CDC_DDL}, {START_AT} TIMESTAMP, {END_AT} TIMESTAMP"}
CHANGED_COLUMNS = "_cdc_changed"  # of a change set: the names of the columns that an update changes
# In the metadata of a commit that repaired bronze: the reason. The name since version 0.1, stored in commits.
REPAIR_REASON_KEY = "healed"
