"""Builds and executes the queries for a table of PostgreSQL: its columns, its row count, and its rows in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from lakehouse.config import Table
from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError
from lakehouse.extract.postgres.types import CatalogColumn, ReadColumn

Connection = psycopg.Connection[Any]

MIN_PART_ROWS = 100_000  # for fewer rows, another connection costs more than it saves
_TABLE_ALIAS = "_lakehouse_row"  # no column of a table has this name
_ALIAS_IDENTIFIER = sql.Identifier(_TABLE_ALIAS)
_TYPES_WITHOUT_LENGTH = {"character": "bpchar", "bit": "varbit"}  # a cast to `character` keeps only one character
_ROW_NUMBER = sql.Identifier("_lakehouse_number")


@dataclass(frozen=True)
class TableScan:
    """The contents of a table at one instant.

    Attributes:
        table: The table's configuration.
        columns: How each column is read, given its values.
        count: The number of rows.
        count_without_key: The number of rows with a null in a key.
    """

    table: Table
    columns: list[ReadColumn]
    count: int
    count_without_key: int

    @property
    def keys(self) -> list[str]:
        """The keys in the database's spelling."""
        return _key_columns(self.table, self.columns)


def read_columns(connection: Connection, table: str) -> list[CatalogColumn]:
    """Return the columns of a table in the database's catalog.

    Args:
        connection: A connection to the database.
        table: The table's name, or schema.name.

    Raises:
        ConfigError: There is no such table. It suggests the nearest name.
    """
    (oid,) = fetch_one(
        connection, sql.SQL("SELECT to_regclass({})::oid").format(table_identifier(table).as_string(connection))
    )
    if oid is None:
        known = [name for names in connection.execute(_LIST_TABLES) for name in names]
        raise ConfigError(
            f"the database has no table {table}{did_you_mean(table, known)}",
            expected="the name of a table, or schema.name, with the database's upper and lower case",
            where=f"`file: {table}`",
            next_step="correct `file`",
        )
    return [CatalogColumn(*row) for row in connection.execute(sql.SQL(_LIST_COLUMNS).format(oid))]


def scan_table(connection: Connection, table: Table, columns: list[ReadColumn]) -> TableScan:
    """Count the rows of a table, and read the columns as text whose values their type cannot represent.

    Args:
        connection: A connection to the database.
        table: The table's configuration.
        columns: How the columns are read if their values allow it.
    """
    keys = [sql.SQL("{} IS NULL").format(sql.Identifier(key)) for key in _key_columns(table, columns)]
    has_no_key = sql.SQL(" OR ").join(keys) if keys else sql.SQL("false").format()
    figures = [sql.SQL("count(*)"), sql.SQL("count(*) FILTER (WHERE {})").format(has_no_key)]
    conditions = [column.unsupported_condition for column in columns if column.unsupported_condition]
    figures += [sql.SQL("coalesce(bool_or({}), false)").format(condition) for condition in conditions]
    query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(figures), table_identifier(table.file))
    count, count_without_key, *unsupported = fetch_one(connection, query)
    has_unsupported = iter(unsupported)
    columns = [c.as_text() if c.unsupported_condition and next(has_unsupported) else c for c in columns]
    return TableScan(table, columns, count, count_without_key)


def part_queries(connection: Connection, scan: TableScan, max_parts: int) -> list[sql.Composed]:
    """Return queries for the rows of a table in parts, by ranges of its keys; rows with a null in a key are one part.

    Rows are ordered by their keys, and rows with the same key by their text, so that equal rows give equal files.

    Args:
        connection: A connection to the database.
        scan: The contents of the table.
        max_parts: The largest number of parts, without that for rows with a null in a key.
    """
    # With the table's alias: by its bare name, ORDER BY would use the selected text instead of the column.
    keys = [sql.Identifier(_TABLE_ALIAS, key) for key in scan.keys]
    expressions = sql.SQL(", ").join(column.expression for column in scan.columns)
    select = sql.SQL("SELECT {} FROM {} AS {}").format(
        expressions, table_identifier(scan.table.file), _ALIAS_IDENTIFIER
    )
    # Only the columns that are read: the user may have no privilege for the others.
    all_columns = sql.SQL(", ").join(sql.Identifier(_TABLE_ALIAS, column.name) for column in scan.columns)
    keys_and_text = [*keys, sql.SQL('ROW({})::text COLLATE "C"').format(all_columns)]
    order_by = sql.SQL(" ORDER BY {}")
    is_unique = keys and _has_unique_index(connection, scan)
    in_order = order_by.format(sql.SQL(", ").join(keys if is_unique else keys_and_text))
    if not keys:
        return [select + in_order]
    row = sql.SQL("ROW({})").format(sql.SQL(", ").join(keys))
    has_key = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(key) for key in keys)
    bounds = _part_bounds(connection, scan, keys, has_key, max_parts)
    parts: list[sql.Composed] = []
    for lower, upper in zip([None, *bounds], [*bounds, None], strict=True):
        conditions = [has_key]
        conditions += [sql.SQL("{} >= {}").format(row, lower)] if lower else []
        conditions += [sql.SQL("{} < {}").format(row, upper)] if upper else []
        parts.append(select + sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) + in_order)
    if scan.count_without_key:
        by_text = order_by.format(sql.SQL(", ").join(keys_and_text))
        parts.append(select + sql.SQL(" WHERE NOT ({})").format(has_key) + by_text)
    return parts


