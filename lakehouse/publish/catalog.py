"""Reads and writes the publish positions, reads the catalog, and locks tables in PostgreSQL. No Spark here.

The positions are in the table `lakehouse_publish`, in the first schema of the user's search_path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

from psycopg import errors, sql

from lakehouse.config.checks import PUBLISH_POSITION_TABLE
from lakehouse.errors import ConfigError, LakeBusy
from lakehouse.publish.connection import SETTING, Connection, connect

_LOCK_WAIT = "30s"
_SET_LOCK_TIMEOUT = f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'"
_TRANSACTION_SETTINGS = (
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL DateStyle = 'ISO'",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    _SET_LOCK_TIMEOUT,
)
# Without it, a server notices that a publisher was killed only after its current statement. From version 14 on.
_DEAD_CLIENT_CHECK = (140000, "SET LOCAL client_connection_check_interval = '2s'")


@dataclass(frozen=True)
class PublishPosition:
    """The version of a table of the lake that a published table is equal to.

    Attributes:
        pipeline: The pipeline's name.
        source: The table in the lake, such as `gold.churn`.
        lake_table_id: The Delta table's id; a rebuilt table has another one.
        version: The Delta version.
        commit_id: The id of that version's commit; in a restored copy of the lake the same version has another one.
    """

    pipeline: str
    source: str
    lake_table_id: str
    version: int
    commit_id: str | None


@dataclass(frozen=True)
class PublishState:
    """A table's full name, its publish position and the time of it; both None if it was never published to."""

    table: str
    position: PublishPosition | None
    published_at: datetime | None


@dataclass(frozen=True)
class PostgresTable:
    """A table's full name, and the table that has its publish position."""

    schema: str
    name: str
    position_table: sql.Identifier

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted full name."""
        return sql.Identifier(self.schema, self.name)


@contextmanager
def publish_transaction(connection: Connection, table: PostgresTable) -> Iterator[None]:
    """Open a transaction in which no other process publishes to this table.

    Raises:
        LakeBusy: Another process is publishing to it, and does not finish in time.
    """
    with connection.transaction():
        for setting in _TRANSACTION_SETTINGS:
            connection.execute(setting)
        if connection.info.server_version >= _DEAD_CLIENT_CHECK[0]:
            connection.execute(_DEAD_CLIENT_CHECK[1])
        _lock_name(connection, str(table))
        yield


def resolve_table(connection: Connection, table_name: str) -> PostgresTable:
    """Return the full name of a table.

    Args:
        connection: An open connection.
        table_name: The name, with or without its schema.

    Raises:
        ConfigError: The user has no schema that can be used.
    """
    default_schema = _fetch_one(connection, "SELECT current_schema()")[0]
    schema, _, name = table_name.rpartition(".")
    if not default_schema:
        raise ConfigError(
            "no schema of the user's search_path exists or may be used",
            expected="a schema in which tables can be created",
            where=SETTING,
            next_step="GRANT USAGE, CREATE ON SCHEMA public TO the user that publishes",
        )
    return PostgresTable(schema or default_schema, name, sql.Identifier(default_schema, PUBLISH_POSITION_TABLE))


# --- publish positions ------------------------------------------------------------------------------------------------


def read_position(connection: Connection, table: PostgresTable) -> PublishPosition | None:
    """Return the version that the table is equal to; None if it does not exist.

    Args:
        connection: An open connection.
        table: The published table.

    Raises:
        ConfigError: The table exists and was not created by publishing.
    """
    row = _read_position_row(connection, table)
    if not _relation_exists(connection, table.identifier):
        return None
    if row is None:
        raise ConfigError(
            f"the table {table} exists and was not made by publishing: {PUBLISH_POSITION_TABLE} has no row for it",
            expected="a table that only `lakehouse publish` writes",
            where=SETTING,
            next_step="publish under another name; or rename or drop that table, if nobody needs it",
        )
    return row[0]


def read_states(url: str, tables: Mapping[str, str]) -> dict[str, PublishState]:
    """Return the publish state of tables, read over one connection.

    Args:
        url: The address of the database.
        tables: By any name, the table in PostgreSQL, with or without its schema.

    Raises:
        LakehouseError: PostgreSQL cannot be read; see `connect`.
    """
    states = {}
    with connect(url) as connection:
        for name, table_name in tables.items():
            table = resolve_table(connection, table_name)
            row = _read_position_row(connection, table) if _relation_exists(connection, table.identifier) else None
            states[name] = PublishState(str(table), *(row or (None, None)))
    return states


def read_former_tables(url: str, pipeline: str, tables: Collection[str]) -> list[str]:
    """Return the tables that a pipeline published and does not publish any more: their rows stay as they were.

    Args:
        url: The address of the database.
        pipeline: The pipeline's name.
        tables: The tables that it publishes now, with or without their schemas.

    Raises:
        LakehouseError: PostgreSQL cannot be read; see `connect`.
    """
    with connect(url) as connection:
        present = {str(resolve_table(connection, table)) for table in tables}
        positions = resolve_table(connection, PUBLISH_POSITION_TABLE).identifier
        if not _relation_exists(connection, positions):
            return []
        query = sql.SQL("SELECT table_name FROM {} WHERE pipeline = %s ORDER BY table_name").format(positions)
        names = [str(name) for (name,) in connection.execute(query, [pipeline]).fetchall()]
        return [n for n in names if n not in present and _relation_exists(connection, sql.Identifier(*n.split(".", 1)))]


def check_source(position: PublishPosition | None, pipeline: str, source: str, table: PostgresTable) -> None:
    """Raise if the table follows another source than this one of this pipeline.

    Raises:
        ConfigError: With the source that it follows.
    """
    if position and (position.pipeline, position.source) != (pipeline, source):
        raise ConfigError(
            f"the table {table} follows {position.source} of the pipeline {position.pipeline}",
            expected=f"{source} of {pipeline}, or no such table",
            where=SETTING,
            next_step=f"publish under another name; or drop that table and its row in {PUBLISH_POSITION_TABLE}",
        )


def _read_position_row(connection: Connection, table: PostgresTable) -> tuple[PublishPosition, datetime] | None:
    if not _relation_exists(connection, table.position_table):
        return None
    query = sql.SQL(
        "SELECT pipeline, source, lake_table_id, version, commit_id, published_at FROM {} WHERE table_name = %s"
    )
    row = connection.execute(query.format(table.position_table), [str(table)]).fetchone()
    return (PublishPosition(*row[:-1]), row[-1]) if row else None


def write_position(connection: Connection, table: PostgresTable, position: PublishPosition) -> None:
    """Record the version that the table is equal to when this transaction is committed."""
    statement = sql.SQL(
        "INSERT INTO {} (table_name, pipeline, source, lake_table_id, version, commit_id, published_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, now()) ON CONFLICT (table_name) DO UPDATE SET pipeline = excluded.pipeline,"
        " source = excluded.source, lake_table_id = excluded.lake_table_id, version = excluded.version,"
        " commit_id = excluded.commit_id, published_at = excluded.published_at"
    )
    connection.execute(statement.format(table.position_table), [str(table), *astuple(position)])


def create_position_table(connection: Connection, table: PostgresTable) -> None:
    """Create the table of positions if it is missing; in a transaction of its own, so that its lock is short."""
    if _relation_exists(connection, table.position_table):
        return
    with connection.transaction():
        _lock_name(connection, PUBLISH_POSITION_TABLE)
        connection.execute(sql.SQL(_CREATE_POSITION_TABLE).format(table.position_table))


_CREATE_POSITION_TABLE = """
    CREATE TABLE IF NOT EXISTS {} (
        table_name text PRIMARY KEY, pipeline text NOT NULL, source text NOT NULL,
        lake_table_id text NOT NULL, version bigint NOT NULL, commit_id text, published_at timestamptz NOT NULL
    )
