"""Reads the rows that the newest snapshots of a table changed, with their values before and after each change.

They are read from the change sets with PyArrow, in batches. The value before an update is that of the newest older
change set with the key. Personal columns (`pii`) are masked, regardless of the protection of their values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T

from lakehouse.errors import LakehouseError
from lakehouse.inspect.json_rows import json_rows
from lakehouse.lake import change_sets, small_tables
from lakehouse.lake.cdc import CHANGED_COLUMNS, DELETE, INSERT, UPDATE
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.lake.table_ref import TableRef
from lakehouse.report.cubes import column_kind
from lakehouse.schema.pii import MASK
from lakehouse.storage.paths import utc_text_z

Document = dict[str, Any]
Key = tuple[Any, ...]

MAX_SNAPSHOTS, MAX_ROWS = 3, 10  # of a table; of each kind of change of a snapshot
_MAX_ROWS_SEARCHED = 5_000_000  # of older change sets, for the values before
_OPERATION = "_cdc_operation"
_KINDS = {UPDATE: "updated", INSERT: "inserted", DELETE: "deleted"}  # in the order of the page
_NUMBER, _IS_BEFORE = "_cdc_number", "_cdc_is_before"


@dataclass(frozen=True)
class _ShownRow:
    """A row of a change set, and, of an update, the row before it, if it was found."""

    entry: LedgerEntry
    row: pa.Table
    before: pa.Table | None = None

    @property
    def operation(self) -> str:
        """`I`, `U` or `D`."""
        return str(self.row.column(_OPERATION)[0].as_py())


def read_changed_rows(table: TableRef, history: LedgerHistory) -> Document | None:
    """Return the first changed rows of each of the newest snapshots that changed something, by key.

    Args:
        table: The table.
        history: Its ledger.

    Returns:
        The document of the table, with its newest snapshot first; None if there is no change set after the full
        load, as of a table with a change feed.
        `rows` of a snapshot is None if its change set cannot be read.
    """
    if table.config.feed:  # its batches have events instead of changed rows
        return None
    published = history.entries_to_fold
    cdc = [entry for entry in published if entry.kind != "full-load"]
    shown = [entry for entry in cdc if any(getattr(entry, name) for name in _KINDS.values())][-MAX_SNAPSHOTS:]
    if not shown:
        return None
    first_rows = {entry.sequence: _first_rows(table, entry) for entry in shown}
    rows = [
        _ShownRow(entry, found.slice(n, 1))
        for entry in shown
        if (found := first_rows[entry.sequence]) is not None
        for n in range(found.num_rows)
    ]
    documents = _documents(table, _with_rows_before(table, published, rows))
    kinds = {field.name: column_kind(field.dataType) for field in table.schema}
    return {
        "table": table.name,
        "masked": [name for name in kinds if name in table.config.pii],
        "kinds": kinds,
        "snapshots": [
            {
                "snapshot_time": utc_text_z(entry.snapshot_time),
                "sequence": entry.sequence,
                "counts": {name: getattr(entry, name) or 0 for name in _KINDS.values()},
                "rows": None
                if first_rows[entry.sequence] is None
                else [document for row, document in documents if row.entry is entry],
            }
            for entry in reversed(shown)
        ],
    }


def _first_rows(table: TableRef, entry: LedgerEntry) -> pa.Table | None:
    """Return the first rows of each kind of change by key, so that each report shows the same; None if unreadable."""
    order = [(name, "ascending") for name in table.config.keys]
    found = {operation: _schema(table).empty_table() for operation in _KINDS}
    try:
        for batch in _batches(table, entry):
            rows = pa.Table.from_batches([batch])
            for operation in _KINDS:
                of_kind = rows.filter(pc.equal(rows.column(_OPERATION), operation))
                if of_kind.num_rows:
                    together = pa.concat_tables([found[operation], of_kind])
                    found[operation] = together.take(pc.sort_indices(together, order)).slice(0, MAX_ROWS)
    except (LakehouseError, *small_tables.UNREADABLE_ERRORS):
        return None
    return pa.concat_tables(found.values())


def _batches(table: TableRef, entry: LedgerEntry) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a change set; a small one of other types than today's is read by Spark.

    Raises:
        ValueError: It is a large one of other types.
        LakehouseError: It cannot be read.
    """
    batches = change_sets.read_batches(table, entry)
    if batches is not None:
        yield from batches
        return
    if entry.changed_rows > table.tuning.driver_rows:
        raise ValueError("a large change set of other types")
    rows = change_sets.read_change_sets(table, [entry]).toArrow()
    selected: pa.Table = rows.select(_schema(table).names).cast(_schema(table))
    yield from selected.to_batches()


