"""Reads tables of a PostgreSQL database to Parquet files, all at one instant; the entry point is `read_tables`.

The steps, in order:

1. Lock the tables against TRUNCATE and DROP (not against writers), then take a snapshot and export it.
2. For each table, in that snapshot: count its rows, and divide the order of its keys into parts of equal size.
3. Read the parts over several connections, each of which imports the snapshot.
4. Compare the number of rows received with the count.

If a connection is lost, all tables are read again in a new snapshot, so that parts of two instants are never combined.
Rows are written to Parquet in small batches; no table is ever in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pyarrow import parquet

from lakehouse.config import Jdbc, Table, sqlstates
from lakehouse.config.postgres import LOGIN_FAILURE, connection_defaults, message_without_values
from lakehouse.errors import ConfigError, DataRefused, ExitCode, LakehouseError
from lakehouse.extract.postgres import queries, types
from lakehouse.extract.postgres.queries import Connection
from lakehouse.extract.postgres.types import ReadColumn
from lakehouse.retry import TransientError, with_retries

TableResults = dict[str, Path | LakehouseError]

DEFAULT_CONNECTIONS, DEFAULT_FETCH_ROWS = 4, 50_000  # used unless the source's options set others
_MAX_BATCH_BYTES = 32 << 20  # bytes of text and binary values per batch
_LOCK_TIMEOUT_SECONDS = 60
_LOCK_ERRORS = (errors.UndefinedTable, errors.InvalidSchemaName, errors.WrongObjectType, errors.InsufficientPrivilege)
_SESSION_SETTINGS = (
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL DateStyle = 'ISO'",
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_SECONDS}s'",
)
_UNKNOWN_SNAPSHOT = errors.UndefinedObject.sqlstate  # it ended with the connection that exported it


def read_tables(jdbc: Jdbc, address: str, tables: dict[str, Table], folder: Path) -> TableResults:
    """Read tables to Parquet files.

    Args:
        jdbc: The source's configuration.
        address: The database's URL for libpq.
        tables: The configuration of each table to read.
        folder: An existing folder to write below.

    Returns:
        The folder with the files of each table, or the error of that table.

    Raises:
        ConfigError: The database denies access.
        InfrastructureError: The database cannot be reached, or all attempts failed. Nothing is left in the folder.
    """

    def attempt() -> TableResults:
        attempt_folder = folder / "database"
        shutil.rmtree(attempt_folder, ignore_errors=True)
        try:
            return _ReadAttempt(jdbc, address, attempt_folder).read(tables)
        except BaseException:
            shutil.rmtree(attempt_folder, ignore_errors=True)
            raise

    return with_retries(attempt)


def check_connection(jdbc: Jdbc, address: str) -> None:
    """Connect to the database and disconnect, once.

    Args:
        jdbc: The source's configuration.
        address: The database's URL for libpq.

    Raises:
        ConfigError: The database denies access.
        InfrastructureError: It cannot be reached.
    """
    with _ReadAttempt(jdbc, address, Path())._connect():
        pass


@dataclass(frozen=True)
class _Part:
    """A part of a table's rows: the file to write, the query to read them with, and their columns."""

    path: Path
    query: sql.Composed
    columns: list[ReadColumn]


