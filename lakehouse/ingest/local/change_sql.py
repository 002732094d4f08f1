"""Writes the SQL of a comparison: the rows `r` of a snapshot with the values `v0`, and `b` of the state with `b0`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lakehouse.lake.cdc import DELETE, INSERT, UPDATE
from lakehouse.lake.duckdb_sql import any_sql, literal
from lakehouse.lake.grace import FROM_STATE


def differs_sql(columns: Iterable[int]) -> str:
    """Return the SQL for whether a value of these columns differs."""
    return any_sql(f"r.v{n} IS DISTINCT FROM b.b{n}" for n in columns)


def key_operation_sql() -> str:
    """Return the SQL for the operation of a key that differs."""
    return f"CASE WHEN r.n IS NULL THEN '{DELETE}' WHEN b.known IS NULL THEN '{INSERT}' ELSE '{UPDATE}' END"


def changed_value_sql(n: int) -> str:
    """Return the SQL for a value of a changed row: of a deleted one, it is that of the state."""
    return f"CASE WHEN op IN ({', '.join(map(literal, FROM_STATE))}) THEN b{n} ELSE v{n} END"


def changed_columns_sql(names: Mapping[int, str]) -> str:
    """Return the SQL for the names of the columns in which an updated row differs; null for others.

    Args:
        names: The names of the columns that are compared, by their positions.
    """
    differing = ", ".join(f"CASE WHEN {differs_sql([n])} THEN {literal(name)} END" for n, name in names.items())
    return f"CASE WHEN op = '{UPDATE}' THEN list_filter([{differing}]::VARCHAR[], lambda x: x IS NOT NULL) END"
