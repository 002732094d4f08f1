"""A landed CSV file as Spark's own typed reader takes it: a second opinion beside `ingest`, which converts text."""

from __future__ import annotations

import csv
import secrets
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TextIO

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Pipeline, Table, locales, options, patterns
from lakehouse.lake import delta, forgotten_keys
from lakehouse.lake.change_sets import count_erased
from lakehouse.lake.ledger import LedgerEntry, LedgerHistory
from lakehouse.schema import pii
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath, escape_glob
from lakehouse.storage.paths import Lake
from lakehouse.verify.check import quoted_column

UNREADABLE = "_cdc_untaken"  # the record, where the reader cannot take it as the schema says
_EMPTY_TEXT = secrets.token_hex(16)  # what the reader puts for "", so that a blank stays null; no file can know it
_DEFAULT_OPTIONS = {"header": "true", "sep": ",", "quote": '"', "encoding": "UTF-8"}  # the contract's defaults
_OWN_OPTIONS = ("locale", "dateformat", "timestampformat", "timestampntzformat")
_TRUE_WORDS, _FALSE_WORDS = ["true", "t", "yes", "y", "1"], ["false", "f", "no", "n", "0"]


@dataclass(frozen=True)
class CheckedTable:
    """A table of the lake, as its checks need it; its history has at least one accepted snapshot."""

    spark: SparkSession
    lake: Lake
    pipeline: Pipeline
    name: str
    history: LedgerHistory

    @property
    def accepted(self) -> list[LedgerEntry]:
        """What the ledger says of each sequence."""
        return self.history.accepted

    @cached_property
    def unverifiable_sequences(self) -> frozenset[int]:
        """Sequences whose change set was dropped, and perhaps with it the word of what was forgotten of it."""
        dropped = {e.sequence or 0 for e in self.accepted if self.history.is_dropped(e)}
        return frozenset(dropped if forgotten_keys.read_hashes(self.spark, self.lake, self.name) else ())

    @cached_property
    def forgotten_counts(self) -> dict[str, Counter[str]]:
        """How many rows of each operation were forgotten of a change set, by its path."""
        paths = sorted({e.path for e in (*self.accepted, *self.history.entries_to_fold) if e.path})
        return dict(zip(paths, file_io.map_paths(count_erased, map(self.lake.path, paths)), strict=True))

    @property
    def config(self) -> Table:
        return self.pipeline.tables[self.name]

    @property
    def file_schema(self) -> T.StructType:
        """What the files hold."""
        return nullable_schema(self.config.schema_ddl)

    @property
    def schema(self) -> T.StructType:
        """What the lake holds."""
        return pii.protected_schema(self.file_schema, self.config)

    @property
    def last_accepted(self) -> LedgerEntry:
        return self.accepted[-1]


def current_rows(subject: CheckedTable) -> DataFrame:
    """Bronze's rows as of now: of a history, its open windows."""
    bronze = delta.read(subject.spark, subject.lake.bronze_table(subject.name))
    return bronze.where("__END_AT IS NULL").drop("__START_AT", "__END_AT") if subject.config.scd == 2 else bronze


def read_typed(subject: CheckedTable, path: StorePath) -> DataFrame:
    """A landed file by the declared schema, read by Spark's own typed reader; `UNTAKEN` where it cannot.

    Of personal columns it holds what the lake may.
    """
    fields = {subject.config.name_in_files(f.name).lower(): f for f in subject.file_schema}
    given = _reader_options(subject.config)
    names = _read_header(path, given) if given["header"].lower() == "true" else list(fields)
    found = [fields.get(name.strip().lower()) for name in names]
    there = {field.name.lower() for field in found if field}
    columns = [_reader_field(subject, field, at) for at, field in enumerate(found)]
    line_ends = _line_end_options(path, given)
    reading = {"escape": given["quote"], "nullvalue": "", "emptyvalue": _EMPTY_TEXT} | line_ends
    reading |= {name: value for name, value in given.items() if name not in _OWN_OPTIONS}
    reading |= {"mode": "PERMISSIVE", "columnnameofcorruptrecord": UNREADABLE, "enforceschema": "true"}
    schema = T.StructType([*columns, T.StructField(UNREADABLE, T.StringType())])
    rows = subject.spark.read.options(**reading).schema(schema).csv(escape_glob(path))
    texts = [
        _unreadable_text(subject, f)
        for f in subject.file_schema
        if f.name.lower() in there and _is_read_as_text(subject, f)
    ]
    untaken = F.coalesce(UNREADABLE, *texts).alias(UNREADABLE)
    values = {f.name: _value_column(subject, f, f.name.lower() in there) for f in subject.file_schema}
    kept = {name: pii.protected_value(name, value, subject.config) for name, value in values.items()}
    return rows.select(*[value.alias(name) for name, value in kept.items() if value is not None], untaken)


def _reader_options(table: Table) -> dict[str, str]:
    """A table's options by Spark's names in lower case, over the contract's defaults."""
    given = _DEFAULT_OPTIONS | {options.ALIASES.get(k.lower(), k.lower()): v for k, v in table.options.items()}
    return given | {"encoding": options.canonical_charset(given["encoding"]) or given["encoding"]}


def _is_read_as_text(subject: CheckedTable, field: T.StructField) -> bool:
    """Whether a column is read as text and then taken by `from_text`: the reader knows no epochs and two booleans."""
    if isinstance(field.dataType, T.NumericType):
        return "locale" in _reader_options(subject.config)
    return isinstance(field.dataType, T.BooleanType | T.DateType | T.TimestampType | T.TimestampNTZType)


