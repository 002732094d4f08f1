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
from lakehouse.ingest.readers.fields import ParsedField, ParsedFile, ParsedSnapshot
from lakehouse.schema import pii
from lakehouse.schema.table_schema import declared_schema
from lakehouse.spark.session import SPARK_ERRORS, local_frame
from lakehouse.storage.landing import LandedSnapshot

# What a row carries beside the declared columns.
PROBLEMS = "_cdc_problems"  # array<struct<column, value, reason>>: empty for a good row
RECEIVED = "_cdc_received"  # the row as received, a JSON object by the file's own names
UNMASKED = "_cdc_sought"  # the same, by which its line is found: there only where `pii` keeps it out of RECEIVED
KEY_STATE = "_cdc_key"  # read | null | unreadable: only a key that was read can be matched or protected

_PROBLEM = "struct<column: string, value: string, reason: string>"
# Parts of the conditions by which Spark says that it is the file which cannot be read.
_UNREADABLE_FILE_ERRORS = (
    "FAILED_READ_FILE",
    "CANNOT_READ_FILE",
    "UNABLE_TO_INFER_SCHEMA",
    "MALFORMED",
    "TextParsingException",
)
_MAX_LINE_LOOKUPS = 10_000
PARSERS = {"csv": csv_reader.parse_file, "json": json_reader.parse_file, "parquet": parquet_reader.parse_file}


def read(
    spark: SparkSession, table: Table, snapshot: LandedSnapshot, time_zone: str, optional_columns: frozenset[str]
) -> ParsedSnapshot:
    """Read a landed snapshot.

    Args:
        zone: of timestamps that name none.
        may_lack: declared columns that no snapshot has delivered yet; where the files lack them they are null.

    Raises:
        DataRefused: no file, a declared column missing, two columns of one name, a file that cannot be read.
    """
    if not snapshot.files:
        raise DataRefused(
            f"the snapshot has no file {table.file}",
            expected="every table's file in every snapshot",
            where=str(snapshot.folder),
            next_step="have the source hand out the whole snapshot again, under its own time",
        )
    names = [f.name for f in snapshot.files]
    if overlooked := [n for n in names if n.rpartition("/")[2].startswith(("_", ".")) or ":" in n]:
        raise DataRefused(
            f"Spark overlooks files with such names: {', '.join(overlooked)}",
            expected="names that begin with neither _ nor . and have no colon",
            where=str(snapshot.folder),
            next_step="rename them at the source, or have `file` match others only",
        )
    fields, parts = declared_schema(table), []
    for file, path in zip(snapshot.files, snapshot.paths, strict=True):
        try:
            parts.append(PARSERS[table.format](spark, table, fields, file, path, time_zone, optional_columns))
        except SPARK_ERRORS as error:
            raise to_data_refused(error, str(path)) from error
    counts = [part.record_count for part in parts if part.record_count is not None]
    return ParsedSnapshot(
        rows=reduce(DataFrame.unionByName, (_validate_rows(part, table) for part in parts)),
        record_count=sum(counts) if len(counts) == len(parts) else None,
        unknown_columns=_unknown_columns(table, {name for part in parts for name in part.unknown_columns}),
        missing_columns=frozenset.intersection(*(part.missing_columns for part in parts)),
    )


def _unknown_columns(table: Table, names: set[str]) -> tuple[str, ...]:
    """Names of columns that the schema does not name. Members of JSON can be data: {"ana@example.org": 1}."""
    if names and table.pii and table.format == "json":
        return (f"{len(names)} members, not shown",)
    return tuple(sorted(names))


def read_lines(
    spark: SparkSession, table: Table, snapshot: LandedSnapshot, time_zone: str, lines: DataFrame
) -> ParsedSnapshot:
    """Read some lines of a CSV snapshot, in one column, each of which is a record, as if no others were there."""
    part = csv_reader.parse_file(
        spark, table, declared_schema(table), snapshot.files[0], snapshot.paths[0], time_zone, frozenset(), lines
    )
    return ParsedSnapshot(_validate_rows(part, table), None, part.unknown_columns, part.missing_columns)


def to_data_refused(error: Exception, where: str) -> Exception:
    """What Spark raised while it read a snapshot: a refusal if the file is at fault, else the error as it is.

    A full disk or a lost worker must not have a snapshot rejected for good.
    """
    if any(sign in str(error) for sign in _UNREADABLE_FILE_ERRORS) and not is_transient(error):
        return DataRefused(f"the file cannot be read: {first_line(error)}", where=where)
    return error


