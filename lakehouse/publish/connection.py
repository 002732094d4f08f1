"""Connects to the PostgreSQL database that is published to, and maps the errors of psycopg to ours. No Spark here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lakehouse.config.postgres import LOGIN_FAILURE, connection_defaults, message_without_values
from lakehouse.errors import ConfigError, DataRefused, InfrastructureError, LakehouseError

Connection = psycopg.Connection[Any]

SETTING = "publish.postgres"  # where in pipeline.yml


@contextmanager
def connect(url: str) -> Iterator[Connection]:
    """Open a connection; outside of `publish_transaction`, each statement is a transaction of its own.

    Args:
        url: The address, as pipeline.yml has it. Its parameters take precedence over the defaults.

    Raises:
        ConfigError: The address cannot be parsed, or the user may not log in or lacks a permission.
        InfrastructureError: The server cannot be reached, or the connection was lost. Nothing was written.
        DataRefused: PostgreSQL does not accept a value.
    """
    try:
        given = conninfo_to_dict(url)
        own = {"application_name": "lakehouse publish", "connect_timeout": "10"}
        defaults = connection_defaults(given, psycopg.pq.version()) | {k: v for k, v in own.items() if k not in given}
        conninfo = make_conninfo(url, **defaults)
        with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as connection:
            yield connection
    except psycopg.Error as error:
        raise _to_lakehouse_error(error) from None


def _to_lakehouse_error(error: psycopg.Error) -> LakehouseError:
    """Map an error by its SQLSTATE. Only the server's first sentence is passed on: no statement and no row."""
    message, code = error.diag.message_primary or " ".join(str(error).split()), error.sqlstate
    kept = message_without_values(message, code, type(error).__name__)
    if isinstance(error, psycopg.ProgrammingError) and code is None:
        # libpq could not parse the address, and its message repeats parts of it.
        return ConfigError(
            "PostgreSQL's address cannot be parsed",
            expected="postgresql://user:password@host:port/database?parameter=value, with percent-encoded parts",
            where=f"{SETTING}.url",
        )
    if code is None and LOGIN_FAILURE.search(message):
        return ConfigError(
            f"PostgreSQL rejects the login: {message}",
            expected="a user that may connect and create tables, and a server whose certificate can be checked",
            where=f"{SETTING}.url",
            next_step="correct the address or the user; sslrootcert and sslmode are parameters of the address",
        )
    if code and code.startswith("42"):
        return ConfigError(
            f"PostgreSQL rejects the statement: {message}",
            expected="the privileges of deploy/postgres/grants.sql, and names that PostgreSQL accepts",
            where=f"SQLSTATE {code}",
        )
    if code and code.startswith(("22", "23")):
        column = re.search(r"line \d+, column ([^:]+)", error.diag.context or "")
        return DataRefused(
            f"PostgreSQL rejects a row: {message}",
            kept=f"PostgreSQL rejects a row: {kept}",
            expected="text without NUL characters, years from 1 to 9999, and a table that nothing else writes",
            where=f"the column {column[1]}" if column else f"SQLSTATE {code}",
            next_step="correct the value in the model's SQL or at its source; the published table is unchanged",
        )
    return InfrastructureError(
        f"PostgreSQL failed: {message}",
        kept=f"PostgreSQL failed: {kept}",
        expected="a server that answers",
        where=f"SQLSTATE {code}" if code else SETTING,
        next_step="run the same command again: nothing was written and nothing is lost",
    )
