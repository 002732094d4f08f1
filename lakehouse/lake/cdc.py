"""The columns and operations of change data capture."""

from __future__ import annotations

INSERT, UPDATE, DELETE, UNCHANGED = "I", "U", "D", "="


CDC_COLUMNS = ["_cdc_operation", "_cdc_timestamp", "_cdc_sequence"]


CHANGED_COLUMNS = "_cdc_changed"
