"""Compares rows in the driver's memory: which rows to insert, update and delete to make one table equal to another.

The same comparison as `merge.row_actions`, which Spark runs for rows that the driver does not have. DuckDB compares as
Spark's `<=>` does: null equals null, NaN equals NaN, and zero equals minus zero.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa
from pyspark.sql import types as T

from lakehouse.lake.duckdb_sql import quote

# Types whose values have one form, by which rows can be matched. Text with a collation has several.
_KEY_TYPES = (T.BooleanType, T.ByteType, T.ShortType, T.IntegerType, T.LongType, T.DecimalType, T.DateType)
_TIME_TYPES = (T.TimestampType, T.TimestampNTZType, T.BinaryType)
_VALUE_TYPES = (T.FloatType, T.DoubleType)


def can_compare(schema: T.StructType, keys: list[str]) -> bool:
    """Return whether the driver compares rows with these columns as Spark does.

    Args:
        schema: The columns.
        keys: The key columns.
    """
    of_key, of_value = (*_KEY_TYPES, *_TIME_TYPES), (*_KEY_TYPES, *_TIME_TYPES, *_VALUE_TYPES)
    return all(
        isinstance(field.dataType, of_key if field.name in keys else of_value) or _is_plain_text(field.dataType)
        for field in schema
    )


def _is_plain_text(data_type: T.DataType) -> bool:
    return data_type == T.StringType()


def row_actions(
    current: pa.Table, wanted: pa.Table, keys: list[str], action: str, affected: pa.Table | None = None
) -> pa.Table:
    """Return the actions that make `current` equal to `wanted`.

    Args:
        current: Rows with unique keys.
        wanted: Rows with unique keys and the same columns.
        keys: The key columns.
        action: The name of the column with the action.
        affected: Rows of some of the columns: only rows of `current` that match one of them are compared. None: all.

    Returns:
        The rows of `wanted` that differ, with I or U in the column `action`, and the keys of the rows that only
        `current` has, with D; the columns are `action` and those of `wanted`.
    """
    names = wanted.column_names
    same_key = " AND ".join(f"c.{quote(k)} IS NOT DISTINCT FROM w.{quote(k)}" for k in keys)
    differs = " OR ".join(f"c.{quote(v)} IS DISTINCT FROM w.{quote(v)}" for v in names if v not in keys) or "false"
    of_current = "SELECT * FROM current_rows"
    if affected is not None:
        is_affected = " AND ".join(f"a.{quote(n)} IS NOT DISTINCT FROM c.{quote(n)}" for n in affected.column_names)
        of_current = f"SELECT * FROM current_rows c WHERE EXISTS (SELECT 1 FROM affected_rows a WHERE {is_affected})"
    query = f"""
        SELECT CASE WHEN c._cdc_c IS NULL THEN 'I' WHEN w._cdc_w IS NULL THEN 'D' ELSE 'U' END, c._cdc_c, w._cdc_w
        FROM ({of_current}) c FULL JOIN wanted_rows w ON {same_key}
        WHERE c._cdc_c IS NULL OR w._cdc_w IS NULL OR {differs}
    """
    with duckdb.connect() as connection:
        connection.register("current_rows", _numbered(current.select(names), "_cdc_c"))
        connection.register("wanted_rows", _numbered(wanted, "_cdc_w"))
        if affected is not None:
            connection.register("affected_rows", affected)
        found = connection.execute(query).fetchall()
    written = [(kind, at) for kind, _, at in found if kind != "D"]
    deleted = [at for kind, at, _ in found if kind == "D"]
    changed = wanted.take(pa.array([at for _, at in written], pa.int64()))
    gone = current.select(keys).take(pa.array(deleted, pa.int64()))
    columns = [
        pa.concat_arrays(
            [
                *changed.column(name).chunks,
                *(
                    gone.column(name).chunks
                    if name in keys
                    else [pa.nulls(len(deleted), changed.schema.field(name).type)]
                ),
            ]
        )
        for name in names
    ]
    kinds = pa.array([kind for kind, _ in written] + ["D"] * len(deleted), pa.string())
    schema = pa.schema([pa.field(action, pa.string()), *(pa.field(f.name, f.type) for f in wanted.schema)])
    return pa.Table.from_arrays([kinds, *columns], schema=schema)


def _numbered(rows: pa.Table, column: str) -> pa.Table:
    return rows.append_column(column, pa.array(range(len(rows)), pa.int64()))
