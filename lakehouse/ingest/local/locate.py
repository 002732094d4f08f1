"""Finds rows of a table in the files of a landed snapshot, in the driver: the file, and the position in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.config.row_keys import ROW_COUNT, ROW_ID
from lakehouse.ingest.local.errors import NeedsSparkError
from lakehouse.ingest.local.load import OPENERS
from lakehouse.ingest.local.local_file import LocalFile
from lakehouse.ingest.local.sql_casts import create_functions, sql_type
from lakehouse.ingest.readers import csv_reader, json_reader
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake import small_tables
from lakehouse.schema.table_schema import stored_schema
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.landing import LandedFile, LandedSnapshot

_MEMORY_LIMIT = "2GB"  # the rows of a file are read in batches, and only those that are wanted are collected


@dataclass(frozen=True)
class Place:
    """Where a row is in a landed snapshot.

    Attributes:
        file: The name of the file.
        line: The line on which it begins, of Parquet the number of the row; None if it is not known.
        is_equal: Whether all values are those that were wanted, not only the key.
    """

    file: str
    line: int | None
    is_equal: bool


def locate_rows(
    settings: ReadSettings, snapshot: LandedSnapshot, rows: Sequence[Mapping[str, Any]]
) -> dict[int, Place] | None:
    """Return where each row is, by its number in `rows`; those that no file has are left out.

    Of several rows with a key, the first one that is equal in all columns counts, else the first one.

    Args:
        settings: The settings of the readers.
        snapshot: The snapshot, with files that are prepared for reading.
        rows: The rows, with the values that the lake stores.

    Returns:
        None if only Spark can read the files, or if the key is personal, so that the files do not have it as stored.

    Raises:
        DataRefused: A file cannot be read.
    """
    table = settings.table
    in_files = [f for f in stored_schema(table) if f.name not in (*table.pii, ROW_ID, ROW_COUNT)]
    fields = [f for f in in_files if sql_type(f.dataType)]
    if not set(table.identifying_columns) <= {f.name for f in fields}:
        return None
    with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": ""}) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false; SET max_expression_depth TO 100000")
        try:
            create_functions(connection, settings.time_zone)
            _insert_wanted_rows(connection, rows, fields)
            found: dict[int, Place] = {}
            for file, path in zip(snapshot.files, snapshot.paths, strict=True):
                opened = OPENERS[table.format](settings, file, path)
                positions = _positions(connection, table, fields, opened)
                lines = _lines(table, opened, file, path, {at for at, _ in positions.values()})
                for number, (at, is_equal) in positions.items():
                    place = Place(file.name, lines.get(at), is_equal)
                    if number not in found or (is_equal and not found[number].is_equal):
                        found[number] = place
            return found
        except (NeedsSparkError, duckdb.Error, pa.ArrowException):
            return None


def _insert_wanted_rows(
    connection: duckdb.DuckDBPyConnection, rows: Sequence[Mapping[str, Any]], fields: Sequence[T.StructField]
) -> None:
    """Make the table `wanted`: the numbers of the rows, and their values as `b0`, `b1` ...

    Arrow could make it of the values, but `pa.array` imports pandas, which takes a quarter of a second.
    """
    columns = ", ".join(f"b{n} {sql_type(field.dataType)}" for n, field in enumerate(fields))
    connection.execute(f"CREATE TEMP TABLE wanted (i BIGINT, {columns})")
    values = [[number, *(row[field.name] for field in fields)] for number, row in enumerate(rows)]
    connection.executemany(f"INSERT INTO wanted VALUES (?{', ?' * len(fields)})", values)


def wanted_rows(rows: Sequence[Mapping[str, Any]], fields: Sequence[T.StructField]) -> pa.Table:
    """Return rows with their numbers, and their values as `b0`, `b1` ...; instants are in UTC without a zone.

    Args:
        rows: The rows.
        fields: The columns.
    """
    schema = small_tables.arrow_schema(T.StructType(list(fields)))
    columns = [pa.array([row[f.name] for row in rows], f.type) for f in schema]  # imports pandas; Spark does, too
    plain = [c.cast(pa.timestamp("us")) if pa.types.is_timestamp(c.type) else c for c in columns]
    return pa.table([small_tables.int_array(range(len(rows))), *plain], ["i", *(f"b{n}" for n in range(len(plain)))])


def _positions(
    connection: duckdb.DuckDBPyConnection, table: Table, fields: Sequence[T.StructField], file: LocalFile
) -> dict[int, tuple[int, bool]]:
    """Return the position of each wanted row in a file, and whether the row there is equal."""
    batches = _numbered(file.read())
    first = next(batches, None)
    if first is None:
        return {}
    connection.register("batches", pa.RecordBatchReader.from_batches(first.schema, _chain(first, batches)))
    values = ", ".join(f"{file.columns[field.name].value} AS v{n}" for n, field in enumerate(fields))
    is_same = "IS NOT DISTINCT FROM" if table.counts_rows else "="
    identity = [n for n, field in enumerate(fields) if field.name in table.identifying_columns]
    keys = " AND ".join(f"r.v{n} {is_same} w.b{n}" for n in identity)
    equal = " AND ".join(f"r.v{n} IS NOT DISTINCT FROM w.b{n}" for n in range(len(fields)))
    found = connection.execute(
        f"SELECT w.i, min(r.n) FILTER ({equal}) AS equal, min(r.n) AS at FROM (SELECT n, {values} FROM batches) r"
        f" JOIN wanted w ON {keys} GROUP BY w.i"
    ).fetchall()
    connection.unregister("batches")
    return {number: (at if equal is None else equal, equal is not None) for number, equal, at in found}


def _numbered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in batches:
        numbers = small_tables.int_array(range(start, start + batch.num_rows))
        start += batch.num_rows
        yield pa.RecordBatch.from_arrays([numbers, *batch.columns], names=["n", *batch.schema.names])


def _chain(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


def _lines(table: Table, opened: LocalFile, file: LandedFile, path: StorePath, positions: set[int]) -> dict[int, int]:
    """Return the line of each position in a file, of Parquet its number from 1 on."""
    if table.format == "parquet":
        return {at: at + 1 for at in positions}
    texts = opened.received(positions) if positions else {}
    numbers = line_numbers(table, file, path, set(texts.values()))
    return {at: numbers[text] for at, text in texts.items() if text in numbers}


def line_numbers(table: Table, file: LandedFile, path: StorePath, texts: set[str]) -> dict[str, int]:
    """Return the line on which each of some rows first begins in a file, as far as its format has lines.

    Args:
        table: The table's configuration.
        file: The file as it was landed.
        path: The file to read.
        texts: The rows as received.
    """
    if table.format == "parquet" or not texts:
        return {}
    if table.format == "csv":
        return csv_reader.line_numbers(table, {file: path}, texts)
    found = json_reader.line_numbers(table, {file: path}, texts)
    return found if len(found) == len(texts) else _object_lines(path, texts) | found


def _object_lines(path: StorePath, texts: set[str]) -> dict[str, int]:
    """Return the line on which each of some objects first begins that are in an array, or span lines."""
    objects = json_reader.split_objects(path)
    if objects is None:
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        content = file.read()
    found: dict[str, int] = {}
    at, line = 0, 1
    for text in objects:
        begin = content.find(text, at)
        if begin < 0:  # written in another way than it is received
            return found
        line += content.count("\n", at, begin)
        if text in texts:
            found.setdefault(text, line)
        line, at = line + text.count("\n"), begin + len(text)
    return found
