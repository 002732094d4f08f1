"""Composes the SQL of a published table: its definition, its stage, and the changes from the stage to the table.

Two keys are equal also if both are NULL. `IS NOT DISTINCT FROM` expresses this, but can use neither an index nor a
hash. So each statement handles one NULL pattern (which key columns are NULL; there are few) and compares the others
by `=`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from lakehouse.config.postgres_tables import STAGE_FLAG
from lakehouse.publish.catalog import PostgresTable
from lakehouse.publish.types import Column

MAX_KEY_CHARS = 60  # of a part of a key in a message
NullPattern = Sequence[bool]  # for each key column, whether it is NULL

_STAGE, IS_DELETED = "_lakehouse_stage", STAGE_FLAG
_TABLE_ALIAS, _STAGE_ALIAS = sql.Identifier("t"), sql.Identifier("s")


@dataclass(frozen=True)
class TargetTable:
    """A published table as it should be.

    Attributes:
        table: Its full name.
        columns: All columns, in order.
        keys: The names of the key columns.
        comment: The comment that PostgreSQL shows for the table.
    """

    table: PostgresTable
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    comment: str = ""

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted full name."""
        return self.table.identifier

    @property
    def key_constraint(self) -> str:
        """The name of the key constraint: its index needs a name that is unique in the schema."""
        return f"lakehouse_key_{hashlib.sha256(self.table.name.encode()).hexdigest()[:16]}"

    @property
    def value_columns(self) -> list[str]:
        """The names of the columns that are not in the key."""
        return [c.name for c in self.columns if c.name not in self.keys]


# --- the table --------------------------------------------------------------------------------------------------------


def create_table(target: TargetTable) -> list[sql.Composed]:
    """Create the table, empty and without a constraint."""
    columns = _comma_separated(_column_definition(c) for c in target.columns)
    return [
        sql.SQL("CREATE TABLE {} ({})").format(target.identifier, columns),
        sql.SQL("COMMENT ON TABLE {} IS {}").format(target.identifier, sql.Literal(target.comment)),
        *(_comment_on_column(target, column) for column in target.columns),
    ]


def add_columns(target: TargetTable, new_columns: Sequence[Column]) -> list[sql.Composed]:
    """Add columns, with their comments."""
    parts = _comma_separated(sql.SQL("ADD COLUMN {}").format(_column_definition(c)) for c in new_columns)
    add = sql.SQL("ALTER TABLE {} {}").format(target.identifier, parts)
    return [add, *(_comment_on_column(target, column) for column in new_columns)]


def _comment_on_column(target: TargetTable, column: Column) -> sql.Composed:
    name = sql.Identifier(target.table.schema, target.table.name, column.name)
    return sql.SQL("COMMENT ON COLUMN {} IS {}").format(name, sql.Literal(column.comment))


def add_key_constraint(target: TargetTable, has_nulls: bool) -> sql.Composed:
    """Add a primary key or, if a key has a NULL, a constraint that treats NULLs as equal (PostgreSQL 15 or later)."""
    kind = sql.SQL("UNIQUE NULLS NOT DISTINCT" if has_nulls else "PRIMARY KEY")
    statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} ({})")
    return statement.format(
        target.identifier, sql.Identifier(target.key_constraint), kind, _identifier_list(target.keys)
    )


def set_replica_identity(target: TargetTable, is_full: bool) -> sql.Composed:
    """Set the columns of a deleted row that the log has: the primary key, or the full row.

    Without a primary key it has to be the full row: a table in a publication accepts no other UPDATE and DELETE.
    """
    kind = sql.SQL("FULL" if is_full else "DEFAULT")
    return sql.SQL("ALTER TABLE {} REPLICA IDENTITY {}").format(target.identifier, kind)


