"""Describes the last change of a table from its change set, in the driver, as `diff` shows it when nothing is new."""

from __future__ import annotations

from typing import Any

from lakehouse.ingest import IngestContext
from lakehouse.inspect.plain_value import plain_value
from lakehouse.lake.cdc import CHANGED_COLUMNS, DELETE, INSERT, UPDATE
from lakehouse.lake.duckdb_sql import quote
from lakehouse.lake.duckdb_views import Database, NeedsSparkError, open_database
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.storage.paths import snapshot_name

Document = dict[str, Any]

_CHANGES, _BEFORE = "change.rows", "before.rows"


def describe_last_change(context: IngestContext, samples: int) -> Document | None:
    """Return the content of the newest change set that changed rows: counts, changed columns and a few rows.

    Args:
        context: The table's ingest.
        samples: The number of rows of each kind.

    Returns:
        The snapshots `from` and `to`, `counts`, `columns` and `samples` as `diff` has them; None before the first
        snapshot. A part that retention dropped is empty; of a batch of a change feed, which
        has events instead of changed rows, all but the counts.
    """
    accepted = context.history.accepted
    changed = [entry for entry in accepted if entry.changed_rows]
    if not changed:
        return None
    entry = changed[-1]
    before = [each for each in accepted if (each.sequence or 0) < (entry.sequence or 0)]
    document: Document = {
        "from": snapshot_name(before[-1].snapshot_time) if before else None,
        "to": snapshot_name(entry.snapshot_time),
        "counts": entry.counts,
        "columns": {},
        "samples": {"inserted": [], "updated": [], "deleted": []},
    }
    if context.history.is_dropped(entry) or entry.kind == "feed":
        return document
    earlier = [each for each in context.history.entries_to_fold if (each.sequence or 0) < (entry.sequence or 0)]
    try:
        with open_database() as database:
            database.add_changes(_CHANGES, context.table, [entry])
            document["columns"] = _changed_columns(database)
            if samples:
                document["samples"] = _samples(database, context, entry, earlier, samples)
    except NeedsSparkError:  # it was written with other types than today's: the counts suffice
        pass
    return document


def _changed_columns(database: Database) -> dict[str, int]:
    names = f"SELECT unnest({CHANGED_COLUMNS}) AS name FROM {_CHANGES} WHERE _cdc_operation = '{UPDATE}'"
    rows = database.fetch(f"SELECT name, count(*) AS n FROM ({names}) GROUP BY name ORDER BY n DESC, name")
    return {row["name"]: row["n"] for row in rows}


def _samples(
    database: Database, context: IngestContext, entry: LedgerEntry, earlier: list[LedgerEntry], limit: int
) -> dict[str, list[Document]]:
    """Return the first rows of each kind of change by key; of an update, the changed columns before and after."""
    keys, names = context.config.keys, [*context.config.shown_columns]
    identity = context.config.identifying_columns
    order = ", ".join(map(quote, keys))

    def first_rows(operation: str, columns: list[str]) -> list[Document]:
        selected = f"SELECT {', '.join(map(quote, columns))} FROM {_CHANGES} WHERE _cdc_operation = '{operation}'"
        return database.fetch(f"{selected} ORDER BY {order} LIMIT {int(limit)}")

    updates = first_rows(UPDATE, [*dict.fromkeys([*names, *keys]), CHANGED_COLUMNS]) if entry.updated else []
    if updates:
        database.add_last_changes(_BEFORE, context.table, earlier)
    samples: dict[str, list[Document]] = {
        "inserted": [plain_value(row) for row in first_rows(INSERT, names)],
        "updated": [],
        "deleted": [plain_value(row) for row in first_rows(DELETE, names)],
    }
    for after in updates:
        same_key = " AND ".join(f"{quote(key)} IS NOT DISTINCT FROM $k{n}" for n, key in enumerate(keys))
        values = {f"k{n}": after[key] for n, key in enumerate(keys)}
        found = database.fetch(f"SELECT * FROM {_BEFORE} WHERE {same_key}", values)
        before = found[0] if found else dict.fromkeys(names)
        changed = {
            name: {"before": plain_value(before[name]), "after": plain_value(after[name])}
            for name in after[CHANGED_COLUMNS] or ()
        }
        samples["updated"].append({"key": {name: plain_value(after[name]) for name in identity}, "changed": changed})
    return samples
