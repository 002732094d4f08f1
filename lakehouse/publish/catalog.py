"""The PostgreSQL that is published to: what is there, and how far it says that it is. No Spark here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

from psycopg import errors, sql

from lakehouse.config.checks import PUBLISH_POSITION_TABLE
from lakehouse.errors import ConfigError, LakeBusy
from lakehouse.publish.connection import SETTING, Connection, connect

_LOCK_WAIT = "30s"  # for somebody else's lock
_SET_LOCK_TIMEOUT = f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'"
_TRANSACTION_SETTINGS = (
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL DateStyle = 'ISO'",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    _SET_LOCK_TIMEOUT,
)
# Else a server that is at work for a publisher which was killed hears of it when it is done.
_DEAD_CLIENT_CHECK = (140000, "SET LOCAL client_connection_check_interval = '2s'")


@dataclass(frozen=True)
class PublishPosition:
    """What a published table is equal to: a version of a table of the lake.

    Attributes:
        source: by its name in the lake, such as gold.churn.
        lake_table_id: another one where the table was made anew.
        commit_id: another one where the version is that of a copy of the lake which went another way.
    """

    pipeline: str
    source: str
    lake_table_id: str
    version: int
    commit_id: str | None


@dataclass(frozen=True)
class PublishState:
    """A table by its full name, and how far it is: neither position nor time where it was never published to."""

    table: str
    position: PublishPosition | None
    published_at: datetime | None


@dataclass(frozen=True)
class PostgresTable:
    """A table by its full name, and the record that speaks of it."""

    schema: str
    name: str
    position_table: sql.Identifier

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


@contextmanager
def publish_transaction(connection: Connection, table: PostgresTable) -> Iterator[None]:
    """One transaction, in which nobody else publishes to this table.

    Raises:
        LakeBusy: somebody else does, and for long.
    """
    with connection.transaction():
        for setting in _TRANSACTION_SETTINGS:
            connection.execute(setting)
        if connection.info.server_version >= _DEAD_CLIENT_CHECK[0]:
            connection.execute(_DEAD_CLIENT_CHECK[1])
        _lock_name(connection, str(table))
        yield


def resolve_table(connection: Connection, table_name: str) -> PostgresTable:
    """The full name of a table that may be named without its schema."""
    home = _fetch_one(connection, "SELECT current_schema()")[0]
    schema, _, name = table_name.rpartition(".")
    if not home:
        raise ConfigError(
            "no schema of the user's search_path is there, or may be used",
            expected="a schema in which tables can be made",
            where=SETTING,
            next_step="GRANT USAGE, CREATE ON SCHEMA public TO the user that publishes",
        )
    return PostgresTable(schema or home, name, sql.Identifier(home, PUBLISH_POSITION_TABLE))


# --- how far it is ----------------------------------------------------------------------------------------------------


def read_position(connection: Connection, table: PostgresTable) -> PublishPosition | None:
    """What the table is equal to; None if it is not there, or nobody published to it.

    Raises:
        ConfigError: it is there and not ours.
    """
    found = _read_position_row(connection, table)
    if not exists(connection, table):
        return None
    if found is None:
        raise ConfigError(
            f"the table {table} is there, and was not made by publishing: {PUBLISH_POSITION_TABLE} has no row for it",
            expected="a table that is ours alone to write",
            where=SETTING,
            next_step="publish under another name; or rename or drop that table, if nobody needs it",
        )
    return found[0]


def read_states(url: str, tables: Mapping[str, str]) -> dict[str, PublishState]:
    """How far each of these tables is, asked over one connection. As `connected`, otherwise.

    Args:
        tables: by any name, as `located` takes them.
    """
    with connect(url) as connection:
        places = {name: resolve_table(connection, table) for name, table in tables.items()}
        return {name: _read_state(connection, place) for name, place in places.items()}


def _read_state(connection: Connection, table: PostgresTable) -> PublishState:
    found = _read_position_row(connection, table) if exists(connection, table) else None
    return PublishState(str(table), *(found or (None, None)))


def check_source(position: PublishPosition | None, pipeline: str, source: str, table: PostgresTable) -> None:
    """Raises: ConfigError, where the table follows something else than this source of this pipeline."""
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
    """Say what the table is equal to from this transaction on."""
    statement = sql.SQL(
        "INSERT INTO {} (table_name, pipeline, source, lake_table_id, version, commit_id, published_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, now()) ON CONFLICT (table_name) DO UPDATE SET pipeline = excluded.pipeline,"
        " source = excluded.source, lake_table_id = excluded.lake_table_id, version = excluded.version,"
        " commit_id = excluded.commit_id, published_at = excluded.published_at"
    )
    connection.execute(statement.format(table.position_table), [str(table), *astuple(position)])


def create_position_table(connection: Connection, table: PostgresTable) -> None:
    """The table of positions, where it is missing: in a transaction of its own, so that nobody waits for it long."""
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


# --- what is there ----------------------------------------------------------------------------------------------------


def exists(connection: Connection, table: PostgresTable) -> bool:
    return _relation_exists(connection, table.identifier)


def read_column_types(connection: Connection, table: PostgresTable) -> dict[str, str]:
    """The table's columns and their types, as PostgreSQL spells them; empty where there is no such table."""
    rows = connection.execute(_SELECT_COLUMN_TYPES, [table.identifier.as_string(connection)])
    return {str(name): str(kind) for name, kind in rows}


def read_key_constraint(connection: Connection, table: PostgresTable, name: str) -> tuple[str, tuple[str, ...]] | None:
    """The kind (`p`: primary key, `u`: unique) and the columns of a constraint, if it is there."""
    row = connection.execute(_SELECT_KEY_CONSTRAINT, [table.identifier.as_string(connection), name]).fetchone()
    return (str(row[0]), tuple(row[1])) if row else None


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


# --- one at a time ----------------------------------------------------------------------------------------------------


def _lock_name(connection: Connection, name: str) -> None:
    """A lock on a name, until the transaction's end; also of what is not there yet."""
    number = int.from_bytes(
        hashlib.sha256(f"{PUBLISH_POSITION_TABLE} {name}".encode()).digest()[:8], "big", signed=True
    )
    try:
        with connection.transaction():
            connection.execute(_SET_LOCK_TIMEOUT)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [number])
    except errors.LockNotAvailable:
        holder = connection.execute(_SELECT_LOCK_HOLDER, [number & 0xFFFFFFFF, number >> 32 & 0xFFFFFFFF]).fetchone()
        who = f"process {holder[0]} of the server (for {holder[1]}, from {holder[2]})" if holder else "somebody"
        raise LakeBusy(
            f"{who} publishes to {name}",
            expected=f"that nobody else does, within {_LOCK_WAIT}",
            where=SETTING,
            next_step="run the same command when it is done",
        ) from None


_SELECT_LOCK_HOLDER = """
    SELECT a.pid, coalesce(nullif(a.application_name, ''), a.usename), coalesce(host(a.client_addr), 'this machine')
    FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objid::bigint = %s AND l.classid::bigint = %s
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
