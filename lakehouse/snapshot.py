"""Reading a landed snapshot by the declared schema, and saying what in it cannot be read.

Every field is read as text and then converted by a rule that keeps the value exactly or calls it a problem: a reader
that converts by itself drops, shifts, rounds or nulls in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.convert import convert
from lakehouse.dialect import Dialect
from lakehouse.errors import DataRefused
from lakehouse.landing import Landed, LandedFile

# What a row carries beside the declared columns.
PROBLEMS = "_problems"  # array<struct<column, value, reason>>: empty for a good row
RECEIVED = "_received"  # the row as received, a JSON object by the file's own names
KEY = "_key"  # read | null | unreadable: only a key that was read can be matched or protected

_PROBLEM = "struct<column: string, value: string, reason: string>"
_RAGGED = "_ragged"
# What Spark's parser puts for an empty field, so that it stays apart from "". A private-use character: never text.
_BLANK = "\ue000"
_REPLACEMENT = "\ufffd"
_MOST_LINES = 10_000


@dataclass(frozen=True)
class Read:
    """A snapshot as read.

    Attributes:
        rows: the declared columns and the three above.
        records: how many records an independent reader counts, or None where lines are records.
        unnamed: columns of the files that the schema does not name.
    """

    rows: DataFrame
    records: int | None
    unnamed: tuple[str, ...]


def schema(table: Table) -> T.StructType:
    """The table's declared schema, every column nullable: what a source hands out can lack anything."""
    declared = T.DataType.fromDDL(table.schema_ddl)
    assert isinstance(declared, T.StructType)
    return T.StructType([T.StructField(f.name, f.dataType) for f in declared.fields])


def read(spark: SparkSession, table: Table, landed: Landed, zone: str, may_lack: frozenset[str]) -> Read:
    """Read a landed snapshot.

    Args:
        zone: of timestamps that name none.
        may_lack: declared columns that no snapshot has delivered yet; where the files lack them they are null.

    Raises:
        DataRefused: no file, a declared column missing, two columns of one name, a file that cannot be read.
    """
    if not landed.files:
        raise DataRefused(
            f"the snapshot has no file {table.file}",
            expected="every table's file in every snapshot",
            where=str(landed.folder),
            next_step="have the source hand out the whole snapshot again, under its own time",
        )
    parts = [_read_csv(spark, table, f, p, zone, may_lack) for f, p in zip(landed.files, landed.paths, strict=True)]
    counts = [part.records for part in parts if part.records is not None]
    return Read(
        rows=reduce(DataFrame.unionByName, (part.rows for part in parts)),
        records=sum(counts) if len(counts) == len(parts) else None,
        unnamed=tuple(sorted({name for part in parts for name in part.unnamed})),
    )


def _read_csv(
    spark: SparkSession, table: Table, file: LandedFile, path: Path, zone: str, may_lack: frozenset[str]
) -> Read:
    dialect = Dialect.of(table.options)
    fields = schema(table)
    header = _header(dialect, path, fields.names)
    positions = _positions(header, fields.names, path, may_lack)
    spans_lines = dialect.may_span_lines(file)
    records = dialect.count(path) if spans_lines else None
    texts = _texts(spark, dialect, path, len(header), spans_lines)
    rows = _typed(texts, fields, header, positions, table, zone, dialect.is_utf8 and not file.is_utf8)
    unnamed = tuple(name for i, name in enumerate(header) if i not in positions.values())
    return Read(rows, records, unnamed)


def _header(dialect: Dialect, path: Path, declared: list[str]) -> list[str]:
    if not dialect.has_header:
        return declared
    header = dialect.header(path)
    if header is None:
        raise DataRefused(
            f"{path.name} is empty", expected=f"a header with the columns {', '.join(declared)}", where=str(path)
        )
    return [name.strip() or f"(column {i})" for i, name in enumerate(header, start=1)]


def _positions(header: list[str], declared: list[str], path: Path, may_lack: frozenset[str]) -> dict[str, int]:
    """Where each declared column stands in the file: found by its name, whatever the case and the order."""
    folded = [name.lower() for name in header]
    doubled = sorted({name for name, low in zip(header, folded, strict=True) if folded.count(low) > 1})
    missing = [name for name in declared if name.lower() not in folded and name not in may_lack]
    if doubled or missing:
        found = [f"more than one column named {', '.join(doubled)}"] if doubled else []
        found += [f"no column {', '.join(missing)}"] if missing else []
        raise DataRefused(
            f"{path.name} has {' and '.join(found)}",
            expected=f"the columns {', '.join(declared)}; its header has {', '.join(header)}",
            where=f"{path}, line 1",
            next_step="mend the source, or the table's schema if the source's columns were renamed",
        )
    return {name: folded.index(name.lower()) for name in declared if name.lower() in folded}


