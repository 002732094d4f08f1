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
from lakehouse.verify.check import quoted

UNTAKEN = "_cdc_untaken"  # the record, where the reader cannot take it as the schema says
_EMPTY = secrets.token_hex(16)  # what the reader puts for "", so that a blank stays null; no file can know it
_DEFAULTS = {"header": "true", "sep": ",", "quote": '"', "encoding": "UTF-8"}  # the contract's defaults
_OURS = ("locale", "dateformat", "timestampformat", "timestampntzformat")
_TRUE, _FALSE = ["true", "t", "yes", "y", "1"], ["false", "f", "no", "n", "0"]


@dataclass(frozen=True)
class Subject:
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
    def untold(self) -> frozenset[int]:
        """Sequences whose change set was dropped, and perhaps with it the word of what was forgotten of it."""
        dropped = {e.sequence or 0 for e in self.accepted if self.history.is_dropped(e)}
        return frozenset(dropped if forgotten_keys.read_hashes(self.spark, self.lake, self.name) else ())

    @cached_property
    def taken(self) -> dict[str, Counter[str]]:
        """How many rows of each operation were forgotten of a change set, by its path."""
        paths = sorted({e.path for e in (*self.accepted, *self.history.entries_to_fold) if e.path})
        return dict(zip(paths, file_io.map_paths(count_erased, map(self.lake.path, paths)), strict=True))

    @property
    def table(self) -> Table:
        return self.pipeline.tables[self.name]

    @property
    def declared(self) -> T.StructType:
        """What the files hold."""
        return struct(self.table.schema_ddl)

    @property
    def fields(self) -> T.StructType:
        """What the lake holds."""
        return pii.protected_schema(self.declared, self.table)

    @property
    def last(self) -> LedgerEntry:
        return self.accepted[-1]


def live(subject: Subject) -> DataFrame:
    """Bronze's rows as of now: of a history, its open windows."""
    bronze = delta.read(subject.spark, subject.lake.bronze_table(subject.name))
    return bronze.where("__END_AT IS NULL").drop("__START_AT", "__END_AT") if subject.table.scd == 2 else bronze


def typed(subject: Subject, path: StorePath) -> DataFrame:
    """A landed file by the declared schema, read by Spark's own typed reader; `UNTAKEN` where it cannot.

    Of personal columns it holds what the lake may.
    """
    fields = {subject.table.name_in_files(f.name).lower(): f for f in subject.declared}
    given = _options(subject.table)
    names = _header(path, given) if given["header"].lower() == "true" else list(fields)
    found = [fields.get(name.strip().lower()) for name in names]
    there = {field.name.lower() for field in found if field}
    columns = [_as_read(subject, field, at) for at, field in enumerate(found)]
    line_ends = _line_ends(path, given)
    reading = {"escape": given["quote"], "nullvalue": "", "emptyvalue": _EMPTY} | line_ends
    reading |= {name: value for name, value in given.items() if name not in _OURS}
    reading |= {"mode": "PERMISSIVE", "columnnameofcorruptrecord": UNTAKEN, "enforceschema": "true"}
    schema = T.StructType([*columns, T.StructField(UNTAKEN, T.StringType())])
    rows = subject.spark.read.options(**reading).schema(schema).csv(escape_glob(path))
    texts = [_not_taken(subject, f) for f in subject.declared if f.name.lower() in there and _is_text(subject, f)]
    untaken = F.coalesce(UNTAKEN, *texts).alias(UNTAKEN)
    values = {f.name: _value(subject, f, f.name.lower() in there) for f in subject.declared}
    kept = {name: pii.protected_value(name, value, subject.table) for name, value in values.items()}
    return rows.select(*[value.alias(name) for name, value in kept.items() if value is not None], untaken)


def _options(table: Table) -> dict[str, str]:
    """A table's options by Spark's names in lower case, over the contract's defaults."""
    given = _DEFAULTS | {options.ALIASES.get(k.lower(), k.lower()): v for k, v in table.options.items()}
    return given | {"encoding": options.canonical_charset(given["encoding"]) or given["encoding"]}


def _is_text(subject: Subject, field: T.StructField) -> bool:
    """Whether a column is read as text and then taken by `from_text`: the reader knows no epochs and two booleans."""
    if isinstance(field.dataType, T.NumericType):
        return "locale" in _options(subject.table)
    return isinstance(field.dataType, T.BooleanType | T.DateType | T.TimestampType | T.TimestampNTZType)


