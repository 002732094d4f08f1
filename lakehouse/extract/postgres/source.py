"""A source of type `jdbc`: the tables of a PostgreSQL database, as they all were at one instant.

The database says neither when its tables changed nor whether they did, so they are read by every run; rows come in the
order of their keys, so that a table with equal rows lands nothing.
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
from lakehouse.extract import source
from lakehouse.extract.source import SourceSnapshot
from lakehouse.storage import file_io
from lakehouse.storage.paths import Lake

# The driver's parameters, and what they are called here; the others of libpq have the same names in both.
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
    """The database as it is when the first table is asked for; the others are read along with it.

    Raises:
        ConfigError: what reads it is not installed, or its address cannot be understood.
    """
    jdbc = pipeline.source
    assert isinstance(jdbc, Jdbc)
    postgres, address = _import_reader(), to_libpq_url(jdbc.url)
    wanted = {name: pipeline.tables[name] for name in tables}
    with file_io.shared_temp_dir(lake.state_path("extract"), lake.local_path("extract")) as scratch:
        read = once(lambda: postgres.read(jdbc, address, wanted, scratch.local))

        def files(table: str) -> source.TableFiles:
            found = read()[table]
            if isinstance(found, LakehouseError):
                raise found
            return found, sorted(found.iterdir())

        yield (SourceSnapshot(None, files),)


def _import_reader() -> ModuleType:
    try:
        from lakehouse.extract.postgres import reader
    except ImportError:
        raise ConfigError(
            "psycopg is not installed",
            expected="the package that reads from PostgreSQL",
            where="source: {type: jdbc}",
            next_step="pip install 'lakehouse[postgres]'",
        ) from None
    return reader


def to_libpq_url(url: str) -> str:
    """A JDBC URL as libpq writes it.

    >>> to_libpq_url("jdbc:postgresql://db.example:5433/shop?ssl=true&currentSchema=sales")
    'postgresql://db.example:5433/shop?sslmode=verify-full&options=-csearch_path%3Dsales'
    >>> to_libpq_url("jdbc:postgresql:shop")
    'postgresql://localhost/shop'

    Raises:
        ConfigError: a parameter that would be passed over. No value of one is told.
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
        f"the parameter {name} of the database's address is not known here",
        expected=f"among {known}",
        where="source.url",
        next_step="leave it out",
    )
