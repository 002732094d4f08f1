"""The SQL of a published table, and of making it equal to what is staged; composed, never formatted.

Keys match where both are NULL, too. `IS NOT DISTINCT FROM` says that, and no index or hash serves it; so keys are taken
by which of their columns are NULL (a pattern, of which there are few), and in each pattern the others are compared by
`=`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from lakehouse.publish.catalog import PostgresTable
from lakehouse.publish.types import Column

NullPattern = Sequence[bool]  # for each column of the key, whether it is NULL

_STAGE, IS_DELETED = "_lakehouse_stage", "_lakehouse_gone"
_TABLE_ALIAS, _STAGE_ALIAS = sql.Identifier("t"), sql.Identifier("s")


@dataclass(frozen=True)
class TargetTable:
    """A table as it should be: where it is, its columns, those that are its key, and what is said of it there."""

    table: PostgresTable
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    comment: str = ""

    @property
    def identifier(self) -> sql.Identifier:
        return self.table.identifier

    @property
    def key_constraint(self) -> str:
        """Of the constraint on its key: an index's name has to be its own in the whole schema."""
        return f"lakehouse_key_{hashlib.sha256(self.table.name.encode()).hexdigest()[:16]}"

    @property
    def value_columns(self) -> list[str]:
        """The columns beside the key."""
        return [c.name for c in self.columns if c.name not in self.keys]


# --- the table --------------------------------------------------------------------------------------------------------


def create_table(target: TargetTable) -> list[sql.Composed]:
    """The table, empty and without a constraint. A delete tells its whole row to whoever follows the log."""
    columns = _comma_separated(_column_definition(c) for c in target.columns)
    return [
        sql.SQL("CREATE TABLE {} ({})").format(target.identifier, columns),
        sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(target.identifier),
        sql.SQL("COMMENT ON TABLE {} IS {}").format(target.identifier, sql.Literal(target.comment)),
        *(comment_on_column(target, column) for column in target.columns),
    ]


def add_columns(target: TargetTable, new_columns: Sequence[Column]) -> list[sql.Composed]:
    parts = _comma_separated(sql.SQL("ADD COLUMN {}").format(_column_definition(c)) for c in new_columns)
    altered = sql.SQL("ALTER TABLE {} {}").format(target.identifier, parts)
    return [altered, *(comment_on_column(target, column) for column in new_columns)]


def comment_on_column(target: TargetTable, column: Column) -> sql.Composed:
    name = sql.Identifier(target.table.schema, target.table.name, column.name)
    return sql.SQL("COMMENT ON COLUMN {} IS {}").format(name, sql.Literal(column.comment))


def add_key_constraint(target: TargetTable, has_nulls: bool) -> sql.Composed:
    """A primary key or, where a column of it is NULL somewhere, a constraint to which NULLs are equal (15 or later)."""
    kind = sql.SQL("UNIQUE NULLS NOT DISTINCT" if has_nulls else "PRIMARY KEY")
    statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} ({})")
    return statement.format(
        target.identifier, sql.Identifier(target.key_constraint), kind, _identifier_list(target.keys)
    )


def drop_key_constraint(target: TargetTable, keys: Sequence[str]) -> list[sql.Composed]:
    """Without the constraint, and with the NULLs that a primary key on `keys` forbade."""
    dropped = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
        target.identifier, sql.Identifier(target.key_constraint)
    )
    nullable = _comma_separated(sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(sql.Identifier(key)) for key in keys)
    return [dropped, sql.SQL("ALTER TABLE {} {}").format(target.identifier, nullable)]


# --- the stage --------------------------------------------------------------------------------------------------------


def create_stage(target: TargetTable) -> sql.Composed:
    """A table that nobody else sees, gone with the transaction."""
    columns = _comma_separated(_column_definition(c) for c in (Column(IS_DELETED, "boolean"), *target.columns))
    return sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(sql.Identifier(_STAGE), columns)


def copy_into_stage(target: TargetTable) -> sql.Composed:
    names = _identifier_list([IS_DELETED, *(c.name for c in target.columns)])
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(_STAGE), names)


def analyze_stage() -> sql.Composed:
    """A temporary table has no statistics, and without them a join is planned for a handful of rows."""
    return sql.SQL("ANALYZE {}").format(sql.Identifier(_STAGE))


def analyze_table(target: TargetTable) -> sql.Composed:
    return sql.SQL("ANALYZE {}").format(target.identifier)


def select_null_patterns(target: TargetTable, of_stage: bool) -> sql.Composed:
    """Which columns of the key are NULL, in each way that occurs."""
    table = sql.Identifier(_STAGE) if of_stage else target.identifier
    nulls = _comma_separated(sql.SQL("{} IS NULL").format(sql.Identifier(key)) for key in target.keys)
    return sql.SQL("SELECT DISTINCT {} FROM {}").format(nulls, table)