def drop_key_constraint(target: TargetTable, keys: Sequence[str]) -> list[sql.Composed]:
    """Drop the key constraint, and the NOT NULL that a primary key on `keys` added."""
    drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(target.identifier, sql.Identifier(target.key_constraint))
    nullable = _comma_separated(sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(sql.Identifier(key)) for key in keys)
    return [drop, sql.SQL("ALTER TABLE {} {}").format(target.identifier, nullable)]


# --- the stage --------------------------------------------------------------------------------------------------------


def create_stage(target: TargetTable) -> sql.Composed:
    """Create the stage: a table that only this connection sees, dropped at the end of the transaction."""
    columns = _comma_separated(_column_definition(c) for c in (Column(IS_DELETED, "boolean"), *target.columns))
    return sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(sql.Identifier(_STAGE), columns)


def copy_into_stage(target: TargetTable) -> sql.Composed:
    """Read lines of COPY into the stage: the deletion flag, then all columns."""
    names = _identifier_list([IS_DELETED, *(c.name for c in target.columns)])
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(_STAGE), names)


def analyze_stage() -> sql.Composed:
    """Collect statistics: a temporary table has none, and without them joins are planned for a few rows."""
    return sql.SQL("ANALYZE {}").format(sql.Identifier(_STAGE))


def analyze_table(target: TargetTable) -> sql.Composed:
    """Collect statistics of the published table."""
    return sql.SQL("ANALYZE {}").format(target.identifier)


def select_null_patterns(target: TargetTable, of_stage: bool) -> sql.Composed:
    """Select the NULL patterns of the keys, each once."""
    table = sql.Identifier(_STAGE) if of_stage else target.identifier
    nulls = _comma_separated(sql.SQL("{} IS NULL").format(sql.Identifier(key)) for key in target.keys)
    return sql.SQL("SELECT DISTINCT {} FROM {}").format(nulls, table)


def select_duplicate_keys(target: TargetTable) -> sql.Composed:
    """Select a few keys that more than one staged row has."""
    statement = sql.SQL("SELECT {0} FROM {1} WHERE NOT {2} GROUP BY {0} HAVING count(*) > 1 LIMIT 3")
    return statement.format(_identifier_list(target.keys), sql.Identifier(_STAGE), sql.Identifier(IS_DELETED))


def select_largest_key(target: TargetTable) -> sql.Composed:
    """Select the beginning of each part of the largest staged key, and then the size of each."""
    sizes = [sql.SQL("coalesce(pg_column_size({}), 0)").format(sql.Identifier(key)) for key in target.keys]
    statement = sql.SQL("SELECT {}, {} FROM {} WHERE NOT {} ORDER BY {} DESC LIMIT 1")
    return statement.format(
        *(_key_starts(target), _comma_separated(sizes), sql.Identifier(_STAGE), sql.Identifier(IS_DELETED)),
        sql.SQL(" + ").join(sizes),
    )


def select_staged_rows(target: TargetTable) -> sql.Composed:
    """Select the place of each staged row that is no deletion, and the beginning of each part of its key."""
    statement = sql.SQL("SELECT ctid::text AS place, {} FROM {} WHERE NOT {} ORDER BY ctid LIMIT %s")
    return statement.format(_key_starts(target), sql.Identifier(_STAGE), sql.Identifier(IS_DELETED))


def delete_staged_rows_after() -> sql.Composed:
    """Delete the staged rows after a place that are no deletions."""
    statement = sql.SQL("DELETE FROM {} WHERE NOT {} AND ctid > %s::tid")
    return statement.format(sql.Identifier(_STAGE), sql.Identifier(IS_DELETED))


def _key_starts(target: TargetTable) -> sql.Composed:
    return _comma_separated(
        sql.SQL("left({}::text, {})").format(sql.Identifier(key), sql.Literal(MAX_KEY_CHARS)) for key in target.keys
    )


# --- the changes ------------------------------------------------------------------------------------------------------


def delete_all(target: TargetTable) -> sql.Composed:
    """Delete all rows one by one: TRUNCATE would empty the table for readers, and the log would have no deletes."""
    return sql.SQL("DELETE FROM {}").format(target.identifier)


