"""Connects to the PostgreSQL database that is published to, and maps the errors of psycopg to ours. No Spark here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lakehouse.config import sqlstates
from lakehouse.config.postgres import LOGIN_FAILURE, connection_defaults, message_without_values
from lakehouse.error_mapping import without_values
from lakehouse.errors import ConfigError, DataRefused, ExitCode, InfrastructureError, LakehouseError

Connection = psycopg.Connection[Any]

SETTING = "publish.postgres"  # where in pipeline.yml
# Their messages name a character or a size, and two encodings or an index.
_MESSAGES_WITHOUT_ROWS = ("22021", "22P05", "54000")


@dataclass(frozen=True)
class RejectedRow:
    """The row that the server rejects, as far as it is known.

    Attributes:
        key: Its key, such as `city = Natal, kind = NULL`.
        column: The column whose value is rejected.
        details: Known properties of the value, such as its size; no part of it.
    """

    key: str = ""
    column: str = ""
    details: str = ""


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
        raise to_lakehouse_error(error) from None


def to_lakehouse_error(error: psycopg.Error, rejected: RejectedRow | None = None) -> LakehouseError:
    """Map an error by its SQLSTATE. Only the server's first sentence is passed on: no statement and no value.

    Args:
        error: The error.
        rejected: The row that the server rejects, if it could be found.
    """
    message, code = error.diag.message_primary or " ".join(str(error).split()), error.sqlstate
    if code is None:
        return _error_without_code(error, message)
    meaning = sqlstates.meaning(code)
    if meaning.exit_code == ExitCode.REFUSED:
        return _row_error(error, code, meaning, rejected or RejectedRow())
    message = message if code[:2] == "42" else f"{message} ({type(error).__name__})"
    kept = message_without_values(message, code, type(error).__name__)
    error_class: type[LakehouseError]
    if meaning.exit_code == ExitCode.INFRASTRUCTURE:
        found, error_class = "PostgreSQL failed", InfrastructureError
    else:
        found, error_class = "PostgreSQL rejects the statement", ConfigError
    return error_class(
        f"{found}: {message}",
        kept=f"{found}: {kept}",
        expected=meaning.expected,
        where=f"SQLSTATE {code}",
        next_step=meaning.next_step,
    )


def _error_without_code(error: psycopg.Error, message: str) -> LakehouseError:
    """Map an error of libpq or psycopg, or of the server before the login: its code is not passed on."""
    if isinstance(error, psycopg.ProgrammingError):
        # libpq could not parse the address, and its message repeats parts of it.
        return ConfigError(
            "PostgreSQL's address cannot be parsed",
            expected="postgresql://user:password@host:port/database?parameter=value, with percent-encoded parts",
            where=f"{SETTING}.url",
        )
    if LOGIN_FAILURE.search(message):
        return ConfigError(
            f"PostgreSQL rejects the login: {message}",
            expected="a user that may connect and create tables, and a server whose certificate can be checked",
            where=f"{SETTING}.url",
            next_step="correct the address or the user; sslrootcert and sslmode are parameters of the address",
        )
    again = sqlstates.CLASSES["08"][1]
    return InfrastructureError(
        f"PostgreSQL failed: {message}", expected=again.expected, where=SETTING, next_step=again.next_step
    )


def _row_error(error: psycopg.Error, code: str, meaning: sqlstates.Meaning, rejected: RejectedRow) -> DataRefused:
    message = error.diag.message_primary or ""
    message = message if code in _MESSAGES_WITHOUT_ROWS else without_values(message)
    row = f"the row with {rejected.key}" if rejected.key else "a row"
    column = rejected.column or error.diag.column_name
    constraint = f"the constraint {error.diag.constraint_name}" if error.diag.constraint_name else f"SQLSTATE {code}"
    return DataRefused(
        f"PostgreSQL rejects {row}: {message}",
        kept=f"PostgreSQL rejects a row: {message_without_values(message, code, type(error).__name__)}",
        expected=meaning.expected,
        where=f"the column {column}{rejected.details}" if column else constraint,
        next_step=meaning.next_step,
    )
