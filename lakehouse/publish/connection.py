"""A connection to the PostgreSQL that is published to, and what goes wrong on it, in our words. No Spark here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lakehouse.errors import ConfigError, DataRefused, InfrastructureError, LakehouseError
from lakehouse.postgres import CONNECTION_DEFAULTS, LOGIN_FAILURE

Connection = psycopg.Connection[Any]

SETTING = "publish.postgres"


@contextmanager
def connect(url: str) -> Iterator[Connection]:
    """A connection, on which each statement outside of `writing` is its own transaction.

    Raises:
        ConfigError: the address cannot be read, or who it names is not let in, or may not do what is asked.
        InfrastructureError: the server cannot be reached, or the connection was lost. Nothing of it happened.
        DataRefused: a value that PostgreSQL does not take.
    """
    with _understood():
        given = conninfo_to_dict(url)
        ours = CONNECTION_DEFAULTS | {"application_name": "lakehouse publish", "connect_timeout": "10"}
        conninfo = make_conninfo(url, **{k: v for k, v in ours.items() if k not in given})
        with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as connection:
            yield connection


@contextmanager
def _understood() -> Iterator[None]:
    """What psycopg raises, as one of ours. Of the server's words its first sentence is told: no statement, no row."""
    try:
        yield
    except psycopg.Error as error:
        raise _to_lakehouse_error(error) from None


def _to_lakehouse_error(error: psycopg.Error) -> LakehouseError:
    said, code = error.diag.message_primary or " ".join(str(error).split()), error.sqlstate
    if isinstance(error, psycopg.ProgrammingError) and code is None:
        # libpq could not read the address, and its words repeat parts of it.
        return ConfigError(
            "PostgreSQL's address cannot be read",
            expected="postgresql://user:password@host:port/database?parameter=value, parts of it percent-encoded",
            where=f"{SETTING}.url",
        )
    if code is None and LOGIN_FAILURE.search(said):
        return ConfigError(
            f"PostgreSQL does not let us in: {said}",
            expected="a user that may connect, and make tables",
            where=f"{SETTING}.url",
            next_step="correct it",
        )
    if code and code.startswith("42"):
        return ConfigError(
            f"PostgreSQL refuses: {said}",
            expected="the rights of deploy/postgres/grants.sql, and names that PostgreSQL takes",
            where=f"SQLSTATE {code}",
        )
    if code and code.startswith(("22", "23")):
        column = re.search(r"line \d+, column ([^:]+)", error.diag.context or "")
        return DataRefused(
            f"PostgreSQL does not take a row: {said}",
            expected="text without NUL characters, years from 1 to 9999, and a table that nobody else writes",
            where=f"the column {column[1]}" if column else f"SQLSTATE {code}",
            next_step="mend it in the model's SQL, or at its source; the table is left as it was",
        )
    return InfrastructureError(
        f"PostgreSQL failed: {said}",
        expected="a server that answers",
        where=f"SQLSTATE {code}" if code else SETTING,
        next_step="run the same command again: nothing of this was kept, and nothing is lost",
    )
