"""CSV files whose every line is a record: what can be told of a line without parsing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers import csv_reader
from lakehouse.ingest.readers.csv_dialect import Dialect
from lakehouse.ingest.readers.fields import names_in_files
from lakehouse.schema.cast import cast_text
from lakehouse.storage.landing import LandedSnapshot

# Options by which a field is still what stands between two separators.
_ALLOWED_OPTIONS = frozenset({"header", "sep", "encoding", "quote", "escape", "nullvalue", "locale"})
_ALLOWED_OPTIONS |= {"dateformat", "timestampformat", "timestampntzformat"}


@dataclass(frozen=True)
class CsvLayout:
    """How lines become fields.

    Attributes:
        header: the first line of every file, without its end; empty where there is none.
        width: fields of a line.
        at: the declared columns, by name, and where each stands.
    """

    dialect: Dialect
    header: str
    width: int
    positions: Mapping[str, int]
    types: T.StructType

    @classmethod
    def from_files(cls, table: Table, declared: T.StructType, snapshot: LandedSnapshot) -> CsvLayout | None:
        """The layout that all files have; None where a line is not a record, or the files differ."""
        dialect = Dialect.from_options(table.options)
        spanning = any(dialect.may_span_lines(file) or not file.is_utf8 for file in snapshot.files)
        if spanning or not set(dialect.options) <= _ALLOWED_OPTIONS or not dialect.is_utf8:
            return None
        headers = {dialect.first_line(path) if dialect.has_header else "" for path in snapshot.paths}
        if len(headers) != 1:
            return None
        try:
            names, at = csv_reader.locate_columns(dialect, snapshot.paths[0], names_in_files(table, declared))
        except DataRefused:
            return None  # the ordinary path says why
        return cls(dialect, headers.pop(), len(names), at, declared)

    def is_header(self, line: Column) -> Column:
        # Spark's text reader takes a byte order mark off a file's first line only where a block begins.
        return line.isin(self.header, f"\ufeff{self.header}") if self.header else F.lit(False)

    def is_blank(self, line: Column) -> Column:
        """Whether Spark's CSV reader drops the line."""
        return ~line.rlike(r"[^\x00-\x20]")

    def is_complete(self, line: Column) -> Column:
        """Whether the line is a row with as many fields as the header."""
        return (F.size(self._split(line)) == self.width) & ~self.is_header(line)

    def column_values(self, line: Column, columns: Iterable[str], time_zone: str) -> dict[str, Column]:
        """Columns of a whole line, null where they cannot be read."""
        found = {}
        for name in columns:
            text = F.get(self._split(line), F.lit(self.positions[name]))
            null = text.isin("", self.dialect.options.get("nullvalue", ""))
            found[name], _ = cast_text(
                F.when(~null, text), self.types[name].dataType, time_zone, dict(self.dialect.options)
            )
        return found

    def _split(self, line: Column) -> Column:
        return F.split(line, rf"\Q{self.dialect.options['sep']}\E", -1)
