"""Defines the input and the result of a reader: settings, and the fields of a file before they are validated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.schema.cast import cast_text
from lakehouse.schema.table_schema import declared_schema
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.landing import LandedFile


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
        """The declared columns that the files contain, each with its name there; the others are in the files' names."""
        in_names = self.table.file_pattern.columns
        return {c: self.table.name_in_files(c) for c in self.declared.names if c not in in_names}

    def name_texts(self, file: LandedFile) -> dict[str, str]:
        """Return the texts of the columns that a file's name has, by column.

        Args:
            file: The file, perhaps one out of an archive.

        Raises:
            DataRefused: The file was landed under another `file`, which its name does not match.
        """
        pattern = self.table.file_pattern
        values = pattern.find_values(file.name) if pattern.columns else {}
        if values is None:
            raise DataRefused(
                f"{file.name} does not match {pattern.text}",
                expected=f"a name that has the column {', '.join(pattern.columns)}",
                where=file.name,
                next_step="correct `file`; or deliver the snapshot again, with a time of its own",
            )
        return values

    def require_not_in_name(self, names: Iterable[str], path: StorePath) -> None:
        """Raise if a file contains a column that is taken from its name.

        Args:
            names: The names of the file's columns.
            path: The file.

        Raises:
            ConfigError: With the names of the columns.
        """
        in_names = {column.lower() for column in self.table.file_pattern.columns}
        if both := sorted({name for name in names if name.lower() in in_names}):
            raise ConfigError(
                f"{path.name} contains {', '.join(both)}, which `file` takes from the file's name",
                expected="a column in the files or in their names, not both",
                where=str(path),
                next_step=f"write * in `file` for the placeholder, or rename the column in `schema`: {self.table.file}",
            )


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


def field_of_name(settings: ReadSettings, column: str, text: str) -> ParsedField:
    """Return a column that a file's name has, for all rows of the file.

    Args:
        settings: The settings of the reader.
        column: The declared column.
        text: Its text in the name.
    """
    literal = F.lit(text)
    return ParsedField(
        literal,
        *cast_text(literal, settings.declared[column].dataType, settings.time_zone, settings.table.options),
    )


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
