"""Writes Parquet files with DuckDB, and their statistics as Delta records them (PROTOCOL.md: "Per-file Statistics")."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
from pyspark.sql import types as T

from lakehouse.lake.duckdb_sql import literal, quote

_FILE_BYTES = 128 << 20
_OPTIONS = "FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v1"  # Spark does not read all encodings of version 2
_INDEXED_COLUMNS = 32  # Delta's default: of further columns no statistics are kept
_TEXT_LENGTH = 32  # of a bound; longer texts are cut
_LAST_CHARACTER = "\U0010ffff"  # makes a cut text greater than all that begin with it
_NUMBERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType, T.DecimalType, T.FloatType, T.DoubleType)
_JSON_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?)(?:\+00)?")


@dataclass(frozen=True)
class WrittenFile:
    """A Parquet file that was written.

    Attributes:
        path: The file.
        size: Its bytes.
        row_count: Its rows.
        stats: Its statistics as Delta records them.
    """

    path: Path
    size: int
    row_count: int
    stats: str


def write_files(
    connection: duckdb.DuckDBPyConnection, query: str, fields: T.StructType, folder: Path
) -> list[WrittenFile]:
    """Write the rows of a query to Parquet files of limited size; none if there are no rows.

    Args:
        connection: The database, whose time zone is UTC.
        query: The query.
        fields: Its columns.
        folder: The folder to write to, which is created.
    """
    folder.mkdir()
    options = f"{_OPTIONS}, FILE_SIZE_BYTES {_FILE_BYTES}, RETURN_STATS"
    written = connection.execute(f"COPY ({query}) TO {literal(str(folder))} ({options})").fetchall()
    return [
        WrittenFile(Path(name), size, row_count, to_json(stats, row_count, fields))
        for name, row_count, size, _, stats, *_ in written
        if row_count
    ]


def to_json(found: Mapping[str, Mapping[str, str]], row_count: int, fields: T.StructType) -> str:
    """Return the statistics of a file as Delta records them. A bound that is not exact is left out.

    Args:
        found: The statistics of its columns, as DuckDB returns them.
        row_count: Its rows.
        fields: Its columns.
    """
    bounds: dict[str, dict[str, str]] = {"minValues": {}, "maxValues": {}, "nullCount": {}}
    for field in fields.fields[:_INDEXED_COLUMNS]:
        stats = found.get(quote(field.name), {})
        if "null_count" not in stats:
            continue
        bounds["nullCount"][field.name] = stats["null_count"]
        is_exact = all(stats.get(f"{bound}_is_exact") == "true" for bound in ("min", "max"))
        if stats.get("has_nan") == "true" or not is_exact:
            continue
        low, high = (_bound(stats[bound], field.dataType, bound == "max") for bound in ("min", "max"))
        if low is not None and high is not None:
            bounds["minValues"][field.name], bounds["maxValues"][field.name] = low, high
    parts = {name: _to_object(values) for name, values in bounds.items()}
    return _to_object({"numRecords": str(row_count), **parts})


def _to_object(values: Mapping[str, str]) -> str:
    """Return a JSON object of values that are JSON: Python's own numbers would lose digits of a decimal."""
    return "{" + ",".join(f"{_json_text(name)}:{value}" for name, value in values.items()) + "}"


def _json_text(text: str) -> str:
    """Return a text as JSON, with all characters as they are, as Spark writes them.

    Delta-rs, and so Polars, takes the escape of a character beyond U+FFFF for another one (U+20BB7 for U+10BB7): it
    would skip files that have the rows.
    """
    return json.dumps(text, ensure_ascii=False)


def _bound(text: str, data_type: T.DataType, is_upper: bool) -> str | None:
    """Return a bound as JSON, or None if it has no form there."""
    if isinstance(data_type, _NUMBERS):
        return text if _JSON_NUMBER.fullmatch(text) else None
    write: Callable[[str, bool], str | None] | None = None
    if isinstance(data_type, T.DateType):
        write = _date_bound
    elif isinstance(data_type, T.TimestampType | T.TimestampNTZType):
        write = _time_bound
    elif data_type == T.StringType():
        write = _text_bound
    bound = write(text, is_upper) if write else None
    if bound is None:
        return None
    return _json_text(f"{bound}Z" if isinstance(data_type, T.TimestampType) else bound)


def _date_bound(text: str, _: bool) -> str | None:
    return text if _DATE.fullmatch(text) else None


def _time_bound(text: str, is_upper: bool) -> str | None:
    """Return a time in milliseconds, as statistics have it: below it, or for an upper bound above."""
    found = _TIME.fullmatch(text)
    if not found:
        return None
    time = datetime.fromisoformat(found[1])
    rest = timedelta(microseconds=time.microsecond % 1000)
    if is_upper and rest:
        if time.year == datetime.max.year:
            return None
        rest -= timedelta(milliseconds=1)
    return (time - rest).isoformat(timespec="milliseconds")


def _text_bound(text: str, is_upper: bool) -> str | None:
    if len(text) <= _TEXT_LENGTH:
        return text
    if not is_upper:
        return text[:_TEXT_LENGTH]
    return text[:_TEXT_LENGTH] + _LAST_CHARACTER if _LAST_CHARACTER not in text else None
