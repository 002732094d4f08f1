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

from lakehouse.publish.catalog import Place
from lakehouse.publish.types import Column

Pattern = Sequence[bool]  # for each column of the key, whether it is NULL

_STAGE, GONE = "_lakehouse_stage", "_lakehouse_gone"
_T, _S = sql.Identifier("t"), sql.Identifier("s")


@dataclass(frozen=True)
class Target:
    """A table as it should be: where it is, its columns, those that are its key, and what is said of it there."""

    place: Place
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    comment: str = ""

    @property
    def identifier(self) -> sql.Identifier:
        return self.place.identifier

    @property
    def key_name(self) -> str:
        """Of the constraint on its key: an index's name has to be its own in the whole schema."""
        return f"lakehouse_key_{hashlib.sha256(self.place.name.encode()).hexdigest()[:16]}"

    @property
    def values(self) -> list[str]:
        """The columns beside the key."""
        return [c.name for c in self.columns if c.name not in self.keys]


# --- the table --------------------------------------------------------------------------------------------------------


def create(target: Target) -> list[sql.Composed]:
    """The table, empty and without a constraint. A delete tells its whole row to whoever follows the log."""
    columns = _listed(_declared(c) for c in target.columns)
    return [
        sql.SQL("CREATE TABLE {} ({})").format(target.identifier, columns),
        sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(target.identifier),
        sql.SQL("COMMENT ON TABLE {} IS {}").format(target.identifier, sql.Literal(target.comment)),
        *(comment_on(target, column) for column in target.columns),
    ]


def add_columns(target: Target, added: Sequence[Column]) -> list[sql.Composed]:
    parts = _listed(sql.SQL("ADD COLUMN {}").format(_declared(c)) for c in added)
    altered = sql.SQL("ALTER TABLE {} {}").format(target.identifier, parts)
    return [altered, *(comment_on(target, column) for column in added)]


def comment_on(target: Target, column: Column) -> sql.Composed:
    name = sql.Identifier(target.place.schema, target.place.name, column.name)
    return sql.SQL("COMMENT ON COLUMN {} IS {}").format(name, sql.Literal(column.comment))


def add_key(target: Target, has_nulls: bool) -> sql.Composed:
    """A primary key or, where a column of it is NULL somewhere, a constraint to which NULLs are equal (15 or later)."""
    kind = sql.SQL("UNIQUE NULLS NOT DISTINCT" if has_nulls else "PRIMARY KEY")
    statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} ({})")
    return statement.format(target.identifier, sql.Identifier(target.key_name), kind, _names(target.keys))


def drop_key(target: Target, keys: Sequence[str]) -> list[sql.Composed]:
    """Without the constraint, and with the NULLs that a primary key on `keys` forbade."""
    dropped = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(target.identifier, sql.Identifier(target.key_name))
    nullable = _listed(sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(sql.Identifier(key)) for key in keys)
    return [dropped, sql.SQL("ALTER TABLE {} {}").format(target.identifier, nullable)]


# --- the stage --------------------------------------------------------------------------------------------------------


def create_stage(target: Target) -> sql.Composed:
    """A table that nobody else sees, gone with the transaction."""
    columns = _listed(_declared(c) for c in (Column(GONE, "boolean"), *target.columns))
    return sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(sql.Identifier(_STAGE), columns)


def copy(target: Target) -> sql.Composed:
    names = _names([GONE, *(c.name for c in target.columns)])
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(_STAGE), names)


def analyze_stage() -> sql.Composed:
    """A temporary table has no statistics, and without them a join is planned for a handful of rows."""
    return sql.SQL("ANALYZE {}").format(sql.Identifier(_STAGE))


def analyze(target: Target) -> sql.Composed:
    return sql.SQL("ANALYZE {}").format(target.identifier)


def patterns(target: Target, of_stage: bool) -> sql.Composed:
    """Which columns of the key are NULL, in each way that occurs."""
    table = sql.Identifier(_STAGE) if of_stage else target.identifier
    nulls = _listed(sql.SQL("{} IS NULL").format(sql.Identifier(key)) for key in target.keys)
    return sql.SQL("SELECT DISTINCT {} FROM {}").format(nulls, table)


