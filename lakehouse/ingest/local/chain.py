"""Compares small snapshots that were read together, each with the one before it, by one statement for all of them.

DuckDB plans the statements of a comparison for longer than it executes them over a few hundred rows. What they find
here holds for a snapshot only if the table has exactly the rows of the one before: it was accepted, and so were all of
its rows. The caller knows that; in every other case the snapshot is compared by itself (compare.py). So it is if there
is a negative zero: a table keeps the form of zero that it had first, as both are equal.

numbered    the rows of `preloaded`, with the position of their snapshot
chained     the keys that differ from the snapshot before, as `found` has them, with the position of their snapshot
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.ingest.local.change_sql import changed_columns_sql, changed_value_sql, differs_sql, key_operation_sql

if TYPE_CHECKING:
    from lakehouse.ingest.local.load import LoadedSnapshot


@dataclass(frozen=True)
class ChainedChanges:
    """What a snapshot changes in the rows of the one before it.

    Attributes:
        position: The position of the snapshot.
        rows_before: The number of rows of the one before.
        by_operation: The number of changes by their operation.
        changes: The changed rows: the values, the operation, and the columns that differ.
    """

    position: int
    rows_before: int
    by_operation: Mapping[str, int]
    changes: pa.Table

    def change_set(self, sequence: int, time: datetime, schema: pa.Schema) -> pa.Table:
        """Return the rows of the change set.

        Args:
            sequence: The sequence that it gets.
            time: The time of the snapshot.
            schema: Its columns: the values, the operation, the time, the sequence, and the columns that differ.
        """
        *values, operation, changed = self.changes.columns
        constants = [pa.repeat(pa.scalar(each), self.changes.num_rows) for each in (time, sequence)]
        columns = [*values, operation, *constants, changed]
        arrays = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
        return pa.Table.from_arrays(arrays, schema=schema)


class Chain:
    """The comparisons of snapshots that were read together.

    Args:
        connection: The database, with the table `preloaded`.
        table: The table's configuration.
        schema: The columns that the lake stores.
        loaded: The snapshots, in order.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        schema: T.StructType,
        loaded: Sequence[LoadedSnapshot],
    ) -> None:
        self._connection, self._table, self._schema = connection, table, schema
        self._keys = [schema.names.index(key) for key in table.keys]
        self._loaded = loaded
        self._found: dict[int, ChainedChanges] = {}
        if is_possible(table, schema):
            self._compare()

    def find(self, loaded: LoadedSnapshot, time_before: datetime) -> ChainedChanges | None:
        """Return the changes of a snapshot since another one, or None if they are not known.

        Args:
            loaded: The snapshot, one of those that were read together.
            time_before: The time of the other one.
        """
        position = next(at for at, each in enumerate(self._loaded) if each is loaded)
        is_next = position > 0 and self._loaded[position - 1].snapshot.time == time_before
        return self._found.get(position) if is_next else None

    def fill_found(self, found: ChainedChanges) -> None:
        """Fill the table `found` with the keys of a snapshot that differ, as a comparison by itself does."""
        numbered = f"SELECT * EXCLUDE (s) REPLACE (n - {self._loaded[found.position].first} AS n)"
        rows = f"{numbered} FROM chained WHERE s = {found.position}"
        self._connection.execute(f"CREATE OR REPLACE TABLE found AS {rows}")

    def _compare(self) -> None:
        plain = self._plain_positions()
        chained = [position for position in plain if position - 1 in plain]
        if not chained:
            return
        wanted = ", ".join(map(str, chained))
        columns = range(len(self._schema))
        compared = [n for n in columns if n not in self._keys]
        same_key = " AND ".join(f"r.v{n} = b.b{n}" for n in self._keys)
        before = ", ".join(f"v{n} AS b{n}" for n in columns)
        self._connection.execute(
            f"CREATE OR REPLACE TABLE chained AS SELECT coalesce(r.s, b.s) AS s, r.n, {key_operation_sql()} AS op,"
            " b.* EXCLUDE (s, known)"
            f" FROM (SELECT * FROM numbered WHERE s IN ({wanted})) r"
            f" FULL JOIN (SELECT s + 1 AS s, {before}, true AS known FROM numbered WHERE s + 1 IN ({wanted})) b"
            f" ON r.s = b.s AND {same_key}"
            f" WHERE r.n IS NULL OR b.known IS NULL OR {differs_sql(compared)}"
        )
        values = ", ".join(f"{changed_value_sql(n)} AS v{n}" for n in columns)
        names = {n: self._schema.names[n] for n in compared}
        found = self._connection.sql(
            f"SELECT {values}, op, {changed_columns_sql(names)} AS changed, b.s"
            " FROM chained b LEFT JOIN numbered r ON r.n = b.n ORDER BY b.s"
        ).to_arrow_table()
        changes = found.drop_columns(["s"]).combine_chunks()
        of_position, operations = Counter(found["s"].to_pylist()), found["op"].to_pylist()
        start = 0
        for at in sorted(chained):
            count, rows_before = of_position[at], self._loaded[at - 1].row_count
            by_operation = Counter(operations[start : start + count])
            self._found[at] = ChainedChanges(at, rows_before, by_operation, changes.slice(start, count))
            start += count

    def _plain_positions(self) -> set[int]:
        """Return the positions of the snapshots of which every row is accepted, as it is, and has a key of its own."""
        starts = {at: each.first for at, each in enumerate(self._loaded) if each.row_count}
        numbers = pa.table({"s": pa.array(starts.keys(), pa.int32()), "first": pa.array(starts.values(), pa.int64())})
        self._connection.register("starts", numbers)
        self._connection.execute(
            "CREATE OR REPLACE TABLE numbered AS SELECT p.*, a.s FROM preloaded p ASOF JOIN starts a ON p.n >= a.first"
        )
        self._connection.unregister("starts")
        key = ", ".join(f"v{n}" for n in self._keys)
        floats = [n for n, field in enumerate(self._schema) if isinstance(field.dataType, T.FloatType | T.DoubleType)]
        has_other_zero = " OR ".join(f"coalesce(v{n} = 0 AND signbit(v{n}), false)" for n in floats) or "false"
        of_keys = f"SELECT s, count(*) AS total, bool_or({has_other_zero}) AS odd FROM numbered GROUP BY s, {key}"
        unique = f"SELECT s FROM ({of_keys}) GROUP BY s HAVING max(total) = 1 AND NOT bool_or(odd)"
        found = ((at, self._loaded[at]) for (at,) in self._connection.execute(unique).fetchall())
        return {at for at, each in found if not each.has_faults and not any(file.broken for file in each.files)}


def is_possible(table: Table, schema: T.StructType) -> bool:
    """Return whether a table has the rows of a snapshot after it was accepted: no column is ignored, nothing counted.

    Args:
        table: The table's configuration.
        schema: The columns that the lake stores.
    """
    is_compared = {*table.keys, *table.compared_columns} == {*schema.names}
    return is_compared and not (table.counts_rows or table.slice_by or table.grace)


def has_negative_zero(rows: pa.Table) -> bool:
    """Return whether a column of numbers has a negative zero."""
    columns = (column.to_numpy() for column in rows.columns if pa.types.is_floating(column.type))
    return any(bool((np.signbit(column) & (column == 0)).any()) for column in columns)
