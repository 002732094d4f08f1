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
from lakehouse.publish.connection import WHERE, Connection, connected

_WAIT = "30s"  # for somebody else's lock
_LOCK_TIMEOUT = f"SET LOCAL lock_timeout = '{_WAIT}'"
_SESSION = (
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL DateStyle = 'ISO'",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    _LOCK_TIMEOUT,
)
# Else a server that is at work for a publisher which was killed hears of it when it is done.
_NOTICES_A_DEAD_CLIENT = (140000, "SET LOCAL client_connection_check_interval = '2s'")


@dataclass(frozen=True)
class Position:
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
class Standing:
    """A table by its full name, and how far it is: neither position nor time where it was never published to."""

    table: str
    position: Position | None
    published_at: datetime | None


@dataclass(frozen=True)
class Place:
    """A table by its full name, and the record that speaks of it."""

    schema: str
    name: str
    record: sql.Identifier

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


@contextmanager
def writing(connection: Connection, place: Place) -> Iterator[None]:
    """One transaction, in which nobody else publishes to this table.

    Raises:
        LakeBusy: somebody else does, and for long.
    """
    with connection.transaction():
        for setting in _SESSION:
            connection.execute(setting)
        if connection.info.server_version >= _NOTICES_A_DEAD_CLIENT[0]:
            connection.execute(_NOTICES_A_DEAD_CLIENT[1])
        _lock(connection, str(place))
        yield


def located(connection: Connection, table: str) -> Place:
    """The full name of a table that may be named without its schema."""
    home = _one(connection, "SELECT current_schema()")[0]
    schema, _, name = table.rpartition(".")
    if not home:
        raise ConfigError(
            "no schema of the user's search_path is there, or may be used",
            expected="a schema in which tables can be made",
            where=WHERE,
            next_step="GRANT USAGE, CREATE ON SCHEMA public TO the user that publishes",
        )
    return Place(schema or home, name, sql.Identifier(home, PUBLISH_POSITION_TABLE))


# --- how far it is ----------------------------------------------------------------------------------------------------


def position(connection: Connection, place: Place) -> Position | None:
    """What the table is equal to; None if it is not there, or nobody published to it.

    Raises:
        ConfigError: it is there and not ours.
    """
    found = _recorded(connection, place)
    if not exists(connection, place):
        return None
    if found is None:
        raise ConfigError(
            f"the table {place} is there, and was not made by publishing: {PUBLISH_POSITION_TABLE} has no row for it",
            expected="a table that is ours alone to write",
            where=WHERE,
            next_step="publish under another name; or rename or drop that table, if nobody needs it",
        )
    return found[0]


def standing(url: str, tables: Mapping[str, str]) -> dict[str, Standing]:
    """How far each of these tables is, asked over one connection. As `connected`, otherwise.

    Args:
        tables: by any name, as `located` takes them.
    """
    with connected(url) as connection:
        places = {name: located(connection, table) for name, table in tables.items()}
        return {name: _standing(connection, place) for name, place in places.items()}


def _standing(connection: Connection, place: Place) -> Standing:
    found = _recorded(connection, place) if exists(connection, place) else None
    return Standing(str(place), *(found or (None, None)))


def require_ours(at: Position | None, pipeline: str, source: str, place: Place) -> None:
    """Raises: ConfigError, where the table follows something else than this source of this pipeline."""
    if at and (at.pipeline, at.source) != (pipeline, source):
        raise ConfigError(
            f"the table {place} follows {at.source} of the pipeline {at.pipeline}",
            expected=f"{source} of {pipeline}, or no such table",
            where=WHERE,
            next_step=f"publish under another name; or drop that table and its row in {PUBLISH_POSITION_TABLE}",
        )


def _recorded(connection: Connection, place: Place) -> tuple[Position, datetime] | None:
    if not _there(connection, place.record):
        return None
    query = sql.SQL(
        "SELECT pipeline, source, lake_table_id, version, commit_id, published_at FROM {} WHERE table_name = %s"
    )
    row = connection.execute(query.format(place.record), [str(place)]).fetchone()
    return (Position(*row[:-1]), row[-1]) if row else None