def delete_absent(target: TargetTable, pattern: NullPattern) -> sql.Composed:
    """Delete the rows that are not in the stage."""
    statement = sql.SQL("DELETE FROM {} AS t WHERE {} AND NOT EXISTS (SELECT FROM {} AS s WHERE {})")
    in_pattern, match = _has_pattern(_TABLE_ALIAS, target.keys, pattern), _has_same_key(target.keys, pattern)
    return statement.format(target.identifier, in_pattern, sql.Identifier(_STAGE), match)


def delete_marked(target: TargetTable, pattern: NullPattern) -> sql.Composed:
    """Delete the rows whose staged line is a deletion."""
    statement = sql.SQL("DELETE FROM {} AS t USING {} AS s WHERE s.{} AND {}")
    match = _has_same_key(target.keys, pattern)
    return statement.format(target.identifier, sql.Identifier(_STAGE), sql.Identifier(IS_DELETED), match)


def update_changed(target: TargetTable, pattern: NullPattern) -> sql.Composed:
    """Update the rows whose staged values differ; equal rows are not written and do not reach PostgreSQL's log."""
    names = [sql.Identifier(name) for name in target.value_columns]
    assignments = _comma_separated(sql.SQL("{0} = s.{0}").format(name) for name in names)
    current = _comma_separated(_TABLE_ALIAS + sql.SQL(".") + name for name in names)
    staged = _comma_separated(sql.SQL("s.{}").format(name) for name in names)
    statement = sql.SQL("UPDATE {} AS t SET {} FROM {} AS s WHERE NOT s.{} AND {} AND ROW({}) IS DISTINCT FROM ROW({})")
    match, flag = _has_same_key(target.keys, pattern), sql.Identifier(IS_DELETED)
    return statement.format(target.identifier, assignments, sql.Identifier(_STAGE), flag, match, current, staged)


def insert_new(target: TargetTable, pattern: NullPattern) -> sql.Composed:
    """Insert the staged rows whose key the table does not have."""
    names = [c.name for c in target.columns]
    statement = sql.SQL(
        "INSERT INTO {0} ({1}) SELECT {1} FROM {2} AS s"
        " WHERE NOT s.{3} AND {4} AND NOT EXISTS (SELECT FROM {0} AS t WHERE {5})"
    )
    flag, in_pattern = sql.Identifier(IS_DELETED), _has_pattern(_STAGE_ALIAS, target.keys, pattern)
    match = _has_same_key(target.keys, pattern)
    return statement.format(target.identifier, _identifier_list(names), sql.Identifier(_STAGE), flag, in_pattern, match)


def _has_pattern(alias: sql.Identifier, keys: Sequence[str], pattern: NullPattern) -> sql.Composed:
    """Return the condition that exactly the key columns of the pattern are NULL."""
    tests = [
        sql.SQL("{}.{} IS NULL" if is_null else "{}.{} IS NOT NULL").format(alias, sql.Identifier(key))
        for key, is_null in zip(keys, pattern, strict=True)
    ]
    return sql.SQL(" AND ").join(tests)


def _has_same_key(keys: Sequence[str], pattern: NullPattern) -> sql.Composed:
    """Return the condition that a row of the table and a row of the stage have the same key, of this pattern."""
    tests = [
        sql.SQL("t.{0} IS NULL AND s.{0} IS NULL" if is_null else "t.{0} = s.{0}").format(sql.Identifier(key))
        for key, is_null in zip(keys, pattern, strict=True)
    ]
    return sql.SQL(" AND ").join(tests)


def quote_identifier(name: str) -> str:
    """Return a name as people type it in SQL."""
    return sql.Identifier(name).as_string(None)


def _column_definition(column: Column) -> sql.Composed:
    return sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type))


def _identifier_list(names: Iterable[str]) -> sql.Composed:
    return _comma_separated(sql.Identifier(name) for name in names)


def _comma_separated(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)
