"""The tables of a PostgreSQL database as Parquet files, all from one instant. In order:

1. lock the tables against being emptied or rebuilt (not against writers), then take a snapshot and export it
2. for each table, in that snapshot: count its rows, and cut the order of its keys into parts of equal size
3. read the parts over several connections, each of which takes on the exported snapshot
4. hold the rows that came against the count

A lost connection ends the reading as a whole, and it begins anew with another snapshot: parts of two instants are never
put together. Rows are taken to Parquet a few at a time; no table is ever in memory.
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

from lakehouse.config import Jdbc, Table
from lakehouse.errors import ConfigError, DataRefused, InfrastructureError, LakehouseError
from lakehouse.extract.postgres import queries as table_queries
from lakehouse.extract.postgres import types
from lakehouse.extract.postgres.queries import Connection
from lakehouse.extract.postgres.types import ReadColumn
from lakehouse.postgres import CONNECTION_DEFAULTS, LOGIN_FAILURE
from lakehouse.retry import TransientError, with_retries

TableResults = dict[str, Path | LakehouseError]

DEFAULT_CONNECTIONS, DEFAULT_FETCH_ROWS = 4, 50_000  # unless the source's options say otherwise
_MAX_BATCH_BYTES = 32 << 20  # of text and binary values; then a batch ends early
_LOCK_TIMEOUT_SECONDS = 60  # seconds
_LOCK_ERRORS = (errors.UndefinedTable, errors.InvalidSchemaName, errors.WrongObjectType, errors.InsufficientPrivilege)
_SESSION_SETTINGS = (
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL DateStyle = 'ISO'",
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_SECONDS}s'",
)
_TRANSIENT_ERRORS = (psycopg.OperationalError, psycopg.InterfaceError, errors.QueryCanceled, errors.UndefinedObject)


def read_tables(jdbc: Jdbc, address: str, wanted: dict[str, Table], folder: Path) -> TableResults:
    """Each table's folder of Parquet files, below `folder`, or what is wrong with that table.

    Raises:
        ConfigError: the database does not let us in.
        InfrastructureError: it cannot be reached, or the connection kept breaking. Nothing is left in the folder.
    """

    def attempt() -> TableResults:
        below = folder / "database"
        shutil.rmtree(below, ignore_errors=True)
        try:
            return _ReadAttempt(jdbc, address, below).read(wanted)
        except BaseException:
            shutil.rmtree(below, ignore_errors=True)
            raise

    return with_retries(attempt)


@dataclass(frozen=True)
class _Part:
    """Some rows of a table: where to write them, and the query that gives them."""

    path: Path
    query: sql.Composed
    columns: list[ReadColumn]


class _ReadAttempt:
    """One attempt at all tables."""

    def __init__(self, jdbc: Jdbc, address: str, folder: Path) -> None:
        options = {name: int(value) for name, value in jdbc.options.items()}
        self._login = {k: v for k, v in {"user": jdbc.user, "password": jdbc.password}.items() if v is not None}
        self._address, self._folder = address, folder
        self._connections = options.get("numPartitions", DEFAULT_CONNECTIONS)
        self._fetch_rows = options.get("fetchsize", DEFAULT_FETCH_ROWS)
        self._statement_timeout = options.get("queryTimeout", 0)
        self._failure: TransientError | None = None  # by which the other parts end too

    def read(self, wanted: dict[str, Table]) -> TableResults:
        found: TableResults = {}
        parts: dict[str, list[Future[int]]] = {}
        with self._connect() as leader, ThreadPoolExecutor(self._connections) as pool:
            try:
                snapshot = self._export_snapshot(leader, wanted)
                counts: dict[str, int] = {}
                for name, table in wanted.items():
                    try:
                        counts[name], planned = self._plan_parts(leader, name, table)
                        parts[name] = [pool.submit(self._copy_part, snapshot, part, table.file) for part in planned]
                    except (ConfigError, DataRefused) as error:
                        found[name] = error
                for name, rows in parts.items():
                    found[name] = self._complete_folder(name, rows, counts[name], wanted[name])
            finally:  # nobody waits for parts that are still read
                self._failure = self._failure or TransientError("the reading was given up")
                pool.shutdown(cancel_futures=True)
        return found

    def _complete_folder(self, name: str, parts: list[Future[int]], count: int, table: Table) -> Path | LakehouseError:
        """The table's folder, if all of its rows came."""
        try:
            rows = sum(part.result() for part in parts)
        except (ConfigError, DataRefused) as error:
            return error
        if rows != count:
            raise TransientError(f"{table.file} has {count:,} rows, and {rows:,} came", where=f"the table {name}")
        return self._folder / name

    # --- one instant ------------------------------------------------------------------------------------------

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        """A connection in a transaction that sees one instant and writes nothing."""
        with _postgres_errors(), psycopg.connect(self._conninfo()) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield connection

    def _conninfo(self) -> str:
        given = conninfo_to_dict(self._address)
        return make_conninfo(
            self._address, **{k: v for k, v in CONNECTION_DEFAULTS.items() if k not in given}, **self._login
        )

    def _export_snapshot(self, connection: Connection, wanted: dict[str, Table]) -> str:
        """Lock, and export what is seen from then on; no query may come before, for the first one sets the instant."""
        self._configure(connection)
        for table in wanted.values():
            try:
                with connection.transaction():
                    connection.execute(
                        sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table_queries.table_identifier(table.file))
                    )
            except _LOCK_ERRORS:
                pass  # what is wrong with it, if anything, is told when it is looked at
        (snapshot,) = table_queries.fetch_one(connection, sql.SQL("SELECT pg_export_snapshot()").format())
        return str(snapshot)

    def _configure(self, connection: Connection, snapshot: str = "") -> None:
        if snapshot:
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
        for setting in (*_SESSION_SETTINGS, f"SET LOCAL statement_timeout = '{self._statement_timeout}s'"):
            connection.execute(setting)

    # --- a table ----------------------------------------------------------------------------------------------

    def _plan_parts(self, connection: Connection, name: str, table: Table) -> tuple[int, list[_Part]]:
        """How many rows the table has, and the parts to read it in.

        Raises:
            ConfigError: it is not there, or may not be read.
        """
        try:
            with connection.transaction():
                found = table_queries.read_columns(connection, table.file)
                chosen = types.plan_columns(table.columns_in_files, found, table.file)
                count, chosen, keyless = table_queries.scan_table(connection, table, chosen)
                queries = table_queries.part_queries(connection, table, chosen, count, keyless, self._connections)
                connection.execute(sql.SQL("EXPLAIN {}").format(queries[0]))  # whether it can be asked at all
        except errors.UndefinedFunction as error:
            raise ConfigError(
                f"the keys of {table.file} have no order: {error.diag.message_primary}",
                expected="keys that the database can sort by",
                where=f"the table {name}",
                next_step="have a view give them as text, and name the view in `file`",
            ) from None
        except errors.InsufficientPrivilege as error:
            raise ConfigError(
                f"{table.file} may not be read: {error.diag.message_primary}",
                expected="the right to SELECT the declared columns",
                where=f"the table {name}",
                next_step=f"GRANT SELECT ON {table.file} TO the user that reads",
            ) from None
        folder = self._folder / name
        folder.mkdir(parents=True)
        return count, [_Part(folder / f"part-{n:05}.parquet", query, chosen) for n, query in enumerate(queries)]

    def _copy_part(self, snapshot: str, part: _Part, table: str) -> int:
        """Write one part; returns its rows."""
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
        """Rows, as many at once as may be held."""
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