def record(connection: Connection, place: Place, now: Position) -> None:
    """Say what the table is equal to from this transaction on."""
    statement = sql.SQL(
        "INSERT INTO {} (table_name, pipeline, source, lake_table_id, version, commit_id, published_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, now()) ON CONFLICT (table_name) DO UPDATE SET pipeline = excluded.pipeline,"
        " source = excluded.source, lake_table_id = excluded.lake_table_id, version = excluded.version,"
        " commit_id = excluded.commit_id, published_at = excluded.published_at"
    )
    connection.execute(statement.format(place.record), [str(place), *astuple(now)])


def make_record(connection: Connection, place: Place) -> None:
    """The table of positions, where it is missing: in a transaction of its own, so that nobody waits for it long."""
    if _there(connection, place.record):
        return
    with connection.transaction():
        _lock(connection, PUBLISH_POSITION_TABLE)
        connection.execute(sql.SQL(_RECORD).format(place.record))


_RECORD = """
    CREATE TABLE IF NOT EXISTS {} (
        table_name text PRIMARY KEY, pipeline text NOT NULL, source text NOT NULL,
        lake_table_id text NOT NULL, version bigint NOT NULL, commit_id text, published_at timestamptz NOT NULL
    )
"""


# --- what is there ----------------------------------------------------------------------------------------------------


def exists(connection: Connection, place: Place) -> bool:
    return _there(connection, place.identifier)


def columns(connection: Connection, place: Place) -> dict[str, str]:
    """The table's columns and their types, as PostgreSQL spells them; empty where there is no such table."""
    rows = connection.execute(_COLUMNS, [place.identifier.as_string(connection)])
    return {str(name): str(kind) for name, kind in rows}


def key(connection: Connection, place: Place, name: str) -> tuple[str, tuple[str, ...]] | None:
    """The kind (`p`: primary key, `u`: unique) and the columns of a constraint, if it is there."""
    row = connection.execute(_KEY, [place.identifier.as_string(connection), name]).fetchone()
    return (str(row[0]), tuple(row[1])) if row else None


_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_KEY = """
    SELECT c.contype::text, array_agg(a.attname::text ORDER BY k.n)
    FROM pg_constraint AS c CROSS JOIN unnest(c.conkey) WITH ORDINALITY AS k (attnum, n)
    JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
    WHERE c.conrelid = to_regclass(%s) AND c.conname = %s GROUP BY c.contype
"""


def _there(connection: Connection, table: sql.Identifier) -> bool:
    return _one(connection, "SELECT to_regclass(%s) IS NOT NULL", table.as_string(connection))[0] is True


def _one(connection: Connection, query: str, *values: object) -> tuple[Any, ...]:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return tuple(row)


# --- one at a time ----------------------------------------------------------------------------------------------------


def _lock(connection: Connection, name: str) -> None:
    """A lock on a name, until the transaction's end; also of what is not there yet."""
    number = int.from_bytes(
        hashlib.sha256(f"{PUBLISH_POSITION_TABLE} {name}".encode()).digest()[:8], "big", signed=True
    )
    try:
        with connection.transaction():
            connection.execute(_LOCK_TIMEOUT)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [number])
    except errors.LockNotAvailable:
        holder = connection.execute(_HOLDER, [number & 0xFFFFFFFF, number >> 32 & 0xFFFFFFFF]).fetchone()
        who = f"process {holder[0]} of the server (for {holder[1]}, from {holder[2]})" if holder else "somebody"
        raise LakeBusy(
            f"{who} publishes to {name}",
            expected=f"that nobody else does, within {_WAIT}",
            where=WHERE,
            next_step="run the same command when it is done",
        ) from None


_HOLDER = """
    SELECT a.pid, coalesce(nullif(a.application_name, ''), a.usename), coalesce(host(a.client_addr), 'this machine')
    FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objid::bigint = %s AND l.classid::bigint = %s
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
