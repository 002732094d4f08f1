"""Applies staged rows to a PostgreSQL table, within the caller's transaction. Runs no Spark job.

Nothing is dropped or emptied: readers see the old table until the transaction ends, and a reader of PostgreSQL's log
sees the rows that differ, and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import psycopg
from psycopg.sql import Composed

from lakehouse.errors import ConfigError, DataRefused
from lakehouse.publish import catalog, statements
from lakehouse.publish.connection import Connection, to_lakehouse_error
from lakehouse.publish.rejected_rows import SentLines, find_sent_row, find_staged_row
from lakehouse.publish.statements import TargetTable
from lakehouse.schema.mismatch import type_mismatches

NULLS_NOT_DISTINCT_VERSION = 150000  # the first server version with UNIQUE NULLS NOT DISTINCT


def load_stage(connection: Connection, target: TargetTable, blocks: Iterable[str]) -> int:
    """Create the stage and copy blocks of COPY lines into it as they arrive; return the number of lines.

    Raises:
        DataRefused: PostgreSQL does not accept a line. It names the key and the column.
    """
    _execute(connection, statements.create_stage(target))
    sent = SentLines(connection)
    try:
        with connection.transaction(), connection.cursor() as cursor:
            with cursor.copy(statements.copy_into_stage(target)) as copy:
                for block in blocks:
                    copy.write(block)
                    sent.add(block)
            count = cursor.rowcount
    except psycopg.Error as error:
        raise to_lakehouse_error(error, find_sent_row(connection, target, error, sent)) from None
    _execute(connection, statements.analyze_stage())
    return count


def apply_stage(connection: Connection, target: TargetTable, is_complete: bool) -> dict[str, int]:
    """Make the table equal to the staged rows; return the number of inserted, updated and deleted rows.

    Args:
        connection: A connection with an open transaction.
        target: The table as it should be.
        is_complete: The stage has all rows of the table, so rows that are not staged are deleted.

    Raises:
        ConfigError: A key has a NULL, and the server cannot compare such keys.
        DataRefused: PostgreSQL does not accept a row: its key is too large, or a constraint of others forbids it.
    """

    def apply() -> dict[str, int]:
        return _apply(connection, target, is_complete)

    try:
        with connection.transaction():
            return apply()
    except psycopg.Error as error:
        raise to_lakehouse_error(error, find_staged_row(connection, target, error, apply)) from None


def _apply(connection: Connection, target: TargetTable, is_complete: bool) -> dict[str, int]:
    patterns = connection.execute(statements.select_null_patterns(target, of_stage=True)).fetchall()
    has_nulls = any(map(any, patterns))
    if has_nulls and connection.info.server_version < NULLS_NOT_DISTINCT_VERSION:
        raise ConfigError(
            f"keys of {target.table} contain NULL, and this PostgreSQL treats every NULL as a different value",
            expected=f"PostgreSQL 15 or later, or keys without NULL: {', '.join(target.keys)}",
            where=str(target.table),
            next_step="upgrade PostgreSQL, or replace NULL in the model's SQL, for example by coalesce(city, '-')",
        )
    _create_or_extend(connection, target)
    counts = {"inserted": 0, "updated": 0, "deleted": _update_key_constraint(connection, target, has_nulls)}
    if is_complete:
        for pattern in connection.execute(statements.select_null_patterns(target, of_stage=False)).fetchall():
            counts["deleted"] += _execute(connection, statements.delete_absent(target, pattern))
    for pattern in patterns:
        if not is_complete:
            counts["deleted"] += _execute(connection, statements.delete_marked(target, pattern))
        if target.value_columns:
            counts["updated"] += _execute(connection, statements.update_changed(target, pattern))
        counts["inserted"] += _execute(connection, statements.insert_new(target, pattern))
    if is_complete:
        _execute(connection, statements.analyze_table(target))
    return counts


def has_different_key(connection: Connection, target: TargetTable) -> bool:
    """Return whether the table has no key constraint, or one on other columns."""
    constraint = catalog.read_key_constraint(connection, target.table, target.key_constraint)
    return constraint is None or constraint[1] != target.keys


def check_columns(connection: Connection, target: TargetTable, source: str) -> None:
    """Raise if the lake no longer has a column of the table, or has it with another type. New columns are allowed.

    Raises:
        ConfigError: With the statements that would change the table.
    """
    current = catalog.read_column_types(connection, target.table)
    if mismatches := type_mismatches(current, {column.name: column.type for column in target.columns}):
        raise ConfigError(
            f"the columns of {source} changed: {'; '.join(mismatches)}",
            expected=f"the columns of {target.table} in PostgreSQL, which others read, or additional ones",
            where=str(target.table),
            next_step="\n".join(
                ["when its readers are ready, in psql:", *alter_statements(target, current), "and then run it again"]
            ),
        )


def alter_statements(target: TargetTable, current: Mapping[str, str]) -> list[str]:
    """Return the statements that give a published table the columns that it should have; new ones are added anyway.

    A column that is gone, beside a new one of its type, was renamed, as far as anybody can tell: readers of the table
    keep its values, and the next publish compares every row. Several of one type are matched in their order.

    Args:
        target: The table as it should be.
        current: The types of the columns that it has.
    """
    types = {column.name: column.type for column in target.columns}
    added = [column for column in target.columns if column.name not in current]
    changes = []
    for name, current_type in current.items():
        same_type = [column for column in added if column.type == current_type]
        renamed = min(same_type, key=lambda column: column.name.lower() != name.lower(), default=None)
        column = statements.quote_identifier(name)
        if name in types:
            if types[name] != current_type:
                changes.append(f"ALTER COLUMN {column} TYPE {types[name]} USING {column}::{types[name]}")
        elif renamed:
            added.remove(renamed)
            changes.append(f"RENAME COLUMN {column} TO {statements.quote_identifier(renamed.name)}")
        else:
            changes.append(f"DROP COLUMN {column}")
    return [f"ALTER TABLE {target.identifier.as_string(None)} {change};" for change in changes]


def check_encoding(connection: Connection, target: TargetTable, source: str) -> None:
    """Raise if a name or a comment has a character that the encoding of the database has not.

    Raises:
        ConfigError: With these names.
    """
    encoding = connection.info.parameter_status("server_encoding")
    if encoding == "UTF8":
        return
    texts = {column.name: f"{column.name} {column.comment}" for column in target.columns}
    texts[str(target.table)] = f"{target.table} {target.comment}"
    if bad := [name for name, text in texts.items() if not _is_in_encoding(connection, text)]:
        raise ConfigError(
            f"the names or comments of {', '.join(bad)} have characters that {encoding} has not",
            expected=f"names and comments in {encoding}, the encoding of the database",
            where=source,
            next_step="use other names or comments in a model, or publish to a database in UTF8",
        )


def _is_in_encoding(connection: Connection, text: str) -> bool:
    try:
        with connection.transaction():
            connection.execute("SELECT %s::text", [text])
    except psycopg.DataError:
        return False
    return True


def check_unique_keys(connection: Connection, target: TargetTable, source: str) -> None:
    """Raise if two staged rows share a key.

    Raises:
        DataRefused: With a few of these keys.
    """
    if duplicates := connection.execute(statements.select_duplicate_keys(target)).fetchall():
        raise DataRefused(
            f"{source} has more than one row for a key, such as {', '.join(map(str, duplicates))}",
            kept=f"{source} has more than one row for a key",
            expected=f"one row for each {', '.join(target.keys)}",
            where=str(target.table),
            next_step="correct the model's SQL or its keys; the published table is unchanged",
        )


def _create_or_extend(connection: Connection, target: TargetTable) -> None:
    """Create the table, or add the columns that it lacks."""
    current = catalog.read_column_types(connection, target.table)
    if not current:
        _execute(connection, *statements.create_table(target))
    elif new_columns := [column for column in target.columns if column.name not in current]:
        _execute(connection, *statements.add_columns(target, new_columns))


def _update_key_constraint(connection: Connection, target: TargetTable, has_nulls: bool) -> int:
    """Create or replace the key constraint; return the number of rows that another key made it delete."""
    constraint = catalog.read_key_constraint(connection, target.table, target.key_constraint)
    is_different = constraint is None or constraint[1] != target.keys
    if constraint and not is_different and not (has_nulls and constraint[0] == "p"):
        return 0
    # Beside a primary key, somebody has chosen FULL; beside another constraint, the NULLs in its key needed it.
    keeps_full = (
        constraint is not None and constraint[0] == "p" and catalog.has_full_replica_identity(connection, target.table)
    )
    _execute(connection, statements.set_replica_identity(target, is_full=True))
    if constraint:
        _execute(connection, *statements.drop_key_constraint(target, constraint[1]))
    # The old rows were unique by the old key; by the new one, two of them may share a key.
    deleted = _execute(connection, statements.delete_all(target)) if is_different else 0
    _execute(connection, statements.add_key_constraint(target, has_nulls))
    if not has_nulls and not keeps_full:
        _execute(connection, statements.set_replica_identity(target, is_full=False))
    return deleted


def _execute(connection: Connection, *queries: Composed) -> int:
    """Execute statements and return how many rows they changed."""
    return sum(max(connection.execute(query).rowcount, 0) for query in queries)