def _as_read(subject: Subject, field: T.StructField | None, at: int) -> T.StructField:
    """What the reader is asked for: text where nothing is declared, too."""
    if field is None:
        return T.StructField(f"_other_{at}", T.StringType())
    return T.StructField(field.name, T.StringType()) if _is_text(subject, field) else field


def _value(subject: Subject, field: T.StructField, there: bool) -> Column:
    """A declared column of what was read."""
    column = quoted(field.name)
    if not there:  # added to the schema after this snapshot was taken
        column = F.lit(None).cast(field.dataType)
    elif isinstance(field.dataType, T.StringType):
        column = F.when(column == _EMPTY, "").otherwise(column)
    elif _is_text(subject, field):
        column = from_text(subject, field, column)
    return column.alias(field.name)


def _not_taken(subject: Subject, field: T.StructField) -> Column:
    """The text of a column, where it is nothing of the declared type."""
    return F.when(_value(subject, field, True).isNull(), quoted(field.name))


def _header(path: StorePath, given: dict[str, str]) -> list[str]:
    with _opened(path, given, newline="") as file:
        rows = csv.reader(
            file,
            delimiter=given["sep"].replace(r"\t", "\t"),
            quotechar=given["quote"] or None,
            quoting=csv.QUOTE_MINIMAL if given["quote"] else csv.QUOTE_NONE,
        )
        return next(row for row in rows if row)


def _line_ends(path: StorePath, given: dict[str, str]) -> dict[str, str]:
    """Options for the line ends of a file: records may span lines, except where no quote can hold them together.

    A multi-line reader settles for one kind of line end, and unless it is told of a CR it takes it out of quotes.
    """
    with _opened(path, given) as file:
        has_quote = bool(given["quote"]) and any(given["quote"] in line for line in file)
        if isinstance(file.newlines, tuple) and not has_quote:
            return {"multiline": "false"}
    with _opened(path, given, newline="") as file:
        first = file.readline()
    line_end = first[len(first.rstrip("\r\n")) :]
    return {"multiline": "true"} | ({"linesep": line_end} if line_end.startswith("\r") else {})


def _opened(path: StorePath, given: dict[str, str], newline: str | None = None) -> TextIO:
    is_utf8 = given["encoding"].lower().replace("-", "") == "utf8"
    return path.open(encoding="utf-8-sig" if is_utf8 else given["encoding"], errors="replace", newline=newline)


def from_text(subject: Subject, field: T.StructField, text: Column) -> Column:
    """A cell as the CSV reader takes it, and the words and notations that the reader does not know."""
    kind, given = field.dataType, _options(subject.table)
    if isinstance(kind, T.StringType):
        return text.alias(field.name)
    if isinstance(kind, T.BooleanType):
        word = F.lower(text)
        return F.when(word.isin(_TRUE), True).when(word.isin(_FALSE), False).alias(field.name)
    if isinstance(kind, T.NumericType):
        found = locales.find_separators(given.get("locale", "en-US")) or locales.Separators(".", ",")
        bare = F.translate(text, found.decimal + found.groups, ".") if "locale" in given else text
        return _parsed(bare, kind, {}).alias(field.name)
    formats = {k: v for k, v in given.items() if k in _OURS and v not in patterns.EPOCH_UNITS}
    parsed = _parsed(text, kind, formats | {"timezone": subject.pipeline.timezone})
    return F.coalesce(parsed, _counted(text, kind, given, subject.pipeline.timezone)).alias(field.name)


def _parsed(text: Column, kind: T.DataType, reading: dict[str, str]) -> Column:
    cell = F.concat(F.lit('"'), F.replace(text, F.lit('"'), F.lit('""')), F.lit('"'))
    parsed = F.from_csv(cell, f"value {kind.simpleString()}", {"escape": '"', "mode": "PERMISSIVE"} | reading)
    return parsed["value"]


def _counted(text: Column, kind: T.DataType, given: dict[str, str], zone: str) -> Column:
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


def struct(ddl: str) -> T.StructType:
    """A schema with every column nullable."""
    declared = T.DataType.fromDDL(ddl)
    assert isinstance(declared, T.StructType)
    return T.StructType([T.StructField(f.name, f.dataType) for f in declared])
