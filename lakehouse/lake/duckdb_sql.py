"""Writes names and values as DuckDB's SQL spells them, and opens databases for rows of the lake."""

from __future__ import annotations

from collections.abc import Iterable
from glob import escape
from pathlib import Path

import duckdb

_MIN_MEMORY, _MAX_MEMORY = 1_200_000_000, 2_000_000_000
WIDE = 200
"""From this number of columns on, queries with an expression for each column are not optimized."""


def literal(value: str) -> str:
    """Return a text as SQL spells it."""
    return "'" + value.replace("'", "''") + "'"


def quote(name: str) -> str:
    """Return a name as SQL spells it."""
    return '"' + name.replace('"', '""') + '"'


def any_sql(conditions: Iterable[str]) -> str:
    """Return the SQL for "any of these is true", as a balanced tree: a chain of a thousand is too deep for DuckDB."""
    parts = [f"({condition})" for condition in conditions] or ["false"]
    while len(parts) > 1:
        parts = [f"({' OR '.join(parts[i : i + 8])})" for i in range(0, len(parts), 8)]
    return parts[0]


def view_name(relation: str) -> str:
    """Return the name of a view that has the name of a table or model, such as `silver.items`."""
    layer, _, short = relation.partition(".")
    return f"{quote(layer)}.{quote(short)}"


def parquet(files: Iterable[Path], *options: str) -> str:
    """Return the SQL for the rows of Parquet files, by the names of their columns.

    DuckDB would take a path for a pattern, and parts of it such as `day=1` for columns.

    Args:
        files: The files.
        options: Further arguments of `read_parquet`.
    """
    paths = ", ".join(literal(escape(str(file))) for file in files)
    return f"read_parquet([{paths}], {', '.join(['union_by_name = true', 'hive_partitioning = false', *options])})"


def connect(spilled: Path, data_bytes: int) -> duckdb.DuckDBPyConnection:
    """Return a new database in memory, which writes data beyond a limit to disk.

    Args:
        spilled: The folder for that.
        data_bytes: The size of the data that it will hold; more is allowed for more.
    """
    limit = min(max(2 * data_bytes, _MIN_MEMORY), _MAX_MEMORY)
    return duckdb.connect(config={"memory_limit": f"{limit}B", "temp_directory": str(spilled)})


def enable_optimizer(connection: duckdb.DuckDBPyConnection, enabled: bool) -> None:
    """Turn DuckDB's optimizer on or off.

    Its time grows with the square of the columns, and it has nothing to optimize in an expression for each column.

    Args:
        connection: The database.
        enabled: Whether to turn it on.
    """
    connection.execute(f"PRAGMA {'enable' if enabled else 'disable'}_optimizer")