def _texts(spark: SparkSession, dialect: Dialect, path: Path, width: int, spans_lines: bool) -> DataFrame:
    """Every field as text, named by its position, and the whole record where it has another number of fields."""
    fields = [T.StructField(f"_{i}", T.StringType()) for i in range(width)]
    options = {"nullvalue": _BLANK, "emptyvalue": ""} | dict(dialect.options)
    options |= {"mode": "PERMISSIVE", "columnnameofcorruptrecord": _RAGGED, "enforceschema": "true"}
    options |= {"multiline": str(spans_lines).lower()}
    reader = spark.read.options(**options).schema(T.StructType([*fields, T.StructField(_RAGGED, T.StringType())]))
    return reader.csv(str(path))


def _typed(
    texts: DataFrame,
    fields: T.StructType,
    header: list[str],
    positions: Mapping[str, int],
    table: Table,
    zone: str,
    has_broken_bytes: bool,
) -> DataFrame:
    """The declared columns of `texts`, with problems, the row as received and the state of its key."""
    values: dict[str, Column] = {}
    problems: dict[str, Column] = {}
    for field in fields:
        text = F.col(f"_{positions[field.name]}") if field.name in positions else F.lit(None).cast("string")
        value, reason = convert(text, field.dataType, zone, table.options)
        if has_broken_bytes:
            broken = text.contains(_REPLACEMENT)
            reason = F.coalesce(F.when(broken, F.lit("bytes that are not valid in the file's encoding")), reason)
        if field.name in table.keys:
            reason = F.coalesce(reason, F.when(value.isNull(), F.lit("null in a key")))
        values[field.name] = value
        problems[field.name] = F.when(reason.isNotNull(), _problem(field.name, text, reason))
    ragged = F.col(_RAGGED).isNotNull()
    reason = F.lit(f"the record does not have the {len(header)} fields of the header")
    whole = F.when(ragged, F.array(_problem(None, F.col(_RAGGED), reason)))
    listed = F.coalesce(whole, F.array_compact(F.array(*problems.values())))
    received = F.to_json(
        F.struct(*[F.col(f"_{i}").alias(name) for i, name in enumerate(header)]), {"ignoreNullFields": "false"}
    )
    key_null = reduce(Column.__or__, [values[k].isNull() for k in table.keys])
    key_unread = ragged | reduce(Column.__or__, [problems[k].isNotNull() for k in table.keys])
    key_blank = reduce(Column.__or__, [F.col(f"_{positions[k]}").isNull() for k in table.keys])
    state = F.when(ragged, "unreadable").when(key_blank & key_null, "null").when(key_unread, "unreadable")
    return texts.select(
        *[values[name].alias(name) for name in fields.names],
        listed.alias(PROBLEMS),
        received.alias(RECEIVED),
        F.coalesce(state, F.lit("read")).alias(KEY),
    )


def _problem(column: str | None, text: Column, reason: Column) -> Column:
    parts = F.struct(F.lit(column).cast("string").alias("column"), text.alias("value"), reason.alias("reason"))
    return parts.cast(_PROBLEM)


def with_lines(spark: SparkSession, refused: DataFrame, table: Table, landed: Landed) -> DataFrame:
    """Add `line` to refused rows (a column `row`: the JSON of the received fields): where each first stands.

    Spark's parser does not tell lines, so the files are read once more; rows beyond the first 10,000 get none.
    """
    rows = {row["row"] for row in refused.select("row").distinct().limit(_MOST_LINES).collect()}
    fields = {text: tuple(value or "" for value in json.loads(text).values()) for text in rows}
    dialect, found = Dialect.of(table.options), dict[tuple[str, ...], int]()
    for path in landed.paths:
        for width in {len(f) for f in fields.values()}:
            found = dialect.lines(path, {f for f in fields.values() if len(f) == width}, width) | found
    lines = spark.createDataFrame([(text, found.get(f)) for text, f in fields.items()], "row STRING, line BIGINT")
    return refused.join(lines, on="row", how="left")
