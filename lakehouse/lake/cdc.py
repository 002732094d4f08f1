"""The columns and operations of change data capture."""

from __future__ import annotations

INSERT, UPDATE, DELETE, SAME = "I", "U", "D", "="


CDC_COLUMNS = ["_cdc_operation", "_cdc_timestamp", "_cdc_sequence"]


CHANGED = "_cdc_changed"