def _validate_rows(parsed: ParsedFile, table: Table) -> DataFrame:
    """The declared columns, with problems, the row as received and the state of its key."""
    parsed = _alias_columns(parsed)
    reasons = {name: _reason(field, name in table.keys) for name, field in parsed.columns.items()}
    problems = {
        name: F.when(reasons[name].isNotNull(), _problem(name, pii.masked_text(name, field.text, table), reasons[name]))
        for name, field in parsed.columns.items()
    }
    broken = parsed.row_error
    assert broken is not None
    as_it_stands = F.lit(pii.MASK) if table.pii else parsed.raw_record
    whole = F.when(broken.isNotNull(), F.array(_problem(None, as_it_stands, broken)))
    listed = F.coalesce(whole, F.array_compact(F.array(*problems.values())))
    key = [parsed.columns[k] for k in table.keys]
    key_blank = reduce(Column.__or__, [field.text.isNull() for field in key])
    key_wrong = reduce(Column.__or__, [problems[k].isNotNull() for k in table.keys])
    state = F.when(broken.isNotNull(), "unreadable").when(key_blank, "null").when(key_wrong, "unreadable")
    kept = {name: pii.protected_value(name, field.value, table) for name, field in parsed.columns.items()}
    told = pii_row.masked_row(parsed.columns, broken, table) if table.pii else parsed.received_json
    return parsed.rows.select(
        *[value.alias(name) for name, value in kept.items() if value is not None],
        listed.alias(PROBLEMS),
        told.alias(RECEIVED),
        F.coalesce(state, F.lit("read")).alias(KEY_STATE),
        *([parsed.received_json.alias(UNMASKED)] if table.pii else []),
    )


def _alias_columns(parsed: ParsedFile) -> ParsedFile:
    """The same, with a name for each text, value and reason.

    What is judged asks for each of them several times; were they written out each time, Spark would plan for minutes.
    """
    broken = parsed.row_error if parsed.row_error is not None else F.lit(None).cast("string")
    whole = {"_cdc_broken": broken, "_cdc_as_it_stands": parsed.raw_record, "_cdc_as_received": parsed.received_json}
    columns: dict[str, ParsedField] = {}
    named: dict[str, Column] = {}
    for n, (name, field) in enumerate(parsed.columns.items()):
        parts = {f"_cdc_{what}_{n}": getattr(field, what) for what in ("text", "value", "reason")}
        columns[name] = ParsedField(*map(F.col, parts))
        named |= parts
    rows = parsed.rows.select(*[column.alias(name) for name, column in (whole | named).items()])
    broken, stands, received = map(F.col, whole)
    return replace(parsed, rows=rows, columns=columns, row_error=broken, raw_record=stands, received_json=received)


def _reason(field: ParsedField, is_key: bool) -> Column:
    return F.coalesce(field.reason, F.when(field.value.isNull(), F.lit("null in a key"))) if is_key else field.reason


def _problem(column: str | None, text: Column, reason: Column) -> Column:
    parts = F.struct(F.lit(column).cast("string").alias("column"), text.alias("value"), reason.alias("reason"))
    return parts.cast(_PROBLEM)


def add_line_numbers(
    spark: SparkSession, rejected_rows: DataFrame, table: Table, snapshot: LandedSnapshot
) -> DataFrame:
    """Add `line` to refused rows: where each first stands, found by SOUGHT or else `row`, the JSON of its fields.

    Spark's parsers do not tell lines, so the files are read once more, for the first 10,000 rows; other formats than
    text have no lines.
    """
    by = UNMASKED if UNMASKED in rejected_rows.columns else "row"
    if table.format == "parquet":
        return rejected_rows.withColumn("line", F.lit(None).cast("bigint")).drop(UNMASKED)
    rows = {row[0] for row in rejected_rows.select(by).distinct().limit(_MAX_LINE_LOOKUPS).collect()}
    find = csv_reader.line_numbers if table.format == "csv" else json_reader.line_numbers
    found = find(table, snapshot.paths, rows)
    lines = local_frame(spark, f"{by} STRING, line BIGINT", [(text, found.get(text)) for text in rows])
    return rejected_rows.join(lines, on=by, how="left").drop(UNMASKED)


__all__ = [
    "KEY_STATE",
    "PARSERS",
    "PROBLEMS",
    "RECEIVED",
    "UNMASKED",
    "ParsedSnapshot",
    "add_line_numbers",
    "read",
    "read_lines",
    "to_data_refused",
]
