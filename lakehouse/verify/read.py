"""A landed CSV file as Spark's own typed reader takes it: a second opinion beside `ingest`, which converts text."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse import delta
from lakehouse.config import Pipeline, Table
from lakehouse.lake import Lake
from lakehouse.ledger import Entry
from lakehouse.snapshot.fields import literal
from lakehouse.verify.check import quoted

UNTAKEN = "_untaken"  # the record, where the reader cannot take it as the schema says
_EMPTY = "\uf8fe"  # what the reader puts for "", so that a blank stays null. A private-use character: never text
_DEFAULTS = {"header": "true", "sep": ",", "quote": '"', "encoding": "UTF-8"}  # the contract's defaults
_ALIASES = {"delimiter": "sep", "charset": "encoding"}
_TRUE, _FALSE = ["true", "t", "yes", "y", "1"], ["false", "f", "no", "n", "0"]


@dataclass(frozen=True)
class Subject:
    """A table of the lake, as its checks need it; `accepted` are its change sets by sequence, at least one."""

    spark: SparkSession
    lake: Lake
    pipeline: Pipeline
    name: str
    accepted: list[Entry]

    @property
    def table(self) -> Table:
        return self.pipeline.tables[self.name]

    @property
    def fields(self) -> T.StructType:
        return struct(self.table.schema_ddl)

    @property
    def last(self) -> Entry:
        return self.accepted[-1]


def live(subject: Subject) -> DataFrame:
    """Bronze's rows as of now: of a history, its open windows."""
    bronze = delta.read(subject.spark, subject.lake.bronze(subject.name))
    return bronze.where("__END_AT IS NULL").drop("__START_AT", "__END_AT") if subject.table.scd == 2 else bronze


def typed(subject: Subject, path: Path) -> DataFrame:
    """A landed file by the declared schema, read by Spark's own typed reader; `UNTAKEN` where it cannot."""
    fields = {f.name.lower(): f for f in subject.fields}
    given = _DEFAULTS | {_ALIASES.get(k.lower(), k.lower()): v for k, v in subject.table.options.items()}
    names = _header(path, given) if given["header"].lower() == "true" else list(fields)
    there = [name.strip().lower() for name in names]
    columns = [_as_read(fields.get(name), at) for at, name in enumerate(there)]
    line_ends = _line_ends(path, given)
    options = {"escape": given["quote"], "nullvalue": "", "emptyvalue": _EMPTY} | line_ends | given
    options |= {"mode": "PERMISSIVE", "columnnameofcorruptrecord": UNTAKEN, "enforceschema": "true"}
    options |= {"timezone": subject.pipeline.timezone, "multiline": line_ends["multiline"]}
    schema = T.StructType([*columns, T.StructField(UNTAKEN, T.StringType())])
    rows = subject.spark.read.options(**options).schema(schema).csv(literal(path))
    words = [_not_boolean(f) for f in subject.fields if f.name.lower() in there and _is_boolean(f)]
    untaken = F.coalesce(UNTAKEN, *words).alias(UNTAKEN)
    return rows.select(*[_value(f, f.name.lower() in there) for f in subject.fields], untaken)


def _as_read(field: T.StructField | None, at: int) -> T.StructField:
    """What the reader is asked for: text where nothing is declared, and for BOOLEAN, of which it knows two words."""
    if field is None:
        return T.StructField(f"_other_{at}", T.StringType())
    return T.StructField(field.name, T.StringType()) if _is_boolean(field) else field


def _value(field: T.StructField, there: bool) -> Column:
    """A declared column of what was read."""
    column = quoted(field.name)
    if not there:  # added to the schema after this snapshot was taken
        column = F.lit(None).cast(field.dataType)
    elif isinstance(field.dataType, T.StringType):
        column = F.when(column == _EMPTY, "").otherwise(column)
    elif _is_boolean(field):
        word = F.lower(column)
        column = F.when(word.isin(_TRUE), True).when(word.isin(_FALSE), False)
    return column.alias(field.name)


def _not_boolean(field: T.StructField) -> Column:
    """The text of a BOOLEAN, where it is none."""
    return F.when(_value(field, True).isNull(), quoted(field.name))


def _is_boolean(field: T.StructField) -> bool:
    return isinstance(field.dataType, T.BooleanType)


def _header(path: Path, given: dict[str, str]) -> list[str]:
    with _opened(path, given, newline="") as file:
        rows = csv.reader(
            file,
            delimiter=given["sep"].replace(r"\t", "\t"),
            quotechar=given["quote"] or None,
            quoting=csv.QUOTE_MINIMAL if given["quote"] else csv.QUOTE_NONE,
        )
        return next(row for row in rows if row)


def _line_ends(path: Path, given: dict[str, str]) -> dict[str, str]:
    """Options for the line ends of a file: records may span lines, except where no quote can hold them together.

    A multi-line reader settles for one kind of line end, and unless it is told of CR LF it takes the CR out of quotes.
    """
    with _opened(path, given) as file:
        has_quote = bool(given["quote"]) and any(given["quote"] in line for line in file)
        if isinstance(file.newlines, tuple) and not has_quote:
            return {"multiline": "false"}
    with _opened(path, given, newline="") as file:
        return {"multiline": "true"} | ({"linesep": "\r\n"} if file.readline().endswith("\r\n") else {})


def _opened(path: Path, given: dict[str, str], newline: str | None = None) -> TextIO:
    is_utf8 = given["encoding"].lower().replace("-", "") == "utf8"
    return path.open(encoding="utf-8-sig" if is_utf8 else given["encoding"], errors="replace", newline=newline)


def from_text(subject: Subject, field: T.StructField, text: Column) -> Column:
    """A key as the CSV reader takes it."""
    if isinstance(field.dataType, T.StringType):
        return text.alias(field.name)
    cell = F.concat(F.lit('"'), F.replace(text, F.lit('"'), F.lit('""')), F.lit('"'))
    formats = {k: v for k, v in subject.table.options.items() if k.lower().endswith("format")}
    options = {"escape": '"', "mode": "PERMISSIVE", "timeZone": subject.pipeline.timezone} | formats
    parsed = F.from_csv(cell, f"value {field.dataType.simpleString()}", options)
    return parsed["value"].alias(field.name)


def struct(ddl: str) -> T.StructType:
    """A schema with every column nullable."""
    declared = T.DataType.fromDDL(ddl)
    assert isinstance(declared, T.StructType)
    return T.StructType([T.StructField(f.name, f.dataType) for f in declared])