def _reader_field(subject: CheckedTable, field: T.StructField | None, at: int) -> T.StructField:
    """What the reader is asked for: text where nothing is declared, too."""
    if field is None:
        return T.StructField(f"_other_{at}", T.StringType())
    return T.StructField(field.name, T.StringType()) if _is_read_as_text(subject, field) else field


def _value_column(subject: CheckedTable, field: T.StructField, there: bool) -> Column:
    """A declared column of what was read."""
    column = quoted_column(field.name)
    if not there:  # added to the schema after this snapshot was taken
        column = F.lit(None).cast(field.dataType)
    elif isinstance(field.dataType, T.StringType):
        column = F.when(column == _EMPTY_TEXT, "").otherwise(column)
    elif _is_read_as_text(subject, field):
        column = parse_text(subject, field, column)
    return column.alias(field.name)


def _unreadable_text(subject: CheckedTable, field: T.StructField) -> Column:
    """The text of a column, where it is nothing of the declared type."""
    return F.when(_value_column(subject, field, True).isNull(), quoted_column(field.name))


def _read_header(path: StorePath, given: dict[str, str]) -> list[str]:
    with _open_text(path, given, newline="") as file:
        rows = csv.reader(
            file,
            delimiter=given["sep"].replace(r"\t", "\t"),
            quotechar=given["quote"] or None,
            quoting=csv.QUOTE_MINIMAL if given["quote"] else csv.QUOTE_NONE,
        )
        return next(row for row in rows if row)


def _line_end_options(path: StorePath, given: dict[str, str]) -> dict[str, str]:
    """Options for the line ends of a file: records may span lines, except where no quote can hold them together.

    A multi-line reader settles for one kind of line end, and unless it is told of a CR it takes it out of quotes.
    """
    with _open_text(path, given) as file:
        has_quote = bool(given["quote"]) and any(given["quote"] in line for line in file)
        if isinstance(file.newlines, tuple) and not has_quote:
            return {"multiline": "false"}
    with _open_text(path, given, newline="") as file:
        first = file.readline()
    line_end = first[len(first.rstrip("\r\n")) :]
    return {"multiline": "true"} | ({"linesep": line_end} if line_end.startswith("\r") else {})


def _open_text(path: StorePath, given: dict[str, str], newline: str | None = None) -> TextIO:
    is_utf8 = given["encoding"].lower().replace("-", "") == "utf8"
    return path.open(encoding="utf-8-sig" if is_utf8 else given["encoding"], errors="replace", newline=newline)


def parse_text(subject: CheckedTable, field: T.StructField, text: Column) -> Column:
    """A cell as the CSV reader takes it, and the words and notations that the reader does not know."""
    kind, given = field.dataType, _reader_options(subject.config)
    if isinstance(kind, T.StringType):
        return text.alias(field.name)
    if isinstance(kind, T.BooleanType):
        word = F.lower(text)
        return F.when(word.isin(_TRUE_WORDS), True).when(word.isin(_FALSE_WORDS), False).alias(field.name)
    if isinstance(kind, T.NumericType):
        found = locales.find_separators(given.get("locale", "en-US")) or locales.Separators(".", ",")
        bare = F.translate(text, found.decimal + found.groups, ".") if "locale" in given else text
        return _parse_cell(bare, kind, {}).alias(field.name)
    formats = {k: v for k, v in given.items() if k in _OWN_OPTIONS and v not in patterns.EPOCH_UNITS}
    parsed = _parse_cell(text, kind, formats | {"timezone": subject.pipeline.timezone})
    return F.coalesce(parsed, _parse_epoch(text, kind, given, subject.pipeline.timezone)).alias(field.name)


def _parse_cell(text: Column, kind: T.DataType, reading: dict[str, str]) -> Column:
    cell = F.concat(F.lit('"'), F.replace(text, F.lit('"'), F.lit('""')), F.lit('"'))
    parsed = F.from_csv(cell, f"value {kind.simpleString()}", {"escape": '"', "mode": "PERMISSIVE"} | reading)
    return parsed["value"]


def _parse_epoch(text: Column, kind: T.DataType, given: dict[str, str], zone: str) -> Column:
    """An integer as an instant: of 13 digits in milliseconds, of any other number where the table says the unit."""
    declared = {"DATE": "dateformat", "TIMESTAMP": "timestampformat"}
    name = declared.get(kind.simpleString().upper(), "timestampntzformat")
    a_second = patterns.EPOCH_UNITS.get(given.get(name, ""))
    form = "^[+-]?[0-9]+$" if a_second else "^-?[0-9]{13}$"
    number = F.when(text.rlike(form), text.try_cast("bigint"))
    instant = F.timestamp_micros(F.try_multiply(number, F.lit(1_000_000 // (a_second or 1_000))))
    if not isinstance(kind, T.DateType):
        return instant.cast(kind)
    is_utc = F.date_trunc("day", instant) == instant
    return F.when(is_utc, instant.cast(kind)).otherwise(F.from_utc_timestamp(instant, zone).cast(kind))


def nullable_schema(ddl: str) -> T.StructType:
    """A schema with every column nullable."""
    declared = T.DataType.fromDDL(ddl)
    assert isinstance(declared, T.StructType)
    return T.StructType([T.StructField(f.name, f.dataType) for f in declared])