def select_duplicate_keys(target: TargetTable) -> sql.Composed:
    """Keys of more than one staged row, a few of them."""
    statement = sql.SQL("SELECT {0} FROM {1} WHERE NOT {2} GROUP BY {0} HAVING count(*) > 1 LIMIT 3")
    return statement.format(_identifier_list(target.keys), sql.Identifier(_STAGE), sql.Identifier(IS_DELETED))


# --- the difference ---------------------------------------------------------------------------------------------------


def delete_all(target: TargetTable) -> sql.Composed:
    """Every row, one by one: TRUNCATE would empty the table under its readers, and is no change to a log's follower."""
    return sql.SQL("DELETE FROM {}").format(target.identifier)


def delete_absent(target: TargetTable, pattern: NullPattern) -> sql.Composed:
    """The rows that are not staged."""
    statement = sql.SQL("DELETE FROM {} AS t WHERE {} AND NOT EXISTS (SELECT FROM {} AS s WHERE {})")
    shape, match = _has_pattern(_TABLE_ALIAS, target.keys, pattern), _has_same_key(target.keys, pattern)
    return statement.format(target.identifier, shape, sql.Identifier(_STAGE), match)


def delete_marked(target: TargetTable, pattern: NullPattern) -> sql.Composed:
    """The rows that are staged as gone."""
    statement = sql.SQL("DELETE FROM {} AS t USING {} AS s WHERE s.{} AND {}")
    match = _has_same_key(target.keys, pattern)
    return statement.format(target.identifier, sql.Identifier(_STAGE), sql.Identifier(IS_DELETED), match)


def update_changed(target: TargetTable, pattern: NullPattern) -> sql.Composed:
    """The rows that are staged with other values; equal ones stay as they are, unseen by whoever follows the log."""
    pairs = [
        (sql.Identifier(name), _TABLE_ALIAS + sql.SQL(".") + sql.Identifier(name)) for name in target.value_columns
    ]
    assigned = _comma_separated(sql.SQL("{0} = s.{0}").format(name) for name, _ in pairs)
    now = _comma_separated(there for _, there in pairs)
    then = _comma_separated(sql.SQL("s.{}").format(name) for name, _ in pairs)
    statement = sql.SQL("UPDATE {} AS t SET {} FROM {} AS s WHERE NOT s.{} AND {} AND ROW({}) IS DISTINCT FROM ROW({})")
    match, gone = _has_same_key(target.keys, pattern), sql.Identifier(IS_DELETED)
    return statement.format(target.identifier, assigned, sql.Identifier(_STAGE), gone, match, now, then)


def insert_new(target: TargetTable, pattern: NullPattern) -> sql.Composed:
    """The rows that are staged and not there."""
    names = [c.name for c in target.columns]
    statement = sql.SQL(
        "INSERT INTO {0} ({1}) SELECT {1} FROM {2} AS s"
        " WHERE NOT s.{3} AND {4} AND NOT EXISTS (SELECT FROM {0} AS t WHERE {5})"
    )
    gone, shape = sql.Identifier(IS_DELETED), _has_pattern(_STAGE_ALIAS, target.keys, pattern)
    match = _has_same_key(target.keys, pattern)
    return statement.format(target.identifier, _identifier_list(names), sql.Identifier(_STAGE), gone, shape, match)


def _has_pattern(alias: sql.Identifier, keys: Sequence[str], pattern: NullPattern) -> sql.Composed:
    """That the key has its NULLs where the pattern has them."""
    tests = [
        sql.SQL("{}.{} IS NULL" if is_null else "{}.{} IS NOT NULL").format(alias, sql.Identifier(key))
        for key, is_null in zip(keys, pattern, strict=True)
    ]
    return sql.SQL(" AND ").join(tests)


def _has_same_key(keys: Sequence[str], pattern: NullPattern) -> sql.Composed:
    """That two keys are the same one, of this pattern."""
    tests = [
        sql.SQL("t.{0} IS NULL AND s.{0} IS NULL" if is_null else "t.{0} = s.{0}").format(sql.Identifier(key))
        for key, is_null in zip(keys, pattern, strict=True)
    ]
    return sql.SQL(" AND ").join(tests)


def quote_identifier(name: str) -> str:
    """A name as people type it in SQL."""
    return sql.Identifier(name).as_string(None)


def _column_definition(column: Column) -> sql.Composed:
    return sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type))


def _identifier_list(names: Iterable[str]) -> sql.Composed:
    return _comma_separated(sql.Identifier(name) for name in names)


def _comma_separated(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)
