"""A table of a PostgreSQL database: its columns, its rows counted, and queries that give it in parts."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from lakehouse.config import Table
from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError
from lakehouse.extract.postgres.types import Column, Found

Connection = psycopg.Connection[Any]

SMALLEST_PART = 100_000  # rows: below that a further connection costs more than it saves
_ALIAS = "_lakehouse_row"  # of a table; no column of it is called so
_ROW = sql.Identifier(_ALIAS)
_WITHOUT_LENGTH = {"character": "bpchar", "bit": "varbit"}  # by the first names a value is cut to its first sign
_NUMBER = sql.Identifier("_lakehouse_number")


def catalog(leader: Connection, table: str) -> list[Found]:
    """The table's columns.

    Raises:
        ConfigError: there is no such table; with the name that is nearest.
    """
    (oid,) = one(leader, sql.SQL("SELECT to_regclass({})::oid").format(identifier(table).as_string(leader)))
    if oid is None:
        known = [name for names in leader.execute(_TABLES) for name in names]
        raise ConfigError(
            f"the database has no table {table}{did_you_mean(table, known)}",
            expected="the name of a table, or schema.name, in the database's own case",
            where=f"`file: {table}`",
            next_step="correct `file`",
        )
    return [Found(*row) for row in leader.execute(sql.SQL(_COLUMNS).format(oid))]


def looked_at(leader: Connection, table: Table, chosen: list[Column]) -> tuple[int, list[Column], int]:
    """The table's rows, its columns as their values allow, and its rows with a null in a key."""
    keys = [sql.SQL("{} IS NULL").format(sql.Identifier(key)) for key in _keys(table, chosen)]
    keyless = sql.SQL(" OR ").join(keys) if keys else sql.SQL("false").format()
    asked = [sql.SQL("count(*)"), sql.SQL("count(*) FILTER (WHERE {})").format(keyless)]
    asked += [sql.SQL("coalesce(bool_or({}), false)").format(c.odd) for c in chosen if c.odd]
    query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(asked), identifier(table.file))
    count, without_key, *odd = one(leader, query)
    is_odd = iter(odd)
    return count, [c.as_text() if c.odd and next(is_odd) else c for c in chosen], without_key


# --- parts ------------------------------------------------------------------------------------------------------


def queries(
    leader: Connection, table: Table, chosen: list[Column], count: int, keyless: int, most: int
) -> list[sql.Composed]:
    """What gives the table's rows in parts, by ranges of its keys; rows with a null in a key are a part of their own.

    Rows come in the order of their keys, those of one key in the order of their text: equal rows give equal files.
    """
    # Named in full: by its bare name, ORDER BY would take the text that is selected, and not the column.
    keys = [sql.Identifier(_ALIAS, key) for key in _keys(table, chosen)]
    listed = sql.SQL(", ").join(column.expression for column in chosen)
    select = sql.SQL("SELECT {} FROM {} AS {}").format(listed, identifier(table.file), _ROW)
    # Of the columns that are read and no others: the user may have no right to those.
    all_of_them = sql.SQL(", ").join(sql.Identifier(_ALIAS, column.name) for column in chosen)
    by_text = [*keys, sql.SQL('ROW({})::text COLLATE "C"').format(all_of_them)]
    order = sql.SQL(" ORDER BY {}")
    in_order = order.format(sql.SQL(", ").join(keys if keys and _is_unique(leader, table, chosen) else by_text))
    if not keys:
        return [select + in_order]
    row = sql.SQL("ROW({})").format(sql.SQL(", ").join(keys))
    whole = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(key) for key in keys)
    bounds = _bounds(leader, table, keys, whole, count - keyless, most)
    parts: list[sql.Composed] = []
    for lower, upper in zip([None, *bounds], [*bounds, None], strict=True):
        conditions = [whole]
        conditions += [sql.SQL("{} >= {}").format(row, lower)] if lower else []
        conditions += [sql.SQL("{} < {}").format(row, upper)] if upper else []
        parts.append(select + sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) + in_order)
    if keyless:
        parts.append(select + sql.SQL(" WHERE NOT ({})").format(whole) + order.format(sql.SQL(", ").join(by_text)))
    return parts


def _bounds(
    leader: Connection, table: Table, keys: list[sql.Identifier], whole: sql.Composed, rows: int, most: int
) -> list[sql.Composed]:
    """The first keys of all parts but the first one."""
    parts = min(most, -(-rows // SMALLEST_PART))
    if parts < 2:
        return []
    size = -(-rows // parts)
    texts = sql.SQL(", ").join(sql.SQL("{0}::text, pg_typeof({0})::text").format(key) for key in keys)
    numbered = "SELECT {keys}, row_number() OVER (ORDER BY {keys}) - 1 AS {n} FROM {table} AS {row} WHERE {whole}"
    query = f"SELECT {{texts}} FROM ({numbered}) AS {{row}} WHERE {{n}} > 0 AND {{n}} % {{size}} = 0 ORDER BY {{n}}"
    names = {"keys": sql.SQL(", ").join(keys), "n": _NUMBER, "table": identifier(table.file), "row": _ROW}
    first_keys = sql.SQL(query).format(texts=texts, whole=whole, size=size, **names)
    found = []
    for row in leader.execute(first_keys):
        kinds = [sql.SQL(_WITHOUT_LENGTH.get(kind, kind)) for kind in row[1::2]]
        values = [sql.SQL("{}::{}").format(text, kind) for text, kind in zip(row[::2], kinds, strict=True)]
        found.append(sql.SQL("ROW({})").format(sql.SQL(", ").join(values)))
    return found


def _keys(table: Table, chosen: list[Column]) -> list[str]:
    """The keys as the database spells them; none if one of them is not there, which the snapshot is rejected for."""
    there = {column.name.lower(): column.name for column in chosen}
    keys = [there.get(table.name_in_files(key).lower()) for key in table.keys]
    return [key for key in keys if key] if all(keys) else []


def _is_unique(leader: Connection, table: Table, chosen: list[Column]) -> bool:
    """Whether the database itself sees to it that no two rows have one key."""
    name = identifier(table.file).as_string(leader)
    return bool(one(leader, sql.SQL(_UNIQUE).format(name, _keys(table, chosen)))[0])


def identifier(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split("."))


def one(connection: Connection, query: sql.Composed) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return tuple(row)


_TABLES = """
    SELECT relname, nspname || '.' || relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname NOT IN ('pg_catalog', 'information_schema')
"""
_COLUMNS = """
    SELECT a.attname, coalesce(e.typname, t.typname), a.atttypmod, e.oid IS NOT NULL
    FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    LEFT JOIN pg_type AS e ON e.oid = t.typelem AND t.typcategory = 'A'
    WHERE a.attrelid = {}::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_UNIQUE = """
    SELECT EXISTS (
        SELECT FROM pg_index AS i
        WHERE i.indrelid = to_regclass({}) AND i.indisunique AND i.indisvalid
        AND i.indpred IS NULL AND i.indexprs IS NULL AND (
            SELECT array_agg(a.attname::text) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
            JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts
        ) <@ {}::text[]
    )
"""
