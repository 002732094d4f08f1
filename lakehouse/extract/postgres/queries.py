"""A table of a PostgreSQL database: its columns, its rows counted, and queries that give it in parts."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from lakehouse.config import Table
from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError
from lakehouse.extract.postgres.types import CatalogColumn, ReadColumn

Connection = psycopg.Connection[Any]

MIN_PART_ROWS = 100_000  # rows: below that a further connection costs more than it saves
_TABLE_ALIAS = "_lakehouse_row"  # of a table; no column of it is called so
_ALIAS_IDENTIFIER = sql.Identifier(_TABLE_ALIAS)
_TYPES_WITHOUT_LENGTH = {"character": "bpchar", "bit": "varbit"}  # by the first names a value is cut to its first sign
_ROW_NUMBER = sql.Identifier("_lakehouse_number")


def read_columns(connection: Connection, table: str) -> list[CatalogColumn]:
    """The table's columns.

    Raises:
        ConfigError: there is no such table; with the name that is nearest.
    """
    (oid,) = fetch_one(
        connection, sql.SQL("SELECT to_regclass({})::oid").format(table_identifier(table).as_string(connection))
    )
    if oid is None:
        known = [name for names in connection.execute(_LIST_TABLES) for name in names]
        raise ConfigError(
            f"the database has no table {table}{did_you_mean(table, known)}",
            expected="the name of a table, or schema.name, in the database's own case",
            where=f"`file: {table}`",
            next_step="correct `file`",
        )
    return [CatalogColumn(*row) for row in connection.execute(sql.SQL(_LIST_COLUMNS).format(oid))]


def scan_table(connection: Connection, table: Table, chosen: list[ReadColumn]) -> tuple[int, list[ReadColumn], int]:
    """The table's rows, its columns as their values allow, and its rows with a null in a key."""
    keys = [sql.SQL("{} IS NULL").format(sql.Identifier(key)) for key in _key_columns(table, chosen)]
    keyless = sql.SQL(" OR ").join(keys) if keys else sql.SQL("false").format()
    asked = [sql.SQL("count(*)"), sql.SQL("count(*) FILTER (WHERE {})").format(keyless)]
    asked += [
        sql.SQL("coalesce(bool_or({}), false)").format(c.unsupported_condition)
        for c in chosen
        if c.unsupported_condition
    ]
    query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(asked), table_identifier(table.file))
    count, without_key, *odd = fetch_one(connection, query)
    is_odd = iter(odd)
    return count, [c.as_text() if c.unsupported_condition and next(is_odd) else c for c in chosen], without_key


# --- parts ------------------------------------------------------------------------------------------------------


def part_queries(
    connection: Connection, table: Table, columns: list[ReadColumn], count: int, rows_without_key: int, max_parts: int
) -> list[sql.Composed]:
    """What gives the table's rows in parts, by ranges of its keys; rows with a null in a key are a part of their own.

    Rows come in the order of their keys, those of one key in the order of their text: equal rows give equal files.
    """
    # Named in full: by its bare name, ORDER BY would take the text that is selected, and not the column.
    keys = [sql.Identifier(_TABLE_ALIAS, key) for key in _key_columns(table, columns)]
    listed = sql.SQL(", ").join(column.expression for column in columns)
    select = sql.SQL("SELECT {} FROM {} AS {}").format(listed, table_identifier(table.file), _ALIAS_IDENTIFIER)
    # Of the columns that are read and no others: the user may have no right to those.
    all_of_them = sql.SQL(", ").join(sql.Identifier(_TABLE_ALIAS, column.name) for column in columns)
    by_text = [*keys, sql.SQL('ROW({})::text COLLATE "C"').format(all_of_them)]
    order = sql.SQL(" ORDER BY {}")
    in_order = order.format(
        sql.SQL(", ").join(keys if keys and _has_unique_index(connection, table, columns) else by_text)
    )
    if not keys:
        return [select + in_order]
    row = sql.SQL("ROW({})").format(sql.SQL(", ").join(keys))
    whole = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(key) for key in keys)
    bounds = _bounds(connection, table, keys, whole, count - rows_without_key, max_parts)
    parts: list[sql.Composed] = []
    for lower, upper in zip([None, *bounds], [*bounds, None], strict=True):
        conditions = [whole]
        conditions += [sql.SQL("{} >= {}").format(row, lower)] if lower else []
        conditions += [sql.SQL("{} < {}").format(row, upper)] if upper else []
        parts.append(select + sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) + in_order)
    if rows_without_key:
        parts.append(select + sql.SQL(" WHERE NOT ({})").format(whole) + order.format(sql.SQL(", ").join(by_text)))
    return parts


def _bounds(
    connection: Connection, table: Table, keys: list[sql.Identifier], has_key: sql.Composed, rows: int, max_parts: int
) -> list[sql.Composed]:
    """The first keys of all parts but the first one."""
    parts = min(max_parts, -(-rows // MIN_PART_ROWS))
    if parts < 2:
        return []
    size = -(-rows // parts)
    texts = sql.SQL(", ").join(sql.SQL("{0}::text, pg_typeof({0})::text").format(key) for key in keys)
    numbered = "SELECT {keys}, row_number() OVER (ORDER BY {keys}) - 1 AS {n} FROM {table} AS {row} WHERE {whole}"
    query = f"SELECT {{texts}} FROM ({numbered}) AS {{row}} WHERE {{n}} > 0 AND {{n}} % {{size}} = 0 ORDER BY {{n}}"
    names = {
        "keys": sql.SQL(", ").join(keys),
        "n": _ROW_NUMBER,
        "table": table_identifier(table.file),
        "row": _ALIAS_IDENTIFIER,
    }
    first_keys = sql.SQL(query).format(texts=texts, whole=has_key, size=size, **names)
    found = []
    for row in connection.execute(first_keys):
        kinds = [sql.SQL(_TYPES_WITHOUT_LENGTH.get(kind, kind)) for kind in row[1::2]]
        values = [sql.SQL("{}::{}").format(text, kind) for text, kind in zip(row[::2], kinds, strict=True)]
        found.append(sql.SQL("ROW({})").format(sql.SQL(", ").join(values)))
    return found


def _key_columns(table: Table, columns: list[ReadColumn]) -> list[str]:
    """The keys as the database spells them; none if one of them is not there, which the snapshot is rejected for."""
    there = {column.name.lower(): column.name for column in columns}
    keys = [there.get(table.name_in_files(key).lower()) for key in table.keys]
    return [key for key in keys if key] if all(keys) else []


def _has_unique_index(connection: Connection, table: Table, columns: list[ReadColumn]) -> bool:
    """Whether the database itself sees to it that no two rows have one key."""
    name = table_identifier(table.file).as_string(connection)
    return bool(fetch_one(connection, sql.SQL(_HAS_UNIQUE_INDEX).format(name, _key_columns(table, columns)))[0])


def table_identifier(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split("."))


def fetch_one(connection: Connection, query: sql.Composed) -> tuple[Any, ...]:
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
