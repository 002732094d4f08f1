"""Defines the input and the result of a reader: settings, and the fields of a file before they are validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.schema.table_schema import declared_schema


@dataclass(frozen=True)
class ReadSettings:
    """The settings of a table's reader.

    Attributes:
        spark: The session to read in.
        table: The table's configuration.
        time_zone: The zone of timestamps that name none.
        optional_columns: Declared columns that a file may lack; they are null then. Others must be there.
    """

    spark: SparkSession
    table: Table
    time_zone: str
    optional_columns: frozenset[str] = frozenset()

    @cached_property
    def declared(self) -> T.StructType:
        """The declared columns with their types."""
        return declared_schema(self.table)

    @cached_property
    def names_in_files(self) -> dict[str, str]:
        """The declared columns, each with its name in the files."""
        return {column: self.table.name_in_files(column) for column in self.declared.names}


@dataclass(frozen=True)
class ParsedField:
    """A declared column of a file, as three columns of its rows.

    Attributes:
        text: The field as text, as it is in the file.
        value: Its value, of the declared type; null if the text has none.
        reason: Why the text has no value, or null.
    """

    text: Column
    value: Column
    reason: Column


@dataclass(frozen=True)
class ParsedFile:
    """The rows of a file, before they are validated.

    Attributes:
        rows: The DataFrame that all columns below are columns of.
        columns: The declared columns, in order.
        received_json: The row as received, as JSON.
        row_error: Why a row cannot be split into fields, or null; None if that cannot happen.
        raw_record: The text of a row that cannot be split.
        record_count: The number of records by an independent reader, or None if every line is a record.
        unknown_columns: Columns of the file that the schema does not name.
        missing_columns: Declared columns that the file lacks.
    """

    rows: DataFrame
    columns: Mapping[str, ParsedField]
    received_json: Column
    row_error: Column | None
    raw_record: Column
    record_count: int | None = None
    unknown_columns: tuple[str, ...] = ()
    missing_columns: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ParsedSnapshot:
    """The validated rows of a snapshot.

    Attributes:
        rows: The declared columns, and `PROBLEMS`, `RECEIVED` and `KEY_STATE` of `snapshot_reader`.
        record_count: The number of records by an independent reader, or None if every line is a record.
        unknown_columns: Columns of the files that the schema does not name.
        missing_columns: Declared columns that none of the files has.
    """

    rows: DataFrame
    record_count: int | None
    unknown_columns: tuple[str, ...]
    missing_columns: frozenset[str]
