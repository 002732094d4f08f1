"""Reads a landed snapshot by the declared schema, and reports the rows in it that cannot be read.

A reader that converts values itself would drop, shift, round or null some of them silently. So the readers return text,
and `schema/cast.py` converts it exactly or reports why not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.config import Table
from lakehouse.config.row_keys import ROW_ID
from lakehouse.error_mapping import first_line, is_transient
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers import csv_reader, json_reader, parquet_reader
from lakehouse.ingest.readers.parsed_file import ParsedField, ParsedFile, ParsedSnapshot, ReadSettings
from lakehouse.lake.row_id import row_id
from lakehouse.schema import pii
from lakehouse.schema.table_schema import stored_schema
from lakehouse.spark.session import SPARK_ERRORS, local_frame
from lakehouse.storage.landing import LandedSnapshot

# Columns of a parsed row beside the declared ones.
PROBLEMS = "_cdc_problems"  # array<struct<column, value, reason>>: empty for a good row
RECEIVED = "_cdc_received"  # the row as received, a JSON object by the file's own names; personal columns are masked
UNMASKED = "_cdc_unmasked"  # the row as received, to look up its line; only if `pii` masks it in RECEIVED
NULL_KEY, NULL_SLICE = "null in a key", "null in slice_by"  # faults of a field
KEY_STATE = "_cdc_key"  # read | null | unreadable: only a key that was read can be matched or protected

PARSERS = {"csv": csv_reader.parse_file, "json": json_reader.parse_file, "parquet": parquet_reader.parse_file}

_PROBLEM = "struct<column: string, value: string, reason: string>"
# Parts of Spark's error conditions for a file that cannot be read.
_UNREADABLE_FILE_ERRORS = (
    "FAILED_READ_FILE",
    "CANNOT_READ_FILE",
    "UNABLE_TO_INFER_SCHEMA",
    "MALFORMED",
    "TextParsingException",
)
_ANCIENT_TIME_ERROR = "READ_ANCIENT_DATETIME"  # by which of two calendars, the file does not tell
_ONE_PARTITION_BYTES = 4 << 20  # Spark reads a file of this size in one task; one partition then needs no shuffle
_MAX_LINE_LOOKUPS = 10_000
_MAX_EXAMPLES = 3


def require_readable_names(settings: ReadSettings, snapshot: LandedSnapshot) -> None:
    """Raise if a snapshot has no file, or files that Spark ignores.

    Args:
        settings: The reader's settings.
        snapshot: The snapshot.

    Raises:
        DataRefused: With the names of the files.
    """
    if not snapshot.files:
        unknown = ", ".join(settings.table.file_pattern.unknown_placeholders)
        hint = snapshot.hint or (f"no column of `schema` is called so: {unknown}" if unknown else "")
        raise DataRefused(
            ": ".join(filter(None, (f"the snapshot has no file {settings.table.file}", hint))),
            expected="every table's file in every snapshot",
            where=str(snapshot.folder),
            next_step="correct `file`; a snapshot with a time of its own is then read by it"
            if hint
            else "let the source deliver the complete snapshot again, with a time of its own",
        )
    names = [f.name for f in snapshot.files]
    if ignored := [n for n in names if n.rpartition("/")[2].startswith(("_", ".")) or ":" in n]:
        raise DataRefused(
            f"Spark ignores files with such names: {', '.join(ignored)}",
            expected="names that begin with neither _ nor . and have no colon",
            where=str(snapshot.folder),
            next_step="rename them at the source, or change `file` so that it does not match them",
        )


def read(settings: ReadSettings, snapshot: LandedSnapshot) -> ParsedSnapshot:
    """Read a landed snapshot.

    Args:
        settings: The reader's settings.
        snapshot: The snapshot, with files that Spark can read (`storage/prepare_files.py`).

    Raises:
        DataRefused: There is no file, a file cannot be read, or a declared column is missing or occurs twice.
    """
    require_readable_names(settings, snapshot)
    files = []
    for file, path in zip(snapshot.files, snapshot.paths, strict=True):
        try:
            files.append(PARSERS[settings.table.format](settings, file, path))
        except SPARK_ERRORS as error:
            raise to_data_refused(error, str(path)) from error
    counts = [file.record_count for file in files if file.record_count is not None]
    unknown = tuple(sorted({name for file in files for name in file.unknown_columns}))
    if unknown and settings.table.pii and settings.table.format == "json":
        unknown = (f"{len(unknown)} members, not shown",)  # names can be data: {"ana@example.org": 1}
    rows = reduce(DataFrame.unionByName, (_validate_rows(file, settings.table) for file in files))
    return ParsedSnapshot(
        rows=rows.coalesce(1) if snapshot.size <= _ONE_PARTITION_BYTES else rows,
        record_count=sum(counts) if len(counts) == len(files) else None,
        unknown_columns=unknown,
        missing_columns=frozenset.intersection(*(file.missing_columns for file in files)),
    )


def to_data_refused(error: Exception, where: str) -> Exception:
    """Return the error to raise for an error of Spark while it reads a snapshot.

    A full disk or a lost worker must not have a snapshot rejected, so only an error caused by a file becomes a refusal.

    Args:
        error: The error of Spark.
        where: The path of the file or folder that was read.

    Returns:
        `DataRefused` if the file cannot be read, or not by the table's options; else `error`.
    """
    if _ANCIENT_TIME_ERROR in str(error):
        return DataRefused(
            "there are dates before 1582-10-15 or times before 1900 in it, which `datetimeRebaseMode: EXCEPTION` or"
            " `int96RebaseMode: EXCEPTION` refuses",
            expected="the option CORRECTED; or LEGACY, if Spark 2 or Hive wrote the files by the Julian calendar",
            where=where,
        )
    if any(name in str(error) for name in _UNREADABLE_FILE_ERRORS) and not is_transient(error):
        return DataRefused(f"the file cannot be read: {first_line(error)}", where=where)
    return error


def add_line_numbers(
    spark: SparkSession, rejected_rows: DataFrame, table: Table, snapshot: LandedSnapshot
) -> DataFrame:
    """Add `line` to rejected rows: the line on which each first begins.

    Spark's parsers report no lines, so the files are read again, for up to 10,000 rows. Parquet has no lines.

    Args:
        spark: The session to work in.
        rejected_rows: The rows, with `UNMASKED`, or else `row`, to look them up by.
        table: The table's configuration.
        snapshot: The snapshot that the rows are of, with files that can be read.
    """
    if table.format == "parquet":
        return rejected_rows.withColumn("line", F.lit(None).cast("bigint")).drop(UNMASKED)
    by = UNMASKED if UNMASKED in rejected_rows.columns else "row"
    texts = {row[0] for row in rejected_rows.select(by).distinct().limit(_MAX_LINE_LOOKUPS).collect()}
    line_numbers = csv_reader.line_numbers if table.format == "csv" else json_reader.line_numbers
    numbers = line_numbers(table, dict(zip(snapshot.files, snapshot.paths, strict=True)), texts)
    lines = local_frame(spark, f"{by} STRING, line BIGINT", [(text, numbers.get(text)) for text in texts])
    return rejected_rows.join(lines, on=by, how="left").drop(UNMASKED)


def example_lines(spark: SparkSession, rows: DataFrame, table: Table, snapshot: LandedSnapshot) -> str:
    """Return `, such as in lines 3, 4` for rows of a snapshot; nothing if its format has no lines.

    Args:
        spark: The session to work in.
        rows: The rows, as `add_line_numbers` takes them.
        table: The table's configuration.
        snapshot: The snapshot, with files that can be read.
    """
    numbered = add_line_numbers(spark, rows, table, snapshot).select("line").distinct().collect()
    lines = sorted(row["line"] for row in numbered if row["line"] is not None)
    few = ", ".join(str(line) for line in lines[:_MAX_EXAMPLES])
    return f", such as in line{'s' if len(lines) > 1 else ''} {few}" if lines else ""


def _validate_rows(file: ParsedFile, table: Table) -> DataFrame:
    """Return the declared columns, with the problems of each row, the row as received and the state of its key."""
    file = _alias_columns(file)
    row_error = file.row_error
    assert row_error is not None
    problems = {}
    for name, field in file.columns.items():
        reason = field.reason
        if name in table.keys:
            reason = F.coalesce(reason, F.when(field.value.isNull(), F.lit(NULL_KEY)))
        elif name in (table.slice_by or ()):
            reason = F.coalesce(reason, F.when(field.value.isNull(), F.lit(NULL_SLICE)))
        problem = _problem(name, pii.masked_text(name, field.text, table), reason)
        problems[name] = F.when(reason.isNotNull(), problem)  # null if there is none
    raw_record = F.lit(pii.MASK) if table.pii else file.raw_record
    row_problem = F.when(row_error.isNotNull(), F.array(_problem(None, raw_record, row_error)))
    all_problems = F.coalesce(row_problem, F.array_compact(F.array(*problems.values())))
    # Without a key, a row is told apart by all of its values; none of them has to be there. A key inside a column is
    # looked at by feed.py.
    keys = list(file.columns) if table.counts_rows else [key for key in table.keys if key in file.columns]
    has_wrong_key = reduce(Column.__or__, [problems[k].isNotNull() for k in keys], F.lit(False))
    has_null_key = F.lit(False)
    if not table.counts_rows:
        has_null_key = reduce(Column.__or__, [file.columns[k].text.isNull() for k in keys], F.lit(False))
    key_state = F.when(row_error.isNotNull(), "unreadable").when(has_null_key, "null").when(has_wrong_key, "unreadable")
    values = {name: pii.protected_value(name, field.value, table) for name, field in file.columns.items()}
    received = _masked_row(file.columns, row_error, table) if table.pii else file.received_json
    rows = file.rows.select(
        *[value.alias(name) for name, value in values.items() if value is not None],
        all_problems.alias(PROBLEMS),
        received.alias(RECEIVED),
        F.coalesce(key_state, F.lit("read")).alias(KEY_STATE),
        *([file.received_json.alias(UNMASKED)] if table.pii else []),
    )
    return rows.withColumn(ROW_ID, row_id(stored_schema(table))) if table.counts_rows else rows


def _alias_columns(file: ParsedFile) -> ParsedFile:
    """Return the same file with a named column for each text, value and reason.

    Validation uses each of them several times. If it repeated the expressions, Spark would plan for minutes.
    """
    row_error = file.row_error if file.row_error is not None else F.lit(None).cast("string")
    of_row = {"_cdc_broken": row_error, "_cdc_as_it_stands": file.raw_record, "_cdc_as_received": file.received_json}
    fields: dict[str, ParsedField] = {}
    of_fields: dict[str, Column] = {}
    for n, (name, field) in enumerate(file.columns.items()):
        parts = {f"_cdc_{part}_{n}": getattr(field, part) for part in ("text", "value", "reason")}
        fields[name] = ParsedField(*map(F.col, parts))
        of_fields |= parts
    rows = file.rows.select(*[column.alias(name) for name, column in (of_row | of_fields).items()])
    row_error, raw_record, received = map(F.col, of_row)
    return replace(file, rows=rows, columns=fields, row_error=row_error, raw_record=raw_record, received_json=received)


def _problem(column: str | None, text: Column, reason: Column) -> Column:
    parts = F.struct(F.lit(column).cast("string").alias("column"), text.alias("value"), reason.alias("reason"))
    return parts.cast(_PROBLEM)


def _masked_row(columns: Mapping[str, ParsedField], row_error: Column, table: Table) -> Column:
    """Return a row of a table with `pii` as quarantine may keep it, as JSON.

    Only the declared columns, since of the others it is unknown whether they are personal; and nothing of a row that
    cannot be split, since it may contain anything.
    """
    members = {}
    for name, field in columns.items():
        masked = pii.masked_text(name, field.text, table)
        if (value := pii.protected_value(name, field.value, table)) is not None:
            is_hashed = table.pii.get(name) == "hmac"
            members[table.name_in_files(name)] = F.coalesce(value, masked) if is_hashed else masked
    row = F.to_json(F.struct(*[m.alias(name) for name, m in members.items()]), {"ignoreNullFields": "false"})
    return F.when(row_error.isNotNull(), pii.MASK).otherwise(row)
