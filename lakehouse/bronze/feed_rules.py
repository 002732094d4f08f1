"""Defines the settings by which the events of a change feed become rows, as bronze records them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from lakehouse.config import Feed, Table
from lakehouse.schema.table_schema import stored_schema


def feed_of(table: Table) -> Feed:
    """Return the feed of a table that has one.

    Args:
        table: The table's configuration.
    """
    assert table.feed is not None
    return table.feed


def feed_rule(table: Table) -> str:
    """Return the settings by which events become rows; each commit of bronze records them.

    Args:
        table: The table's configuration.
    """
    feed = feed_of(table)
    settings = {
        **acceptance_rule(table),
        "delete_when": feed.delete_when,
        "ignore_null_updates": feed.ignore_null_updates,
        "tombstones": _seconds(feed.tombstones) if table.scd == 1 else None,
        "untracked": sorted(set(_values(table)) - set(tracked_columns(table))) if table.scd == 2 else [],
        "stored": sorted(stored_schema(table).names),
        "scd": table.scd,
    }
    return json.dumps(settings, sort_keys=True, ensure_ascii=False)


def acceptance_rule(table: Table) -> dict[str, Any]:
    """Return the settings by which events are accepted: if one changes, all batches have to be taken again.

    Args:
        table: The table's configuration.
    """
    feed = feed_of(table)
    return {
        "keys": sorted(table.key_paths),
        "sequence_by": feed.sequence_by,
        "truncate_when": feed.truncate_when,
        "latest_by": table.updated_at if table.duplicates == "latest" else None,
    }


def event_identity(table: Table) -> list[str]:
    """Return the columns by which two events are about the same: the key and the sequence.

    Args:
        table: The table's configuration.
    """
    return [*table.keys, *feed_of(table).sequence_by]


def tracked_columns(table: Table) -> list[str]:
    """Return the columns whose changes open a window of a history.

    Args:
        table: The table's configuration.
    """
    if table.history_for is not None:
        return [name for name in table.history_for if name not in table.keys]
    untracked = {*(table.history_except or ()), *table.ignore}
    return [name for name in _values(table) if name not in untracked]


def kept_on_null(table: Table) -> list[str]:
    """Return the columns whose value a null in an update keeps.

    Args:
        table: The table's configuration.
    """
    ignored = feed_of(table).ignore_null_updates
    return _values(table) if ignored is True else list(ignored or ())


def _values(table: Table) -> list[str]:
    return [name for name in stored_schema(table).names if name not in table.keys]


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds())