def _part_bounds(
    connection: Connection, scan: TableScan, keys: list[sql.Identifier], has_key: sql.Composed, max_parts: int
) -> list[sql.Composed]:
    """Return the first key of each part except the first one."""
    rows = scan.count - scan.count_without_key
    parts = min(max_parts, -(-rows // MIN_PART_ROWS))
    if parts < 2:
        return []
    size = -(-rows // parts)
    texts = sql.SQL(", ").join(sql.SQL("{0}::text, pg_typeof({0})::text").format(key) for key in keys)
    numbered = "SELECT {keys}, row_number() OVER (ORDER BY {keys}) - 1 AS {n} FROM {table} AS {row} WHERE {has_key}"
    query = f"SELECT {{texts}} FROM ({numbered}) AS {{row}} WHERE {{n}} > 0 AND {{n}} % {{size}} = 0 ORDER BY {{n}}"
    names = {"keys": sql.SQL(", ").join(keys), "n": _ROW_NUMBER, "row": _ALIAS_IDENTIFIER}
    names |= {"table": table_identifier(scan.table.file)}
    bounds = []
    for row in connection.execute(sql.SQL(query).format(texts=texts, has_key=has_key, size=size, **names)):
        types = [sql.SQL(_TYPES_WITHOUT_LENGTH.get(name, name)) for name in row[1::2]]
        values = [sql.SQL("{}::{}").format(text, kind) for text, kind in zip(row[::2], types, strict=True)]
        bounds.append(sql.SQL("ROW({})").format(sql.SQL(", ").join(values)))
    return bounds


def _key_columns(table: Table, columns: list[ReadColumn]) -> list[str]:
    """Return the keys in the database's spelling; none if one is missing, for which the snapshot is rejected later."""
    spelling = {column.name.lower(): column.name for column in columns}
    keys = [spelling.get(table.name_in_files(key).lower()) for key in table.keys]
    return [key for key in keys if key] if all(keys) else []


def _has_unique_index(connection: Connection, scan: TableScan) -> bool:
    """Return whether the database itself ensures that no two rows have the same key."""
    name = table_identifier(scan.table.file).as_string(connection)
    return bool(fetch_one(connection, sql.SQL(_HAS_UNIQUE_INDEX).format(name, scan.keys))[0])


def table_identifier(table: str) -> sql.Identifier:
    """Return a table's name, or schema.name, quoted.

    Args:
        table: The name without quotes.
    """
    return sql.Identifier(*table.split("."))


def fetch_one(connection: Connection, query: sql.Composed) -> tuple[Any, ...]:
    """Return the only row of a query.

    Args:
        connection: A connection to the database.
        query: A query that returns one row.
    """
    row = connection.execute(query).fetchone()
    assert row is not None
    return tuple(row)


_LIST_TABLES = """
    SELECT relname, nspname || '.' || relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname NOT IN ('pg_catalog', 'information_schema')
"""
_LIST_COLUMNS = """
    SELECT a.attname, coalesce(e.typname, t.typname), a.atttypmod, e.oid IS NOT NULL
    FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    LEFT JOIN pg_type AS e ON e.oid = t.typelem AND t.typcategory = 'A'
    WHERE a.attrelid = {}::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_HAS_UNIQUE_INDEX = """
    SELECT EXISTS (
        SELECT FROM pg_index AS i
        WHERE i.indrelid = to_regclass({}) AND i.indisunique AND i.indisvalid
        AND i.indpred IS NULL AND i.indexprs IS NULL AND (
            SELECT array_agg(a.attname::text) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
            JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts
        ) <@ {}::text[]
    )
"""
