"""Defines the result of a reader of this package: the rows of one file, and the SQL for their declared columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
from pyspark.sql import types as T

from lakehouse.ingest.local.errors import NeedsSparkError
from lakehouse.ingest.local.sql_casts import cast_sql, in_range_sql
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake.duckdb_sql import literal
from lakehouse.schema.cast import type_fault


class LocalColumn(NamedTuple):
    """The SQL for a declared column, over the columns of the batches.

    Attributes:
        text: The field as text, as it is in the file.
        value: Its value, of the declared type; null if the text has none.
        fault: Why the text is not accepted, or null.
    """

    text: str
    value: str
    fault: str


def column_of_name(settings: ReadSettings, n: int, data_type: T.DataType, text: str) -> LocalColumn:
    """Return a column that a file's name has, for all rows of the file.

    Args:
        settings: The settings of the readers.
        n: Its position among the declared columns.
        data_type: Its declared type.
        text: Its text in the name.

    Raises:
        NeedsSparkError: Only Spark casts a text to the type.
    """
    options, written = settings.table.options, f"CAST({literal(text)} AS VARCHAR)"
    cast = cast_sql(written, data_type, settings.time_zone, options)
    if cast is None:
        raise NeedsSparkError
    fault = f"CASE WHEN v{n} IS NULL THEN {literal(type_fault(data_type, options))} END"
    return LocalColumn(written, in_range_sql(cast, data_type), fault)


class BrokenRow(NamedTuple):
    """A record that cannot be split into fields.

    Attributes:
        raw: Its text.
        received: The record as received, as JSON.
        reason: Why it cannot be split.
    """

    raw: str
    received: str
    reason: str


@dataclass
class LocalFile:
    """The rows of a file, before they are validated.

    Attributes:
        columns: The declared columns, in order.
        read: Yields the rows, in batches of the columns that `columns` needs. Can be called again.
        received: Returns the rows at these positions as received, as JSON.
        broken: The records that cannot be split; complete when all batches were read.
        unknown_columns: Columns of the file that the schema does not name; complete when all batches were read.
        missing_columns: Declared columns that the file lacks; complete when all batches were read.
        record_count: The number of records by an independent reader, or None if every line is a record.
        in_name: The texts of the columns that the file's name has, by column.
    """

    columns: Mapping[str, LocalColumn]
    read: Callable[[], Iterator[pa.RecordBatch]]
    received: Callable[[Collection[int]], dict[int, str]]
    broken: list[BrokenRow] = field(default_factory=list)
    unknown_columns: tuple[str, ...] = ()
    missing_columns: frozenset[str] = frozenset()
    record_count: int | None = None
    in_name: Mapping[str, str] = field(default_factory=dict)
