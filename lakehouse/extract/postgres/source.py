"""Provides a source of type `jdbc`: the tables of a PostgreSQL database, all at the same instant.

The database does not record whether and when its tables changed, so every run reads them. Rows are ordered by their
keys, so that a table with equal rows gives equal files and does not land again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from urllib.parse import parse_qsl, urlencode

from lakehouse.concurrency import once
from lakehouse.config import Jdbc, Pipeline
from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.extract.source import SourceSnapshot, TableFiles
from lakehouse.storage import file_io
from lakehouse.storage.paths import Lake

# Parameters of the JDBC driver with another name in libpq, and those with the same name.
_RENAMED_PARAMETERS = {
    "ApplicationName": "application_name",
    "connectTimeout": "connect_timeout",
    "currentSchema": "options",
}
_SAME_PARAMETERS = (
    "user",
    "password",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "connect_timeout",
)


@contextmanager
def open_snapshots(pipeline: Pipeline, lake: Lake, tables: tuple[str, ...]) -> Iterator[tuple[SourceSnapshot, ...]]:
    """Provide the database as a snapshot without a time; all tables are read when the first one is fetched.

    Args:
        pipeline: A pipeline with a source of type `jdbc`.
        lake: The lake, for temporary files.
        tables: The names of the tables to read.

    Raises:
        ConfigError: psycopg is not installed, or the database's address has an unknown parameter.
    """
    jdbc = pipeline.source
    assert isinstance(jdbc, Jdbc)
    reader, address = _import_reader(), to_libpq_url(jdbc.url)
    selected = {name: pipeline.tables[name] for name in tables}
    with file_io.shared_temp_dir(lake.state_path("extract"), lake.local_path("extract")) as temp_dir:
        read_tables = once(lambda: reader.read_tables(jdbc, address, selected, temp_dir.local))

        def fetch_files(table: str) -> TableFiles:
            result = read_tables()[table]
            if isinstance(result, LakehouseError):
                raise result
            return TableFiles(result, sorted(result.iterdir()))

        yield (SourceSnapshot(None, fetch_files),)


def check_connection(pipeline: Pipeline) -> None:
    """Connect to the database and disconnect, without reading anything.

    Args:
        pipeline: A pipeline with a source of type `jdbc`.

    Raises:
        ConfigError: psycopg is not installed, the address has an unknown parameter, or the database denies access.
        InfrastructureError: The database cannot be reached.
    """
    assert isinstance(pipeline.source, Jdbc)
    _import_reader().check_connection(pipeline.source, to_libpq_url(pipeline.source.url))


def _import_reader() -> ModuleType:
    """Import the reader, which needs the optional package psycopg."""
    try:
        from lakehouse.extract.postgres import reader
    except ImportError:
        raise ConfigError(
            "psycopg is not installed",
            expected="the package that connects to PostgreSQL",
            where="source: {type: jdbc}",
            next_step="pip install 'lakehouse[postgres]'",
        ) from None
    return reader


def to_libpq_url(url: str) -> str:
    """Return a JDBC URL as a URL of libpq.

    >>> to_libpq_url("jdbc:postgresql://db.example:5433/shop?ssl=true&currentSchema=sales")
    'postgresql://db.example:5433/shop?sslmode=verify-full&options=-csearch_path%3Dsales'
    >>> to_libpq_url("jdbc:postgresql:shop")
    'postgresql://localhost/shop'

    Args:
        url: A URL that begins with jdbc:postgresql.

    Raises:
        ConfigError: The URL has a parameter that libpq would ignore. The message does not contain its value.
    """
    address, _, query = url.removeprefix("jdbc:postgresql:").partition("?")
    host, _, database = address.removeprefix("//").rpartition("/") if "/" in address else ("", "", address)
    parameters = [_to_libpq_parameter(*pair) for pair in parse_qsl(query, keep_blank_values=True)]
    return f"postgresql://{host or 'localhost'}/{database}" + (f"?{urlencode(parameters)}" if parameters else "")


def _to_libpq_parameter(name: str, value: str) -> tuple[str, str]:
    if name == "ssl":
        return "sslmode", "verify-full" if value in ("", "true") else "prefer"
    if name == "currentSchema" and not re.search(r"[\s\\]", value):
        return "options", f"-csearch_path={value}"
    if name in _SAME_PARAMETERS or name in _RENAMED_PARAMETERS:
        return _RENAMED_PARAMETERS.get(name, name), value
    known = ", ".join((*_SAME_PARAMETERS, *_RENAMED_PARAMETERS, "ssl"))
    raise ConfigError(
        f"the parameter {name} of the database's URL is not supported",
        expected=f"one of {known}",
        where="source.url",
        next_step="remove it",
    )
