"""A table in PostgreSQL made equal to what is staged, within the caller's transaction. No Spark here.

Nothing is dropped and nothing emptied: whoever reads the table sees it as it was until the transaction ends, and
whoever follows its log sees the rows that differ, and no others.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg.sql import Composed

from lakehouse.errors import ConfigError, DataRefused
from lakehouse.publish import catalog, statements
from lakehouse.publish.connection import Connection
from lakehouse.publish.statements import TargetTable

NULLS_NOT_DISTINCT_VERSION = 150000  # the version of the server that has it


def load_stage(connection: Connection, target: TargetTable, blocks: Iterable[str]) -> int:
    """Take lines of COPY into the stage, as they come; returns their number."""
    _execute(connection, statements.create_stage(target))
    with connection.cursor() as cursor:
        with cursor.copy(statements.copy_into_stage(target)) as copy:
            for block in blocks:
                copy.write(block)
        count = cursor.rowcount
    _execute(connection, statements.analyze_stage())
    return count


def apply_stage(connection: Connection, target: TargetTable, is_complete: bool) -> dict[str, int]:
    """Take over what is staged; returns the rows that were inserted, updated and deleted.

    Args:
        whole: all rows of the table are staged, so that what is not staged goes.

    Raises:
        ConfigError: a key has a NULL, and the server is too old to tell such keys apart.
    """
    staged = connection.execute(statements.select_null_patterns(target, of_stage=True)).fetchall()
    has_nulls = any(map(any, staged))
    if has_nulls and connection.info.server_version < NULLS_NOT_DISTINCT_VERSION:
        raise _null_keys_error(target)
    _create_or_extend(connection, target)
    counts = {"inserted": 0, "updated": 0, "deleted": _update_key_constraint(connection, target, has_nulls)}
    if is_complete:
        for pattern in connection.execute(statements.select_null_patterns(target, of_stage=False)).fetchall():
            counts["deleted"] += _execute(connection, statements.delete_absent(target, pattern))
    for pattern in staged:
        counts["deleted"] += 0 if is_complete else _execute(connection, statements.delete_marked(target, pattern))
        counts["updated"] += (
            _execute(connection, statements.update_changed(target, pattern)) if target.value_columns else 0
        )
        counts["inserted"] += _execute(connection, statements.insert_new(target, pattern))
    if is_complete:
        _execute(connection, statements.analyze_table(target))
    return counts


def has_different_key(connection: Connection, target: TargetTable) -> bool:
    """Whether the table's rows are told apart by other columns than those that it should have for it."""
    found = catalog.read_key_constraint(connection, target.table, target.key_constraint)
    return found is None or found[1] != target.keys


def check_columns(connection: Connection, target: TargetTable, source: str) -> None:
    """Refuse columns that are gone, or are of another type: for readers that is another table.

    Raises:
        ConfigError: with the statements that would make the table fit.
    """
    want = {column.name: column.type for column in target.columns}
    table = target.identifier.as_string(None)
    found, mend = [], []
    for name, kind in catalog.read_column_types(connection, target.table).items():
        quoted = statements.quote_identifier(name)
        if name not in want:
            found.append(f"{name} is gone")
            mend.append(f"ALTER TABLE {table} DROP COLUMN {quoted};")
        elif kind != want[name]:
            found.append(f"{name}: {kind} is now {want[name]}")
            mend.append(f"ALTER TABLE {table} ALTER COLUMN {quoted} TYPE {want[name]} USING {quoted}::{want[name]};")
    if found:
        raise ConfigError(
            f"the columns of {source} changed: {'; '.join(found)}",
            expected=f"those of {target.table} in PostgreSQL, which others read, or new ones added",
            where=str(target.table),
            next_step="\n".join(["once its readers know, in psql:", *mend, "and then the same command again"]),
        )


def check_unique_keys(connection: Connection, target: TargetTable, source: str) -> None:
    """Raises: DataRefused, where two staged rows have one key."""
    if doubled := connection.execute(statements.select_duplicate_keys(target)).fetchall():
        raise DataRefused(
            f"{source} has more than one row for a key, such as {', '.join(map(str, doubled))}",
            expected=f"one row for each {', '.join(target.keys)}",
            where=str(target.table),
            next_step="make the model's SQL, or its keys, tell them apart; the table is left as it was",
        )


def _create_or_extend(connection: Connection, target: TargetTable) -> None:
    """The table, with all its columns."""
    there = catalog.read_column_types(connection, target.table)
    if not there:
        _execute(connection, *statements.create_table(target))
    elif added := [column for column in target.columns if column.name not in there]:
        _execute(connection, *statements.add_columns(target, added))


def _update_key_constraint(connection: Connection, target: TargetTable, has_nulls: bool) -> int:
    """See to the constraint on the key; returns the rows that had to go, where the key is another one."""
    found, gone = catalog.read_key_constraint(connection, target.table, target.key_constraint), 0
    is_other = has_different_key(connection, target)
    if found and not is_other and not (has_nulls and found[0] == "p"):
        return 0
    if found:
        _execute(connection, *statements.drop_key_constraint(target, found[1]))
    if is_other:
        gone = _execute(connection, statements.delete_all(target))  # by another key, rows of before may be two of one
    _execute(connection, statements.add_key_constraint(target, has_nulls))
    return gone


def _null_keys_error(target: TargetTable) -> ConfigError:
    return ConfigError(
        f"keys of {target.table} have NULLs, and this PostgreSQL takes each NULL for another value",
        expected=f"PostgreSQL 15 or later, or keys without NULLs: {', '.join(target.keys)}",
        where=str(target.table),
        next_step="upgrade it, or put a value in their place in the model's SQL, such as coalesce(city, '-')",
    )


def _execute(connection: Connection, *queries: Composed) -> int:
    """Rows that they touched."""
    return sum(max(connection.execute(query).rowcount, 0) for query in queries)
