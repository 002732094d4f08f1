"""Shows Delta tables and change sets as views of a DuckDB database in the driver, for verbs that start no JVM.

    with open_database() as database:
        database.add_table("silver.items", spark, address)
        database.fetch('SELECT count(*) FROM silver.items')

Files on a disk are read where they are, with their deletion vectors. Others are collected by Spark.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from lakehouse.lake import change_sets, delta, small_tables
from lakehouse.lake.cdc import CDC_COLUMNS, DELETE, END_AT, GOES_MISSING, IS_BACK, START_AT
from lakehouse.lake.duckdb_sql import literal, parquet, quote
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.table_ref import TableRef
from lakehouse.lake.table_rows import TableRows, rows_of
from lakehouse.storage.file_io import StorePath

_MEMORY_LIMIT = "2GB"  # beyond it a query fails: what it would write to disk are rows of the lake


class NeedsSparkError(Exception):
    """Only Spark can read it."""


@contextmanager
def open_database() -> Iterator[Database]:
    """Open a database in memory for the length of a `with` block."""
    connection = duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": ""})
    try:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        # A name in a query is a view of this module, never a variable of this program.
        connection.execute("SET python_enable_replacements = false")
        yield Database(connection)
    finally:
        connection.close()


class Database:
    """A DuckDB database with views of tables of the lake."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self._files: list[str] = []
        self._registered = 0

    def add_table(self, view: str, spark: SparkSession, address: str, version: int | None = None) -> T.StructType:
        """Add a view of a Delta table, and return its columns.

        Args:
            view: The view's name, with its schema: `silver.items`.
            spark: The session for a table that only Spark can read.
            address: The table's address.
            version: The version to read; None: the current one.
        """
        found = delta.data_files(address, version, with_vectors=True)
        rows = rows_of(address, found, found.schema) if found else None
        if found is None or rows is None:
            frame = delta.read(spark, address, version)
            self.add_frame(view, frame)
            return frame.schema
        self._create_view(view, self._rows_sql(rows, found.schema))
        return found.schema

    def add_frame(self, view: str, rows: DataFrame) -> None:
        """Add a view of rows that Spark collects.

        Args:
            view: The view's name.
            rows: The rows.
        """
        self._create_view(view, f"SELECT * FROM {self._register(rows.toArrow())}")

    def add_last_changes(self, view: str, table: TableRef, entries: Iterable[LedgerEntry]) -> None:
        """Add a view of the live rows after some change sets, as `fold.fold_change_sets` computes them for `scd: 1`.

        Args:
            view: The view's name.
            table: The table.
            entries: The ledger rows of the change sets.

        Raises:
            NeedsSparkError: A change set was written with other types than today's, or only Spark can read it.
            ConfigError: `pii` was changed since the change sets were written.
        """
        entries = list(entries)
        source, keeps_missing = self._change_sets_sql(table, entries), any(entry.keeps_missing for entry in entries)
        keys = ", ".join(map(quote, table.config.keys))
        of_key = f"OVER (PARTITION BY {keys} ORDER BY _cdc_sequence DESC"
        # A key that goes missing, or is back, keeps its row with the `_cdc_*` columns of the change before that.
        is_own = f"_cdc_operation NOT IN ('{GOES_MISSING}', '{IS_BACK}')"
        own = [
            f"first_value(CASE WHEN {is_own} THEN {name} END IGNORE NULLS) {of_key}"
            f" ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS {name}"
            for name in CDC_COLUMNS
        ]
        own = own if keeps_missing else CDC_COLUMNS
        columns = ", ".join(map(quote, table.schema.names))
        ranked = f"row_number() {of_key}) AS _cdc_rank, _cdc_operation AS _cdc_last"
        changes = f"SELECT {columns}, {', '.join(own)}, {ranked} FROM ({source})"
        names = ", ".join(map(quote, [*table.schema.names, *CDC_COLUMNS]))
        self._create_view(view, f"SELECT {names} FROM ({changes}) WHERE _cdc_rank = 1 AND _cdc_last <> '{DELETE}'")

    def add_changes(self, view: str, table: TableRef, entries: Iterable[LedgerEntry]) -> None:
        """Add a view of the rows of some change sets, by the declared schema.

        Args:
            view: The view's name.
            table: The table.
            entries: The ledger rows of the change sets.

        Raises:
            NeedsSparkError: One was written with other types than today's, or only Spark can read it.
            ConfigError: `pii` was changed since one was written.
        """
        self._create_view(view, self._change_sets_sql(table, list(entries)))

    def add_view(self, view: str, query: str) -> None:
        """Add a view of a query over the others.

        Args:
            view: The view's name.
            query: The query.
        """
        self._create_view(view, query)

    def add_windows_at(self, view: str, table: TableRef, time: datetime, hidden: Collection[str] = ()) -> None:
        """Add a view of the rows of a history (`scd: 2`) whose window includes a time, as `scd2.is_valid_at` tells.

        Args:
            view: The view's name.
            table: The table.
            time: The time.
            hidden: The columns to show as null.
        """
        all_windows = f"_windows.{view.partition('.')[2]}"
        fields = self.add_table(all_windows, table.spark, table.bronze)
        added = [f for f in table.schema if f.name not in fields.names]
        if added:
            raise NeedsSparkError
        names = [*table.schema.names, *CDC_COLUMNS]
        kept = self.columns(all_windows)
        columns = ", ".join(f"CAST(NULL AS {kept[n]}) AS {quote(n)}" if n in hidden else quote(n) for n in names)
        schema, _, name = all_windows.partition(".")
        moment = f"TIMESTAMPTZ {literal(time.isoformat())}"
        is_valid = f"{START_AT} <= {moment} AND ({END_AT} IS NULL OR {END_AT} > {moment})"
        self._create_view(view, f"SELECT {columns} FROM {quote(schema)}.{quote(name)} WHERE {is_valid}")

    def columns(self, view: str) -> dict[str, str]:
        """Return the names and types of a view's columns.

        Args:
            view: The view's name.
        """
        schema, _, name = view.partition(".")
        found = self.connection.sql(f"SELECT * FROM {quote(schema)}.{quote(name)}")
        return {name: str(kind) for name, kind in zip(found.columns, found.types, strict=True)}

    def close_to_files(self) -> None:
        """Let no further query read other files than those of the views, or write any."""
        paths = ", ".join(map(literal, self._files))
        self.connection.execute(f"SET allowed_paths = [{paths}]")
        self.connection.execute("SET enable_external_access = false; SET lock_configuration = true")

    def fetch(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the rows of a query, each by the names of its columns.

        Args:
            query: The query.
            parameters: The values of its `$name`.
        """
        found = self.connection.sql(query, params=dict(parameters or {})).to_arrow_table()
        return small_tables.to_dicts(found)

    def _change_sets_sql(self, table: TableRef, entries: list[LedgerEntry]) -> str:
        fields = change_sets.fields_of(table, any(entry.keeps_missing for entry in entries))
        declared = {field.name: field.dataType for field in fields}
        files: list[StorePath] = []
        for entry in (each for each in entries if each.path):
            written = change_sets.written_schema(table, entry)
            change_sets.require_same_pii(table, entry, written)
            if any(field.dataType != declared.get(field.name, field.dataType) for field in written):
                raise NeedsSparkError
            files += change_sets.data_files(table, entry)
        return self._rows_sql(TableRows(frozenset(declared), tuple(files)), fields)

    def _create_view(self, view: str, query: str) -> None:
        schema, _, name = view.partition(".")
        self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
        self.connection.execute(f"CREATE VIEW {quote(schema)}.{quote(name)} AS {query}")

    def _register(self, rows: pa.Table) -> str:
        self._registered += 1
        name = f"_cdc_rows_{self._registered}"
        self.connection.register(name, rows)
        return f"memory.main.{name}"

    def _rows_sql(self, rows: TableRows, fields: T.StructType) -> str:
        """Return the SQL for the rows of a table; a column that a file does not have is null."""
        parts = [f"SELECT * FROM {self._register(pa.Table.from_batches([], small_tables.arrow_schema(fields)))}"]
        plain = rows.plain_files
        if plain:
            self._files += map(str, plain)
            parts.append(f"SELECT * FROM {parquet(plain)}")
        for file in (each for each in rows.files if each not in set(plain)):
            if isinstance(file, Path):
                self._files.append(str(file))
                deleted = self._register(pa.table({"n": rows.deleted_positions(file)}))
                source = parquet([file], "file_row_number = true")
                parts.append(
                    f"SELECT * EXCLUDE (file_row_number) FROM {source}"
                    f" WHERE file_row_number NOT IN (SELECT n FROM {deleted})"
                )
        remote: list[StorePath] = [file for file in rows.files if not isinstance(file, Path)]
        if remote:
            table = pa.Table.from_batches(rows.batches(remote, fields), small_tables.arrow_schema(fields))
            parts.append(f"SELECT * FROM {self._register(table)}")
        columns = ", ".join(map(quote, fields.names))
        return f"SELECT {columns} FROM ({' UNION ALL BY NAME '.join(parts)})"