"""


# --- tables -----------------------------------------------------------------------------------------------------------


def read_column_types(connection: Connection, table: PostgresTable) -> dict[str, str]:
    """Return the types of the table's columns, as PostgreSQL spells them; empty if the table does not exist.

    Args:
        connection: An open connection.
        table: The published table.
    """
    rows = connection.execute(_SELECT_COLUMN_TYPES, [table.identifier.as_string(connection)])
    return {str(name): str(data_type) for name, data_type in rows}


def read_key_constraint(connection: Connection, table: PostgresTable, name: str) -> tuple[str, tuple[str, ...]] | None:
    """Return a constraint's kind (`p`: primary key, `u`: unique) and columns; None if it does not exist."""
    row = connection.execute(_SELECT_KEY_CONSTRAINT, [table.identifier.as_string(connection), name]).fetchone()
    return (str(row[0]), tuple(row[1])) if row else None


def has_full_replica_identity(connection: Connection, table: PostgresTable) -> bool:
    """Return whether the log has the full row of a deletion, because publishing needs it or somebody wants it."""
    query = "SELECT relreplident = 'f' FROM pg_class WHERE oid = to_regclass(%s)"
    return _fetch_one(connection, query, table.identifier.as_string(connection))[0] is True


_SELECT_COLUMN_TYPES = """
    SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_SELECT_KEY_CONSTRAINT = """
    SELECT c.contype::text, array_agg(a.attname::text ORDER BY k.n)
    FROM pg_constraint AS c CROSS JOIN unnest(c.conkey) WITH ORDINALITY AS k (attnum, n)
    JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
    WHERE c.conrelid = to_regclass(%s) AND c.conname = %s GROUP BY c.contype
"""


def _relation_exists(connection: Connection, table: sql.Identifier) -> bool:
    return _fetch_one(connection, "SELECT to_regclass(%s) IS NOT NULL", table.as_string(connection))[0] is True


def _fetch_one(connection: Connection, query: str, *values: object) -> tuple[Any, ...]:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return tuple(row)


# --- locks ------------------------------------------------------------------------------------------------------------


def _lock_name(connection: Connection, name: str) -> None:
    """Lock a name, of an existing table or not, until the end of the transaction."""
    number = int.from_bytes(
        hashlib.sha256(f"{PUBLISH_POSITION_TABLE} {name}".encode()).digest()[:8], "big", signed=True
    )
    try:
        with connection.transaction():
            connection.execute(_SET_LOCK_TIMEOUT)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [number])
    except errors.LockNotAvailable:
        holder = connection.execute(_SELECT_LOCK_HOLDER, [number & 0xFFFFFFFF, number >> 32 & 0xFFFFFFFF]).fetchone()
        who = f"process {holder[0]} of the server (for {holder[1]}, from {holder[2]})" if holder else "another process"
        raise LakeBusy(
            f"{who} is publishing to {name}",
            expected=f"no other publisher within {_LOCK_WAIT}",
            where=SETTING,
            next_step="run the same command again when it has finished",
        ) from None


_SELECT_LOCK_HOLDER = """
    SELECT a.pid, coalesce(nullif(a.application_name, ''), a.usename), coalesce(host(a.client_addr), 'this machine')
    FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objid::bigint = %s AND l.classid::bigint = %s
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
