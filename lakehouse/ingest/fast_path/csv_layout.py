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
from lakehouse.ingest.readers.fields import named
from lakehouse.schema.cast import cast_text
from lakehouse.storage.landing import LandedSnapshot

# Options by which a field is still what stands between two separators.
_PLAIN = frozenset({"header", "sep", "encoding", "quote", "escape", "nullvalue", "locale"})
_PLAIN |= {"dateformat", "timestampformat", "timestampntzformat"}


@dataclass(frozen=True)
class Layout:
    """How lines become fields.

    Attributes:
        header: the first line of every file, without its end; empty where there is none.
        width: fields of a line.
        at: the declared columns, by name, and where each stands.
    """

    dialect: Dialect
    header: str
    width: int
    at: Mapping[str, int]
    types: T.StructType

    @classmethod
    def of(cls, table: Table, declared: T.StructType, landed: LandedSnapshot) -> Layout | None:
        """The layout that all files have; None where a line is not a record, or the files differ."""
        dialect = Dialect.of(table.options)
        spanning = any(dialect.may_span_lines(file) or not file.is_utf8 for file in landed.files)
        if spanning or not set(dialect.options) <= _PLAIN or not dialect.is_utf8:
            return None
        headers = {dialect.first_line(path) if dialect.has_header else "" for path in landed.paths}
        if len(headers) != 1:
            return None
        try:
            names, at = csv_reader.found(dialect, landed.paths[0], named(table, declared))
        except DataRefused:
            return None  # the ordinary path says why
        return cls(dialect, headers.pop(), len(names), at, declared)

    def is_header(self, line: Column) -> Column:
        # Spark's text reader takes a byte order mark off a file's first line only where a block begins.
        return line.isin(self.header, f"\ufeff{self.header}") if self.header else F.lit(False)

    def is_blank(self, line: Column) -> Column:
        """Whether Spark's CSV reader drops the line."""
        return ~line.rlike(r"[^\x00-\x20]")

    def is_whole(self, line: Column) -> Column:
        """Whether the line is a row with as many fields as the header."""
        return (F.size(self._parts(line)) == self.width) & ~self.is_header(line)

    def values(self, line: Column, columns: Iterable[str], zone: str) -> dict[str, Column]:
        """Columns of a whole line, null where they cannot be read."""
        found = {}
        for name in columns:
            text = F.get(self._parts(line), F.lit(self.at[name]))
            null = text.isin("", self.dialect.options.get("nullvalue", ""))
            found[name], _ = cast_text(F.when(~null, text), self.types[name].dataType, zone, dict(self.dialect.options))
        return found

    def _parts(self, line: Column) -> Column:
        return F.split(line, rf"\Q{self.dialect.options['sep']}\E", -1)