def doubled(target: Target) -> sql.Composed:
    """Keys of more than one staged row, a few of them."""
    statement = sql.SQL("SELECT {0} FROM {1} WHERE NOT {2} GROUP BY {0} HAVING count(*) > 1 LIMIT 3")
    return statement.format(_names(target.keys), sql.Identifier(_STAGE), sql.Identifier(GONE))


# --- the difference ---------------------------------------------------------------------------------------------------


def delete_all(target: Target) -> sql.Composed:
    """Every row, one by one: TRUNCATE would empty the table under its readers, and is no change to a log's follower."""
    return sql.SQL("DELETE FROM {}").format(target.identifier)


def delete_absent(target: Target, pattern: Pattern) -> sql.Composed:
    """The rows that are not staged."""
    statement = sql.SQL("DELETE FROM {} AS t WHERE {} AND NOT EXISTS (SELECT FROM {} AS s WHERE {})")
    shape, match = _shape(_T, target.keys, pattern), _match(target.keys, pattern)
    return statement.format(target.identifier, shape, sql.Identifier(_STAGE), match)


def delete(target: Target, pattern: Pattern) -> sql.Composed:
    """The rows that are staged as gone."""
    statement = sql.SQL("DELETE FROM {} AS t USING {} AS s WHERE s.{} AND {}")
    match = _match(target.keys, pattern)
    return statement.format(target.identifier, sql.Identifier(_STAGE), sql.Identifier(GONE), match)


def update(target: Target, pattern: Pattern) -> sql.Composed:
    """The rows that are staged with other values; equal ones stay as they are, unseen by whoever follows the log."""
    pairs = [(sql.Identifier(name), _T + sql.SQL(".") + sql.Identifier(name)) for name in target.values]
    assigned = _listed(sql.SQL("{0} = s.{0}").format(name) for name, _ in pairs)
    now = _listed(there for _, there in pairs)
    then = _listed(sql.SQL("s.{}").format(name) for name, _ in pairs)
    statement = sql.SQL("UPDATE {} AS t SET {} FROM {} AS s WHERE NOT s.{} AND {} AND ROW({}) IS DISTINCT FROM ROW({})")
    match, gone = _match(target.keys, pattern), sql.Identifier(GONE)
    return statement.format(target.identifier, assigned, sql.Identifier(_STAGE), gone, match, now, then)


def insert(target: Target, pattern: Pattern) -> sql.Composed:
    """The rows that are staged and not there."""
    names = [c.name for c in target.columns]
    statement = sql.SQL(
        "INSERT INTO {0} ({1}) SELECT {1} FROM {2} AS s"
        " WHERE NOT s.{3} AND {4} AND NOT EXISTS (SELECT FROM {0} AS t WHERE {5})"
    )
    gone, shape = sql.Identifier(GONE), _shape(_S, target.keys, pattern)
    match = _match(target.keys, pattern)
    return statement.format(target.identifier, _names(names), sql.Identifier(_STAGE), gone, shape, match)


def _shape(alias: sql.Identifier, keys: Sequence[str], pattern: Pattern) -> sql.Composed:
    """That the key has its NULLs where the pattern has them."""
    tests = [
        sql.SQL("{}.{} IS NULL" if is_null else "{}.{} IS NOT NULL").format(alias, sql.Identifier(key))
        for key, is_null in zip(keys, pattern, strict=True)
    ]
    return sql.SQL(" AND ").join(tests)


def _match(keys: Sequence[str], pattern: Pattern) -> sql.Composed:
    """That two keys are the same one, of this pattern."""
    tests = [
        sql.SQL("t.{0} IS NULL AND s.{0} IS NULL" if is_null else "t.{0} = s.{0}").format(sql.Identifier(key))
        for key, is_null in zip(keys, pattern, strict=True)
    ]
    return sql.SQL(" AND ").join(tests)


def quoted(name: str) -> str:
    """A name as people type it in SQL."""
    return sql.Identifier(name).as_string(None)


def _declared(column: Column) -> sql.Composed:
    return sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type))


def _names(names: Iterable[str]) -> sql.Composed:
    return _listed(sql.Identifier(name) for name in names)


def _listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)
