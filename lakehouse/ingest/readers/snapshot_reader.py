"""Reading a landed snapshot by the declared schema, and saying what in it cannot be read.

    plain.py                      the files as received, as files that can be read: unpacked, with one kind of line end
    csv_files.py, json_files.py, parquet_files.py
                                  a file as fields: each declared column as text, or as the file types it
    convert.py, numbers.py, dates.py
                                  text to a declared type, exactly or not at all
    privacy.py                    what of personal columns (`pii`) is kept
    erase.py                      a key's records taken out of what landed, by the same readers
    here                          fields to rows, with what is wrong with each and whether its key can be trusted

A reader that converts by itself drops, shifts, rounds or nulls in silence; none is let to.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.config import Table
from lakehouse.error_mapping import first_line, is_transient
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers import csv_reader, json_reader, parquet_reader, pii_row
from lakehouse.ingest.readers.fields import Field, Fields, Read
from lakehouse.schema import pii
from lakehouse.schema.table_schema import declared_schema
from lakehouse.spark.session import SPARK_ERRORS, local_frame
from lakehouse.storage.landing import LandedSnapshot

# What a row carries beside the declared columns.
PROBLEMS = "_cdc_problems"  # array<struct<column, value, reason>>: empty for a good row
RECEIVED = "_cdc_received"  # the row as received, a JSON object by the file's own names
SOUGHT = "_cdc_sought"  # the same, by which its line is found: there only where `pii` keeps it out of RECEIVED
KEY = "_cdc_key"  # read | null | unreadable: only a key that was read can be matched or protected

_PROBLEM = "struct<column: string, value: string, reason: string>"
# Parts of the conditions by which Spark says that it is the file which cannot be read.
_UNREADABLE = ("FAILED_READ_FILE", "CANNOT_READ_FILE", "UNABLE_TO_INFER_SCHEMA", "MALFORMED", "TextParsingException")
_MOST_LINES = 10_000
FORMATS = {"csv": csv_reader.fields, "json": json_reader.fields, "parquet": parquet_reader.fields}


def read(spark: SparkSession, table: Table, landed: LandedSnapshot, zone: str, may_lack: frozenset[str]) -> Read:
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
    names = [f.name for f in landed.files]
    if overlooked := [n for n in names if n.rpartition("/")[2].startswith(("_", ".")) or ":" in n]:
        raise DataRefused(
            f"Spark overlooks files with such names: {', '.join(overlooked)}",
            expected="names that begin with neither _ nor . and have no colon",
            where=str(landed.folder),
            next_step="rename them at the source, or have `file` match others only",
        )
    fields, parts = declared_schema(table), []
    for file, path in zip(landed.files, landed.paths, strict=True):
        try:
            parts.append(FORMATS[table.format](spark, table, fields, file, path, zone, may_lack))
        except SPARK_ERRORS as error:
            raise refused(error, str(path)) from error
    counts = [part.records for part in parts if part.records is not None]
    return Read(
        rows=reduce(DataFrame.unionByName, (_judged(part, table) for part in parts)),
        records=sum(counts) if len(counts) == len(parts) else None,
        unnamed=_unnamed(table, {name for part in parts for name in part.unnamed}),
        lacking=frozenset.intersection(*(part.lacking for part in parts)),
    )


def _unnamed(table: Table, names: set[str]) -> tuple[str, ...]:
    """Names of columns that the schema does not name. Members of JSON can be data: {"ana@example.org": 1}."""
    if names and table.pii and table.format == "json":
        return (f"{len(names)} members, not shown",)
    return tuple(sorted(names))


def read_lines(spark: SparkSession, table: Table, landed: LandedSnapshot, zone: str, lines: DataFrame) -> Read:
    """Read some lines of a CSV snapshot, in one column, each of which is a record, as if no others were there."""
    part = csv_reader.fields(
        spark, table, declared_schema(table), landed.files[0], landed.paths[0], zone, frozenset(), lines
    )
    return Read(_judged(part, table), None, part.unnamed, part.lacking)


def refused(error: Exception, where: str) -> Exception:
    """What Spark raised while it read a snapshot: a refusal if the file is at fault, else the error as it is.

    A full disk or a lost worker must not have a snapshot rejected for good.
    """
    if any(sign in str(error) for sign in _UNREADABLE) and not is_transient(error):
        return DataRefused(f"the file cannot be read: {first_line(error)}", where=where)
    return error


def _judged(part: Fields, table: Table) -> DataFrame:
    """The declared columns, with problems, the row as received and the state of its key."""
    part = _named(part)
    reasons = {name: _reason(field, name in table.keys) for name, field in part.columns.items()}
    problems = {
        name: F.when(reasons[name].isNotNull(), _problem(name, pii.masked_text(name, field.text, table), reasons[name]))
        for name, field in part.columns.items()
    }
    broken = part.broken
    assert broken is not None
    as_it_stands = F.lit(pii.MASK) if table.pii else part.whole
    whole = F.when(broken.isNotNull(), F.array(_problem(None, as_it_stands, broken)))
    listed = F.coalesce(whole, F.array_compact(F.array(*problems.values())))
    key = [part.columns[k] for k in table.keys]
    key_blank = reduce(Column.__or__, [field.text.isNull() for field in key])
    key_wrong = reduce(Column.__or__, [problems[k].isNotNull() for k in table.keys])
    state = F.when(broken.isNotNull(), "unreadable").when(key_blank, "null").when(key_wrong, "unreadable")
    kept = {name: pii.protected_value(name, field.value, table) for name, field in part.columns.items()}
    told = pii_row.received(part.columns, broken, table) if table.pii else part.received
    return part.rows.select(
        *[value.alias(name) for name, value in kept.items() if value is not None],
        listed.alias(PROBLEMS),
        told.alias(RECEIVED),
        F.coalesce(state, F.lit("read")).alias(KEY),
        *([part.received.alias(SOUGHT)] if table.pii else []),
    )


def _named(part: Fields) -> Fields:
    """The same, with a name for each text, value and reason.

    What is judged asks for each of them several times; were they written out each time, Spark would plan for minutes.
    """
    broken = part.broken if part.broken is not None else F.lit(None).cast("string")
    whole = {"_cdc_broken": broken, "_cdc_as_it_stands": part.whole, "_cdc_as_received": part.received}
    columns: dict[str, Field] = {}
    named: dict[str, Column] = {}
    for n, (name, field) in enumerate(part.columns.items()):
        parts = {f"_cdc_{what}_{n}": getattr(field, what) for what in ("text", "value", "reason")}
        columns[name] = Field(*map(F.col, parts))
        named |= parts
    rows = part.rows.select(*[column.alias(name) for name, column in (whole | named).items()])
    broken, stands, received = map(F.col, whole)
    return replace(part, rows=rows, columns=columns, broken=broken, whole=stands, received=received)


def _reason(field: Field, is_key: bool) -> Column:
    return F.coalesce(field.reason, F.when(field.value.isNull(), F.lit("null in a key"))) if is_key else field.reason


def _problem(column: str | None, text: Column, reason: Column) -> Column:
    parts = F.struct(F.lit(column).cast("string").alias("column"), text.alias("value"), reason.alias("reason"))
    return parts.cast(_PROBLEM)


def with_lines(spark: SparkSession, refused: DataFrame, table: Table, landed: LandedSnapshot) -> DataFrame:
    """Add `line` to refused rows: where each first stands, found by SOUGHT or else `row`, the JSON of its fields.

    Spark's parsers do not tell lines, so the files are read once more, for the first 10,000 rows; other formats than
    text have no lines.
    """
    by = SOUGHT if SOUGHT in refused.columns else "row"
    if table.format == "parquet":
        return refused.withColumn("line", F.lit(None).cast("bigint")).drop(SOUGHT)
    rows = {row[0] for row in refused.select(by).distinct().limit(_MOST_LINES).collect()}
    find = csv_reader.lines if table.format == "csv" else json_reader.lines
    found = find(table, landed.paths, rows)
    lines = local_frame(spark, f"{by} STRING, line BIGINT", [(text, found.get(text)) for text in rows])
    return refused.join(lines, on=by, how="left").drop(SOUGHT)


__all__ = [
    "FORMATS",
    "KEY",
    "PROBLEMS",
    "RECEIVED",
    "SOUGHT",
    "Read",
    "read",
    "read_lines",
    "refused",
    "with_lines",
]