# --- what went wrong --------------------------------------------------------------------------------------------


@contextmanager
def _postgres_errors() -> Iterator[None]:
    """What psycopg raises, as one of ours. Of the server's words its first sentence is told: no statement, no row."""
    try:
        yield
    except psycopg.Error as error:
        raise _to_lakehouse_error(error) from None
    except UnicodeDecodeError:
        raise DataRefused(
            "the database holds text that is not in its encoding",
            expected="text that PostgreSQL can give in UTF-8",
            where="the database",
            next_step="mend the rows, or have a view give them in UTF-8",
        ) from None


def _to_lakehouse_error(error: psycopg.Error) -> LakehouseError:
    said = error.diag.message_primary or " ".join(str(error).split())
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
        # libpq could not read the address, and its words repeat parts of it.
        return ConfigError(
            "the database's address cannot be read",
            expected="jdbc:postgresql://host:port/database?parameter=value",
            where="source.url",
        )
    if error.sqlstate is None and LOGIN_FAILURE.search(said):
        return ConfigError(
            f"the database does not let us in: {said}",
            expected="a user that may connect and SELECT",
            where="source.url, source.user, source.password",
            next_step="correct them",
        )
    if isinstance(error, _TRANSIENT_ERRORS):
        return TransientError(f"the database failed: {said}", where="the database")
    if isinstance(error, psycopg.DataError):
        return DataRefused(
            f"the database has a value that cannot be taken: {said}",
            expected="values that the declared types have",
            where="the database",
            next_step="mend it in the database, or declare the column STRING",
        )
    return InfrastructureError(
        f"the database refuses: {said}", where=f"SQLSTATE {error.sqlstate}", next_step="run the same command again"
    )
