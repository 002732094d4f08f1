"""Computes the net change of several change sets, so that bronze takes a backlog in few commits.

A key that several change sets change has the row of the last one. The action on bronze depends on the first one as
well: it is an insert if bronze did not have the key before, whatever came in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import duckdb
import pyarrow as pa
from pyspark.sql import types as T

from lakehouse.lake import change_sets, small_tables
from lakehouse.lake.cached_rows import CachedRows
from lakehouse.lake.duckdb_sql import quote
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.merge import ACTION
from lakehouse.lake.table_ref import TableRef


def groups(table: TableRef, pending: list[LedgerEntry], has_bronze: bool) -> Iterator[list[LedgerEntry]]:
    """Yield the change sets to apply in groups, in order: one commit for each.

    Args:
        table: The table.
        pending: The ledger rows of the change sets.
        has_bronze: Whether there is bronze; the first change set creates it alone.
    """
    least = table.tuning.backlog_snapshots
    keeps_missing = any(entry.keeps_missing for entry in pending)
    if table.config.feed or table.config.scd == 2 or keeps_missing or not 0 < least <= len(pending):
        yield from ([entry] for entry in pending)
        return
    group: list[LedgerEntry] = [] if has_bronze else pending[:1]
    total = table.tuning.driver_rows if group else 0
    for entry in pending[len(group) :]:
        if group and total + entry.changed_rows > table.tuning.driver_rows:
            yield group
            group, total = [], 0
        group, total = [*group, entry], total + entry.changed_rows
    yield group


def net_changes(table: TableRef, entries: list[LedgerEntry]) -> tuple[CachedRows, Counter[str]] | None:
    """Return the net change of change sets.

    Args:
        table: The table, whose bronze is where the first one begins.
        entries: Their ledger rows, in order.

    Returns:
        The last row of each changed key, with the action in `ACTION`, and the number of rows of each action; None if
        they have to be applied one by one, because a change set is incomplete or of other types.
    """
    fields = T.StructType([*table.schema, *change_sets.FIELDS[:-1]])
    if any(isinstance(table.schema[key].dataType, T.FloatType | T.DoubleType) for key in table.config.keys):
        return None  # zero has two forms
    parts = []
    for entry in entries:
        batches = change_sets.read_batches(table, entry)
        rows = batches.read_all() if batches is not None else None
        if rows is None or rows.num_rows != entry.changed_rows:
            return None
        parts.append(rows.select(fields.names))
    changes = pa.concat_tables(parts).combine_chunks()
    positions, actions = _last_of_each_key(changes, list(table.config.keys))
    net = changes.take(positions).append_column(ACTION, actions)
    columns = T.StructType([*fields, T.StructField(ACTION, T.StringType())])
    return CachedRows(small_tables.to_frame(table.spark, net, columns), net), Counter(actions.to_pylist())


def _last_of_each_key(changes: pa.Table, keys: list[str]) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return the position of the last change of each key that has a net change, and the action on bronze."""
    numbered = changes.select([*keys, "_cdc_operation", "_cdc_sequence"])
    numbered = numbered.append_column("_cdc_n", pa.array(range(changes.num_rows), pa.int64()))
    names = ", ".join(map(quote, keys))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("changes", numbered)
        found = connection.sql(
            "SELECT n, CASE WHEN last = 'D' THEN 'D' WHEN first = 'I' THEN 'I' ELSE 'U' END AS action FROM ("
            " SELECT max_by(_cdc_n, _cdc_sequence) AS n, min_by(_cdc_operation, _cdc_sequence) AS first,"
            f" max_by(_cdc_operation, _cdc_sequence) AS last FROM changes GROUP BY {names}"
            ") WHERE NOT (first = 'I' AND last = 'D') ORDER BY n"
        ).to_arrow_table()
    return found["n"], found["action"]
