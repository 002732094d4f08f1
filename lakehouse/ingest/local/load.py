"""Reads the files of snapshots, and casts and validates their fields, into the table `rows` of a DuckDB database.

The statement that does it for all columns takes DuckDB longer to plan than to execute for a few hundred rows. Of many
small snapshots, `PreloadedRows` therefore has the rows of several, which were read by one statement.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import chain

import duckdb
import pyarrow as pa

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.local import csv_file, json_file, parquet_file
from lakehouse.ingest.local.chain import Chain, ChainedChanges
from lakehouse.ingest.local.errors import NeedsSparkError
from lakehouse.ingest.local.local_file import LocalFile
from lakehouse.ingest.local.sql_casts import sql_type
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.ingest.readers.snapshot_reader import NULL_KEY, NULL_SLICE
from lakehouse.lake import small_tables
from lakehouse.lake.duckdb_sql import any_sql, literal
from lakehouse.lake.row_id import row_id_sql
from lakehouse.schema.table_schema import stored_schema
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.row_sizes import require_moderate_rows

READ, NULL, UNREADABLE = 0, 1, 2
"""The state of a row's key."""

OPENERS = {"csv": csv_file.open_file, "json": json_file.open_file, "parquet": parquet_file.open_file}


def open_files(settings: ReadSettings, snapshot: LandedSnapshot) -> list[LocalFile]:
    """Return the files of a snapshot, opened.

    Args:
        settings: The settings of the readers.
        snapshot: The snapshot, with files that are prepared for reading.

    Raises:
        DataRefused: A file cannot be read, or a declared column is missing or occurs twice.
        NeedsSparkError: Only Spark reads it.
    """
    opener = OPENERS[settings.table.format]
    return [opener(settings, file, path) for file, path in zip(snapshot.files, snapshot.paths, strict=True)]


def create_rows(connection: duckdb.DuckDBPyConnection, name: str, types: Iterable[str]) -> None:
    """Create a table for the rows of snapshots, empty.

    Args:
        connection: The database.
        name: Its name.
        types: The types of the columns, in DuckDB's words.
    """
    columns = ", ".join(f"v{n} {t}" for n, t in enumerate(types))
    connection.execute(f"CREATE OR REPLACE TABLE {name} (n BIGINT, bad BOOLEAN, key_state TINYINT, {columns})")


def load_file(connection: duckdb.DuckDBPyConnection, table: Table, file: LocalFile, start: int) -> int:
    """Read a file into the table `rows`.

    Args:
        connection: The database.
        table: The table's configuration.
        file: The file.
        start: The number of its first row.

    Returns:
        The number after that of its last row.
    """
    position = start

    def numbered() -> Iterator[pa.RecordBatch]:
        nonlocal position
        for batch in file.read():
            yield _with_numbers(batch, position)
            position += batch.num_rows

    batches = numbered()
    first = next(batches, None)
    if first is not None:
        insert = f"INSERT INTO rows {_validated_sql(table, file, first.schema.names)}"
        execute_over(connection, "batches", first.schema, chain([first], batches), insert)
    return position


def _with_numbers(batch: pa.RecordBatch, start: int) -> pa.RecordBatch:
    numbers = small_tables.int_array(range(start, start + batch.num_rows))
    return pa.RecordBatch.from_arrays([numbers, *batch.columns], names=["n", *batch.schema.names])


def _validated_sql(table: Table, file: LocalFile, names: list[str]) -> str:
    """Return the SQL for the validated rows of the batches of a file."""
    columns = list(file.columns.values())
    values = ", ".join(f"{column.value} AS v{n}" for n, column in enumerate(columns))
    keys = [n for n, name in enumerate(file.columns) if name in table.keys]
    faults = {n: f"({fault_sql(table, file, n)}) IS NOT NULL" for n in range(len(columns))}
    has_null_key = any_sql(f"({columns[n].text}) IS NULL" for n in keys)
    has_wrong_key = any_sql(f"v{n} IS NULL OR {faults[n]}" for n in keys)
    if table.counts_rows:  # a row is told apart by all of its values; none of them has to be there
        has_wrong_key = any_sql(faults.values())
    key_state = f"CASE WHEN {has_null_key} THEN {NULL} WHEN {has_wrong_key} THEN {UNREADABLE} ELSE {READ} END"
    is_bad = any_sql([*faults.values(), has_null_key, has_wrong_key])
    values_of_row = [f"v{n}" for n in range(len(columns))]
    counted = [f"{row_id_sql(stored_schema(table), values_of_row)}, NULL"] if table.counts_rows else []
    stored = ", ".join([*values_of_row, *counted])
    casts = f"SELECT {', '.join(names)}, {values} FROM batches"
    return f"SELECT n, {is_bad}, {key_state}, {stored} FROM ({casts})"


def fault_sql(table: Table, file: LocalFile, n: int) -> str:
    """Return the SQL for why a field is not accepted, or null.

    Args:
        table: The table's configuration.
        file: The file.
        n: The position of its column.
    """
    name, column = list(file.columns.items())[n]
    if name not in {*table.keys, *(table.slice_by or ())}:
        return column.fault
    reason = NULL_KEY if name in table.keys else NULL_SLICE
    return f"coalesce({column.fault}, CASE WHEN v{n} IS NULL THEN {literal(reason)} END)"