def _schema(table: TableRef) -> pa.Schema:
    return small_tables.arrow_schema(T.StructType([*table.schema, *change_sets.FIELDS]))


def _with_rows_before(table: TableRef, published: list[LedgerEntry], rows: list[_ShownRow]) -> list[_ShownRow]:
    """Add the row before each update, from the newest older change set with its key."""
    row_keys = _keys(table, pa.concat_tables([row.row for row in rows])) if rows else []
    waiting = {
        (row.entry.sequence or 0, key) for row, key in zip(rows, row_keys, strict=True) if row.operation == UPDATE
    }
    before: dict[tuple[int, Key], pa.Table] = {}
    searched = 0
    for entry in reversed(published):
        sequence = entry.sequence or 0
        keys = {key for of_update, key in waiting if of_update > sequence}
        searched += entry.changed_rows if keys else 0
        if not keys or searched > _MAX_ROWS_SEARCHED:
            continue
        for key, row in _find_rows(table, entry, keys):
            found = {each for each in waiting if each[1] == key and each[0] > sequence}
            before |= dict.fromkeys(found, row)
            waiting -= found
    return [
        _ShownRow(row.entry, row.row, before.get((row.entry.sequence or 0, key)))
        for row, key in zip(rows, row_keys, strict=True)
    ]


def _find_rows(table: TableRef, entry: LedgerEntry, keys: set[Key]) -> Iterator[tuple[Key, pa.Table]]:
    """Yield the rows of a change set with some keys; none if it cannot be read."""
    try:
        for batch in _batches(table, entry):
            rows = pa.Table.from_batches([batch])
            for n, name in enumerate(table.config.keys):
                values = pa.array([key[n] for key in keys], rows.schema.field(name).type)
                rows = rows.filter(pc.is_in(rows.column(name), value_set=values))
            for n, key in enumerate(_keys(table, rows)):
                if key in keys:
                    yield key, rows.slice(n, 1)
    except (LakehouseError, *small_tables.UNREADABLE_ERRORS):
        return


def _keys(table: TableRef, rows: pa.Table) -> list[Key]:
    columns = [rows.column(name).to_pylist() for name in table.config.keys]
    return list(zip(*columns, strict=True))


def _documents(table: TableRef, rows: list[_ShownRow]) -> list[tuple[_ShownRow, Document]]:
    """Return each row with its document of JSON values."""
    parts = [_numbered(_schema(table).empty_table(), 0, False)]
    for number, row in enumerate(rows):
        parts += [_numbered(row.row, number, False)]
        parts += [_numbered(row.before, number, True)] if row.before is not None else []
    fields = [T.StructField(_NUMBER, T.IntegerType()), T.StructField(_IS_BEFORE, T.BooleanType())]
    schema = T.StructType([*table.schema, *change_sets.FIELDS, *fields])
    values = {
        (row.pop(_NUMBER), row.pop(_IS_BEFORE)): _masked(table, row)
        for row in json_rows(small_tables.to_frame(table.spark, pa.concat_tables(parts), schema))
    }
    return [
        (row, _document(table, row.operation, values[number, False], values.get((number, True))))
        for number, row in enumerate(rows)
    ]


def _numbered(rows: pa.Table, number: int, is_before: bool) -> pa.Table:
    numbers, sides = pa.array([number] * len(rows), pa.int32()), pa.array([is_before] * len(rows), pa.bool_())
    return rows.append_column(_NUMBER, numbers).append_column(_IS_BEFORE, sides)


def _masked(table: TableRef, row: Document) -> Document:
    return {name: MASK if name in table.config.pii and value is not None else value for name, value in row.items()}


def _document(table: TableRef, operation: str, row: Document, before: Document | None) -> Document:
    """Return a row: its kind of change, its key, and the values before and after of the columns that changed."""
    names = [name for name in table.config.shown_columns if name not in table.config.keys]
    if operation == UPDATE:
        changed = set(row[CHANGED_COLUMNS] or ())
        names = [name for name in names if name in changed]
    sides = {INSERT: (None, row), DELETE: (row, None)}.get(operation, (before, row))
    of_before, of_after = (None if side is None else {name: side[name] for name in names} for side in sides)
    return {
        "change": _KINDS[operation],
        "key": {name: row[name] for name in table.config.identifying_columns},
        "before": of_before,
        "after": of_after,
    }
