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
from lakehouse.publish.statements import Target

NULLS_NOT_DISTINCT = 150000  # the version of the server that has it


def stage(connection: Connection, target: Target, blocks: Iterable[str]) -> int:
    """Take lines of COPY into the stage, as they come; returns their number."""
    _run(connection, statements.create_stage(target))
    with connection.cursor() as cursor:
        with cursor.copy(statements.copy(target)) as copy:
            for block in blocks:
                copy.write(block)
        count = cursor.rowcount
    _run(connection, statements.analyze_stage())
    return count


def make_equal(connection: Connection, target: Target, whole: bool) -> dict[str, int]:
    """Take over what is staged; returns the rows that were inserted, updated and deleted.

    Args:
        whole: all rows of the table are staged, so that what is not staged goes.

    Raises:
        ConfigError: a key has a NULL, and the server is too old to tell such keys apart.
    """
    staged = connection.execute(statements.patterns(target, of_stage=True)).fetchall()
    has_nulls = any(map(any, staged))
    if has_nulls and connection.info.server_version < NULLS_NOT_DISTINCT:
        raise _too_old(target)
    _shape(connection, target)
    counts = {"inserted": 0, "updated": 0, "deleted": _key(connection, target, has_nulls)}
    if whole:
        for pattern in connection.execute(statements.patterns(target, of_stage=False)).fetchall():
            counts["deleted"] += _run(connection, statements.delete_absent(target, pattern))
    for pattern in staged:
        counts["deleted"] += 0 if whole else _run(connection, statements.delete(target, pattern))
        counts["updated"] += _run(connection, statements.update(target, pattern)) if target.values else 0
        counts["inserted"] += _run(connection, statements.insert(target, pattern))
    if whole:
        _run(connection, statements.analyze(target))
    return counts


def has_other_key(connection: Connection, target: Target) -> bool:
    """Whether the table's rows are told apart by other columns than those that it should have for it."""
    found = catalog.key(connection, target.place, target.key_name)
    return found is None or found[1] != target.keys


def refuse_misfits(connection: Connection, target: Target, source: str) -> None:
    """Refuse columns that are gone, or are of another type: for readers that is another table.

    Raises:
        ConfigError: with the statements that would make the table fit.
    """
    want = {column.name: column.type for column in target.columns}
    table = target.identifier.as_string(None)
    found, mend = [], []
    for name, kind in catalog.columns(connection, target.place).items():
        quoted = statements.quoted(name)
        if name not in want:
            found.append(f"{name} is gone")
            mend.append(f"ALTER TABLE {table} DROP COLUMN {quoted};")
        elif kind != want[name]:
            found.append(f"{name}: {kind} is now {want[name]}")
            mend.append(f"ALTER TABLE {table} ALTER COLUMN {quoted} TYPE {want[name]} USING {quoted}::{want[name]};")
    if found:
        raise ConfigError(
            f"the columns of {source} changed: {'; '.join(found)}",
            expected=f"those of {target.place} in PostgreSQL, which others read, or new ones added",
            where=str(target.place),
            next_step="\n".join(["once its readers know, in psql:", *mend, "and then the same command again"]),
        )


def refuse_doubled(connection: Connection, target: Target, source: str) -> None:
    """Raises: DataRefused, where two staged rows have one key."""
    if doubled := connection.execute(statements.doubled(target)).fetchall():
        raise DataRefused(
            f"{source} has more than one row for a key, such as {', '.join(map(str, doubled))}",
            expected=f"one row for each {', '.join(target.keys)}",
            where=str(target.place),
            next_step="make the model's SQL, or its keys, tell them apart; the table is left as it was",
        )


def _shape(connection: Connection, target: Target) -> None:
    """The table, with all its columns."""
    there = catalog.columns(connection, target.place)
    if not there:
        _run(connection, *statements.create(target))
    elif added := [column for column in target.columns if column.name not in there]:
        _run(connection, *statements.add_columns(target, added))


def _key(connection: Connection, target: Target, has_nulls: bool) -> int:
    """See to the constraint on the key; returns the rows that had to go, where the key is another one."""
    found, gone = catalog.key(connection, target.place, target.key_name), 0
    is_other = has_other_key(connection, target)
    if found and not is_other and not (has_nulls and found[0] == "p"):
        return 0
    if found:
        _run(connection, *statements.drop_key(target, found[1]))
    if is_other:
        gone = _run(connection, statements.delete_all(target))  # by another key, rows of before may be two of one
    _run(connection, statements.add_key(target, has_nulls))
    return gone


def _too_old(target: Target) -> ConfigError:
    return ConfigError(
        f"keys of {target.place} have NULLs, and this PostgreSQL takes each NULL for another value",
        expected=f"PostgreSQL 15 or later, or keys without NULLs: {', '.join(target.keys)}",
        where=str(target.place),
        next_step="upgrade it, or put a value in their place in the model's SQL, such as coalesce(city, '-')",
    )


def _run(connection: Connection, *queries: Composed) -> int:
    """Rows that they touched."""
    return sum(max(connection.execute(query).rowcount, 0) for query in queries)