def execute_over(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    query: str,
) -> None:
    """Execute a query that reads batches under a name, once; raise the errors of reading them.

    Args:
        connection: The database.
        name: The name.
        schema: The columns of the batches.
        batches: The rows.
        query: The query.
    """
    raised: list[Exception] = []

    def watched() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except Exception as error:
            raised.append(error)
            raise

    connection.register(name, pa.RecordBatchReader.from_batches(schema, watched()))
    try:
        connection.execute(query)
    except duckdb.Error as error:
        raise (raised[0] if raised else error) from error
    connection.unregister(name)


# --- several snapshots at a time --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadedSnapshot:
    """A snapshot whose rows are among those of others in the table `preloaded`.

    Attributes:
        snapshot: The snapshot.
        files: Its files, which were read to their ends.
        first: The number of its first row in the table.
        starts: The number of the first row of each file, within the snapshot.
        row_count: The number of its rows.
        has_faults: Whether a row is bad.
    """

    snapshot: LandedSnapshot
    files: list[LocalFile]
    first: int
    starts: list[int]
    row_count: int
    has_faults: bool = False

    def copy_rows(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Copy its rows into the table `rows`."""
        others = f"SELECT * REPLACE (n - {self.first} AS n) FROM preloaded"
        inside = f"n >= {self.first} AND n < {self.first + self.row_count}"
        connection.execute(f"CREATE OR REPLACE TABLE rows AS {others} WHERE {inside}")


class PreloadedRows:
    """The rows of several small snapshots, which are read with the same settings.

    A snapshot that cannot be read is not among them. It is then read by itself, which raises what is wrong.

    Args:
        connection: The database.
        settings: The settings of the readers.
        snapshots: The snapshots, whose files need no preparation.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, settings: ReadSettings, snapshots: Iterable[LandedSnapshot]
    ) -> None:
        self._settings, self._connection, self._row_count = settings, connection, 0
        self._loaded: dict[datetime, LoadedSnapshot] = {}
        self._batches: dict[str, list[pa.RecordBatch]] = {}  # by the query that validates them
        for snapshot in snapshots:
            # What is wrong with it is raised when it is its turn.
            with suppress(DataRefused, NeedsSparkError, pa.ArrowException, OSError):
                self._read(snapshot)
        try:
            self._validate()
        except duckdb.Error:  # such as a value that only Spark casts: each is read by itself
            self._loaded = {}
        self._batches = {}

    def find(self, settings: ReadSettings, snapshot: LandedSnapshot) -> LoadedSnapshot | None:
        """Return a snapshot that was read with these settings, or None.

        Args:
            settings: The settings of the readers.
            snapshot: The snapshot, as its files are read.
        """
        same_table = settings.table is self._settings.table
        if not same_table or settings.optional_columns != self._settings.optional_columns:
            return None
        found = self._loaded.get(snapshot.time)
        return found if found and found.snapshot is snapshot else None

    def _read(self, snapshot: LandedSnapshot) -> None:
        require_moderate_rows(self._settings.table, snapshot)
        files, starts, parts, count = open_files(self._settings, snapshot), list[int](), [], 0
        for file in files:
            starts.append(count)
            for batch in file.read():
                query = _validated_sql(self._settings.table, file, ["n", *batch.schema.names])
                parts.append((query, _with_numbers(batch, self._row_count + count)))
                count += batch.num_rows
        self._loaded[snapshot.time] = LoadedSnapshot(snapshot, files, self._row_count, starts, count)
        self._row_count += count
        for query, batch in parts:
            self._batches.setdefault(query, []).append(batch)

    def changes_since(self, loaded: LoadedSnapshot, time_before: datetime) -> ChainedChanges | None:
        """Return what a snapshot changes in the rows of another one, if it was compared with that one; else None.

        Args:
            loaded: The snapshot.
            time_before: The time of the other one.
        """
        return self._chain.find(loaded, time_before) if self._chain else None

    def fill_tables(self, loaded: LoadedSnapshot, chained: ChainedChanges) -> None:
        """Fill the tables `rows` and `found` for a snapshot, as if it had been compared by itself."""
        loaded.copy_rows(self._connection)
        assert self._chain is not None
        self._chain.fill_found(chained)

    @cached_property
    def _chain(self) -> Chain | None:
        """The comparisons of these snapshots; None if they cannot be made together."""
        table = self._settings.table
        try:
            return Chain(self._connection, table, stored_schema(table), list(self._loaded.values()))
        except (duckdb.Error, pa.ArrowException):
            return None

    def _validate(self) -> None:
        connection = self._connection
        types = [str(sql_type(field.dataType)) for field in stored_schema(self._settings.table)]
        create_rows(connection, "preloaded", types)
        for query, batches in self._batches.items():
            execute_over(connection, "batches", batches[0].schema, batches, f"INSERT INTO preloaded {query}")
        times, firsts = [*self._loaded], [each.first for each in self._loaded.values()]
        faulty = connection.execute("SELECT n FROM preloaded WHERE bad").fetchall()
        for at in {bisect_right(firsts, number) - 1 for (number,) in faulty}:
            self._loaded[times[at]] = replace(self._loaded[times[at]], has_faults=True)
