"""CSV: every field as text, found by its column's name."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers.csv_dialect import Dialect
from lakehouse.ingest.readers.fields import ParsedField, ParsedFile, names_in_files
from lakehouse.schema.cast import cast_text
from lakehouse.storage.file_io import StorePath, escape_glob
from lakehouse.storage.landing import LandedFile

_RAGGED = "_ragged"
# What is ours to read, or to tell Spark, whatever a table's options say of it.
_RESERVED_OPTIONS = frozenset({"locale", "dateformat", "timestampformat", "timestampntzformat"})
_REPLACEMENT = "\ufffd"


def parse_file(
    spark: SparkSession,
    table: Table,
    declared: T.StructType,
    file: LandedFile,
    path: StorePath,
    time_zone: str,
    optional_columns: frozenset[str],
    lines: DataFrame | None = None,
) -> ParsedFile:
    """A CSV file as fields.

    Args:
        lines: records to take instead of the file's own, each a line in the one column.

    Raises:
        DataRefused: no header, a column missing or doubled, a quote that is not closed.
    """
    dialect = Dialect.from_options(table.options)
    header, positions = locate_columns(
        dialect, path, names_in_files(table, declared), optional_columns, hide_names=bool(table.pii)
    )
    columns = {}
    for field in declared:
        text = F.col(f"_{positions[field.name]}") if field.name in positions else F.lit(None).cast("string")
        value, reason = cast_text(text, field.dataType, time_zone, table.options)
        if not (dialect.is_utf8 and file.is_utf8):
            broken = text.contains(_REPLACEMENT)
            reason = F.coalesce(
                F.when(broken, F.lit("NUL, or bytes that are not valid in the file's encoding")), reason
            )
        columns[field.name] = ParsedField(text, value, reason)
    ragged = F.lit(f"the record does not have the {len(header)} fields of the header")
    record = F.struct(*[F.col(f"_{i}").alias(name) for i, name in enumerate(header)])
    return ParsedFile(
        rows=_read_texts(spark, dialect, file, path, len(header), lines),
        columns=columns,
        received_json=F.to_json(record, {"ignoreNullFields": "false"}),
        row_error=F.when(F.col(_RAGGED).isNotNull(), ragged),
        raw_record=F.col(_RAGGED),
        record_count=dialect.count_records(path) if dialect.may_span_lines(file) and lines is None else None,
        unknown_columns=tuple(name for i, name in enumerate(header) if i not in positions.values()),
        missing_columns=frozenset(declared.names).difference(positions),
    )


def line_numbers(table: Table, paths: list[StorePath], rows: set[str]) -> dict[str, int]:
    """Where these rows (the JSON of their fields) first stand."""
    dialect = Dialect.from_options(table.options)
    texts = {row: tuple(value or "" for value in json.loads(row).values()) for row in rows}
    found: dict[tuple[str, ...], int] = {}
    for path in paths:
        for width in {len(t) for t in texts.values()}:
            found = dialect.line_numbers(path, {t for t in texts.values() if len(t) == width}, width) | found
    return {row: found[text] for row, text in texts.items() if text in found}


def locate_columns(
    dialect: Dialect,
    path: StorePath,
    declared: Mapping[str, str],
    optional_columns: frozenset[str] = frozenset(),
    hide_names: bool = False,
) -> tuple[list[str], dict[str, int]]:
    """The columns of a file, and where among them each declared one stands.

    Args:
        declared: the declared columns, each with its name in the file.
        hide: tell no name that is not declared: what stands in a header's place may be somebody's row.

    Raises:
        DataRefused: no header, a column missing or doubled.
    """
    header = _read_header(dialect, path, declared)
    return header, _column_positions(header, declared, path, optional_columns, hide_names)


def _read_header(dialect: Dialect, path: StorePath, declared: Mapping[str, str]) -> list[str]:
    if not dialect.has_header:
        return list(declared)
    header = dialect.read_header(path)
    if header is None:
        raise DataRefused(
            f"{path.name} is empty",
            expected=f"a header with the columns {', '.join(declared.values())}",
            where=str(path),
        )
    return [name.strip() or f"(column {i})" for i, name in enumerate(header, start=1)]


def _column_positions(
    header: list[str], declared: Mapping[str, str], path: StorePath, optional_columns: frozenset[str], hide_names: bool
) -> dict[str, int]:
    """Where each declared column stands in the file: found by its name, whatever the case and the order."""
    folded = [name.lower() for name in header]
    doubled = sorted({name for name, low in zip(header, folded, strict=True) if folded.count(low) > 1})
    missing = [
        name for column, name in declared.items() if name.lower() not in folded and column not in optional_columns
    ]
    if doubled or missing:
        known = {name.lower() for name in declared.values()}
        doubled = [name if name.lower() in known or not hide_names else "(not shown)" for name in doubled]
        there = f"{len(header)} names, not shown since the table has `pii`" if hide_names else ", ".join(header)
        found = [f"more than one column named {', '.join(doubled)}"] if doubled else []
        found += [f"no column {', '.join(missing)}"] if missing else []
        raise DataRefused(
            f"{path.name} has {' and '.join(found)}",
            expected=f"the columns {', '.join(declared.values())}; its header has {there}",
            where=f"{path}, line 1",
            next_step="mend the source, or the table's `names` if the source's columns were renamed",
        )
    return {column: folded.index(name.lower()) for column, name in declared.items() if name.lower() in folded}


def _read_texts(
    spark: SparkSession, dialect: Dialect, file: LandedFile, path: StorePath, width: int, lines: DataFrame | None
) -> DataFrame:
    """Every field as text, named by its position, and the whole record where it has another number of fields."""
    by_position = [T.StructField(f"_{i}", T.StringType()) for i in range(width)]
    # The parser puts the null value for a blank field, so that it stays apart from "": for that the file's own hash
    # is taken, which is the one text that cannot stand in it.
    options = {"nullvalue": file.sha256, "emptyvalue": ""}
    options |= {name: value for name, value in dialect.options.items() if name not in _RESERVED_OPTIONS}
    options |= {"mode": "PERMISSIVE", "columnnameofcorruptrecord": _RAGGED, "enforceschema": "true"}
    spans_lines = dialect.may_span_lines(file)
    options |= {"multiline": str(spans_lines).lower()}
    if spans_lines and (line_end := dialect.line_end(path)) != "\n":
        options["linesep"] = line_end  # told, the parser leaves those inside quotes alone
    texts = T.StructType([*by_position, T.StructField(_RAGGED, T.StringType())])
    if lines is not None:
        ddl = ", ".join(f"`{name}` STRING" for name in texts.names)
        return lines.select(F.from_csv(lines.columns[0], ddl, options).alias("_")).select("_.*")
    return spark.read.options(**options).schema(texts).csv(escape_glob(path))