class _ReadAttempt:
    """One attempt to read all tables in one snapshot."""

    def __init__(self, jdbc: Jdbc, address: str, folder: Path) -> None:
        options = {name: int(value) for name, value in jdbc.options.items()}
        self._login = {k: v for k, v in {"user": jdbc.user, "password": jdbc.password}.items() if v is not None}
        self._address, self._folder = address, folder
        self._connections = options.get("numPartitions", DEFAULT_CONNECTIONS)
        self._fetch_rows = options.get("fetchsize", DEFAULT_FETCH_ROWS)
        self._statement_timeout = options.get("queryTimeout", 0)
        self._failure: TransientError | None = None  # ends the reading of all parts

    def read(self, tables: dict[str, Table]) -> TableResults:
        """Return the folder of each table, or its error."""
        results: TableResults = {}
        counts: dict[str, int] = {}
        parts: dict[str, list[Future[int]]] = {}
        with self._connect() as leader, ThreadPoolExecutor(self._connections) as pool:
            try:
                snapshot = self._export_snapshot(leader, tables)
                for name, table in tables.items():
                    try:
                        counts[name], planned = self._plan_parts(leader, name, table)
                        parts[name] = [pool.submit(self._copy_part, snapshot, part, table.file) for part in planned]
                    except (ConfigError, DataRefused) as error:
                        results[name] = error
                for name, futures in parts.items():
                    results[name] = self._complete_folder(name, futures, counts[name], tables[name])
            finally:  # parts that are still being read end at once
                self._failure = self._failure or TransientError("the reading was canceled")
                pool.shutdown(cancel_futures=True)
        return results

    def _complete_folder(self, name: str, parts: list[Future[int]], count: int, table: Table) -> Path | LakehouseError:
        """Return the table's folder when all of its parts are complete, or the error of a part."""
        try:
            rows = sum(part.result() for part in parts)
        except (ConfigError, DataRefused) as error:
            return error
        if rows != count:
            raise TransientError(f"{table.file} has {count:,} rows, but {rows:,} were read", where=f"the table {name}")
        return self._folder / name

    # --- the snapshot -----------------------------------------------------------------------------------------

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        """Open a read-only transaction that sees one instant."""
        with _postgres_errors():
            given = conninfo_to_dict(self._address)
            defaults = connection_defaults(given, psycopg.pq.version())
            with psycopg.connect(make_conninfo(self._address, **defaults, **self._login)) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.read_only = True
                yield connection

    def _export_snapshot(self, connection: Connection, tables: dict[str, Table]) -> str:
        """Lock the tables and export a snapshot; a query before the locks would fix an earlier instant."""
        self._configure(connection)
        for table in tables.values():
            lock = sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(queries.table_identifier(table.file))
            try:
                with connection.transaction():
                    connection.execute(lock)
            except _LOCK_ERRORS:
                pass  # `_plan_parts` reports it if the table cannot be read either
        (snapshot,) = queries.fetch_one(connection, sql.SQL("SELECT pg_export_snapshot()").format())
        return str(snapshot)

    def _configure(self, connection: Connection, snapshot: str = "") -> None:
        if snapshot:
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
        for setting in (*_SESSION_SETTINGS, f"SET LOCAL statement_timeout = '{self._statement_timeout}s'"):
            connection.execute(setting)

    # --- a table ----------------------------------------------------------------------------------------------

    def _plan_parts(self, connection: Connection, name: str, table: Table) -> tuple[int, list[_Part]]:
        """Return the number of rows of a table, and the parts to read it in."""
        try:
            with connection.transaction():
                catalog = queries.read_columns(connection, table.file)
                columns = types.plan_columns(table.columns_in_files, catalog, table.file)
                scan = queries.scan_table(connection, table, columns)
                part_queries = queries.part_queries(connection, scan, self._connections)
                connection.execute(sql.SQL("EXPLAIN {}").format(part_queries[0]))  # raises if it cannot be executed
        except errors.UndefinedFunction as error:
            raise ConfigError(
                f"the keys of {table.file} have no order: {error.diag.message_primary}",
                expected="keys that the database can sort by",
                where=f"the table {name}",
                next_step="create a view with the keys as text, and give its name in `file`",
            ) from None
        except errors.InsufficientPrivilege as error:
            raise ConfigError(
                f"{table.file} may not be read: {error.diag.message_primary}",
                expected="the privilege to SELECT the declared columns",
                where=f"the table {name}",
                next_step=f"GRANT SELECT ON {table.file} TO the user that reads",
            ) from None
        folder = self._folder / name
        folder.mkdir(parents=True)
        paths = (folder / f"part-{number:05}.parquet" for number in range(len(part_queries)))
        return scan.count, [_Part(path, query, scan.columns) for path, query in zip(paths, part_queries, strict=True)]

    def _copy_part(self, snapshot: str, part: _Part, table: str) -> int:
        """Write a part and return its number of rows; if that fails, the other parts end, too."""
        try:
            return self._write_part(snapshot, part, table)
        except TransientError as error:
            self._failure = self._failure or error
            raise

    def _write_part(self, snapshot: str, part: _Part, table: str) -> int:
        schema = pa.schema([(column.name, column.arrow_type) for column in part.columns])
        rows = 0
        with self._connect() as connection, connection.cursor() as cursor:
            self._configure(connection, snapshot)
            with (
                parquet.ParquetWriter(part.path, schema, compression="zstd", store_schema=False) as writer,
                cursor.copy(sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(part.query)) as copy,
            ):
                copy.set_types([column.postgres_type for column in part.columns])
                for batch in self._batches(copy.rows()):
                    if self._failure:
                        raise self._failure
                    writer.write_batch(types.to_record_batch(batch, schema, table))
                    rows += len(batch)
                if not rows:
                    writer.write_batch(types.to_record_batch([], schema, table))
        return rows

    def _batches(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
        """Yield rows in batches of limited size."""
        batch: list[tuple[Any, ...]] = []
        size = 0
        for row in rows:
            batch.append(row)
            size += sum(len(value) for value in row if isinstance(value, str | bytes | list))
            if len(batch) >= self._fetch_rows or size >= _MAX_BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


# --- errors -----------------------------------------------------------------------------------------------------


@contextmanager
def _postgres_errors() -> Iterator[None]:
    """Map psycopg's errors to the project's, with the first line of the server's message: no statement, no values."""
    try:
        yield
    except psycopg.Error as error:
        raise _to_lakehouse_error(error) from None
    except UnicodeDecodeError:
        raise DataRefused(
            "the database contains text that is not in its encoding",
            expected="text that PostgreSQL can convert to UTF-8",
            where="the database",
            next_step="correct the rows, or create a view that converts them to UTF-8",
        ) from None


def _to_lakehouse_error(error: psycopg.Error) -> LakehouseError:
    message = error.diag.message_primary or " ".join(str(error).split())
    kept = message_without_values(message, error.sqlstate, type(error).__name__)
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
        # libpq could not parse the URL, and its message repeats parts of it.
        return ConfigError(
            "the database's URL cannot be read",
            expected="jdbc:postgresql://host:port/database?parameter=value",
            where="source.url",
        )
    if error.sqlstate is None and LOGIN_FAILURE.search(message):
        return ConfigError(
            f"the database denies access: {message}",
            expected="a user that may connect and SELECT, and a server whose certificate can be checked",
            where="source.url, source.user, source.password",
            next_step="correct them; sslrootcert and sslmode are parameters of the URL",
        )
    if error.sqlstate is None or error.sqlstate == _UNKNOWN_SNAPSHOT:
        return TransientError(f"the database failed: {message}", where="the database")
    return _error_by_meaning(sqlstates.meaning(error.sqlstate).exit_code, message, kept, error.sqlstate)


def _error_by_meaning(exit_code: ExitCode, message: str, kept: str, sqlstate: str) -> LakehouseError:
    if exit_code == ExitCode.INFRASTRUCTURE:
        return TransientError(f"the database failed: {message}", where=f"SQLSTATE {sqlstate}")
    if exit_code == ExitCode.REFUSED:
        return DataRefused(
            f"the database has a value that cannot be read: {message}",
            kept=f"the database has a value that cannot be read: {kept}",
            expected="values of the declared types",
            where="the database",
            next_step="correct it in the database, or declare the column STRING",
        )
    return ConfigError(
        f"the database rejects a query: {message}",
        kept=f"the database rejects a query: {kept}",
        expected="a user and a database that allow to read the tables, without further settings",
        where=f"SQLSTATE {sqlstate}",
        next_step="correct source.url, the user's rights or the database's settings",
    )
