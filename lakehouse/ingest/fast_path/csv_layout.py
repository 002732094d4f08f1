"""Describes CSV files in which every line is a record: how a line splits into fields, without a CSV parser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.errors import DataRefused
from lakehouse.ingest.readers import csv_reader
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.schema.cast import cast_text
from lakehouse.storage.csv_dialect import Dialect
from lakehouse.storage.landing import LandedSnapshot

# With these options alone, a field is the text between two separators.
_ALLOWED_OPTIONS = frozenset({"header", "sep", "encoding", "quote", "escape", "nullvalue", "locale"})
_ALLOWED_OPTIONS |= {"dateformat", "timestampformat", "timestampntzformat"}


@dataclass(frozen=True)
class CsvLayout:
    """The rules by which lines split into fields.

    Attributes:
        dialect: The CSV options of the table.
        header: The first line of every file, without its line end; empty if there is no header.
        width: The number of fields of a line.
        positions: The position of each declared column, by name.
        types: The declared columns.
    """

    dialect: Dialect
    header: str
    width: int
    positions: Mapping[str, int]
    types: T.StructType

    @classmethod
    def from_files(cls, settings: ReadSettings, snapshot: LandedSnapshot) -> CsvLayout | None:
        """Return the layout that all files of a snapshot have; None if records may span lines, or the files differ.

        Args:
            settings: The reader's settings.
            snapshot: The snapshot.
        """
        dialect = Dialect.from_options(settings.table.options)
        is_spanning = any(dialect.may_span_lines(file) or not file.is_utf8 for file in snapshot.files)
        if is_spanning or not set(dialect.options) <= _ALLOWED_OPTIONS or not dialect.is_utf8:
            return None
        headers = {dialect.first_line(path) if dialect.has_header else "" for path in snapshot.paths}
        if len(headers) != 1:
            return None
        try:
            names, positions = csv_reader.locate_columns(settings, snapshot.paths[0])
        except DataRefused:
            return None  # reading the full snapshot reports the reason
        return cls(dialect, headers.pop(), len(names), positions, settings.declared)

    def is_header(self, line: Column) -> Column:
        """Return the condition that a line is the header."""
        # Spark's text reader removes a file's byte order mark only at the beginning of a block.
        return line.isin(self.header, f"\ufeff{self.header}") if self.header else F.lit(False)

    def is_blank(self, line: Column) -> Column:
        """Return the condition that Spark's CSV reader drops a line."""
        return ~line.rlike(r"[^\x00-\x20]")

    def is_complete(self, line: Column) -> Column:
        """Return the condition that a line is a row with as many fields as the header."""
        return (F.size(self._split(line)) == self.width) & ~self.is_header(line)

    def column_values(self, line: Column, columns: Iterable[str], time_zone: str) -> dict[str, Column]:
        """Return the values of some columns in a complete line; null if they cannot be read.

        Args:
            line: The line.
            columns: The declared names of the columns.
            time_zone: The zone of timestamps that name none.
        """
        options, values = dict(self.dialect.options), {}
        for name in columns:
            text = F.get(self._split(line), F.lit(self.positions[name]))
            is_null = text.isin("", options.get("nullvalue", ""))
            values[name], _ = cast_text(F.when(~is_null, text), self.types[name].dataType, time_zone, options)
        return values

    def _split(self, line: Column) -> Column:
        return F.split(line, rf"\Q{self.dialect.options['sep']}\E", -1)
