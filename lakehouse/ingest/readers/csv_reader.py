"""Reads landed CSV files with every field as text, and finds columns by their names in the header."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers.missing_columns import MissingColumns
from lakehouse.ingest.readers.parsed_file import ParsedField, ParsedFile, ReadSettings, field_of_name
from lakehouse.schema.cast import cast_text
from lakehouse.storage.csv_dialect import Dialect
from lakehouse.storage.file_io import StorePath, escape_glob
from lakehouse.storage.landing import LandedFile

_RAGGED = "_ragged"
# Spark's reader does not get these options of a table: `cast_text` applies them.
_RESERVED_OPTIONS = frozenset({"locale", "dateformat", "timestampformat", "timestampntzformat"})
REPLACEMENT = "\ufffd"  # stands for what cannot be decoded
UNDECODABLE = "NUL, or bytes that are not valid in the file's encoding"  # a field's fault


def parse_file(settings: ReadSettings, file: LandedFile, path: StorePath) -> ParsedFile:
    """Parse a CSV file into fields.

    Args:
        settings: The reader's settings.
        file: The file as landed.
        path: Where it is.

    Raises:
        DataRefused: There is no header, a column is missing or occurs twice, or a quote is not closed.
    """
    dialect = Dialect.from_options(settings.table.options)
    header, positions = locate_columns(settings, path)
    in_name = settings.name_texts(file)
    columns = {}
    for field in settings.declared:
        if field.name in in_name:
            columns[field.name] = field_of_name(settings, field.name, in_name[field.name])
            continue
        text = F.col(f"_{positions[field.name]}") if field.name in positions else F.lit(None).cast("string")
        if nulls := settings.table.null_texts(field.name):
            text = F.when(~text.isin(*nulls), text)
        value, reason = cast_text(text, field.dataType, settings.time_zone, settings.table.options)
        if not (dialect.is_utf8 and file.is_utf8):
            reason = F.coalesce(F.when(text.contains(REPLACEMENT), F.lit(UNDECODABLE)), reason)
        columns[field.name] = ParsedField(text, value, reason)
    ragged = F.lit(ragged_fault(header))
    fields = [F.col(f"_{i}").alias(name) for i, name in enumerate(header)]
    record = F.struct(*fields, *[F.lit(text).alias(name) for name, text in in_name.items()])
    return ParsedFile(
        rows=_read_texts(settings, file, path, len(header)),
        columns=columns,
        received_json=F.to_json(record, {"ignoreNullFields": "false"}),
        row_error=F.when(F.col(_RAGGED).isNotNull(), ragged),
        raw_record=F.col(_RAGGED),
        record_count=dialect.count_records(path) if dialect.may_span_lines(file) else None,
        unknown_columns=tuple(name for i, name in enumerate(header) if i not in positions.values()),
        missing_columns=frozenset(settings.names_in_files).difference(positions),
    )


def ragged_fault(header: list[str]) -> str:
    """Return the fault of a record that has another number of fields than the header."""
    return f"the record does not have the {len(header)} fields of the header"


def line_numbers(table: Table, files: Mapping[LandedFile, StorePath], rows: set[str]) -> dict[str, int]:
    """Return the line on which each of these rows first begins; rows are given as the JSON of their fields."""
    dialect, pattern = Dialect.from_options(table.options), table.file_pattern
    texts: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for row in rows:
        fields = json.loads(row)
        in_name = tuple(fields.pop(column, None) or "" for column in pattern.columns)
        texts[row] = in_name, tuple(value or "" for value in fields.values())
    numbers: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
    for file, path in files.items():
        values = (pattern.find_values(file.name) if pattern.columns else None) or {}
        in_name = tuple(values.get(column, "") for column in pattern.columns)
        of_file = {fields for name, fields in texts.values() if name == in_name}
        for width in {len(fields) for fields in of_file}:
            wanted = {fields for fields in of_file if len(fields) == width}
            found = dialect.line_numbers(path, wanted, width)
            numbers = {(in_name, fields): number for fields, number in found.items()} | numbers
    return {row: numbers[text] for row, text in texts.items() if text in numbers}


def locate_columns(settings: ReadSettings, path: StorePath) -> tuple[list[str], dict[str, int]]:
    """Return the columns of a file, and the position among them of each declared one that is there.

    Columns are found by their names, in any case and order. If the table has `pii`, no unknown name is reported: in
    place of a header there may be somebody's row.

    Raises:
        DataRefused: There is no header, or a column is missing or occurs twice.
    """
    dialect, names = Dialect.from_options(settings.table.options), settings.names_in_files
    header = list(names)
    if dialect.has_header:
        first_record = dialect.read_header(path)
        if first_record is None:
            raise DataRefused(
                f"{path.name} is empty",
                expected=f"a header with the columns {', '.join(names.values())}",
                where=str(path),
                next_step="have the source deliver it again, with a time of its own",
            )
        if len(first_record) > dialect.max_columns:
            raise DataRefused(
                f"{path.name} has {len(first_record):,} columns",
                expected=f"at most {dialect.max_columns:,}",
                where=f"{path}, line {settings.table.skip_lines + 1}",
                next_step="correct `sep` in the table's `options`, or set `maxColumns` there",
            )
        header = [name.strip() or f"(column {i})" for i, name in enumerate(first_record, start=1)]
    settings.require_not_in_name(header, path)
    lower = [name.lower() for name in header]
    counts = Counter(lower)
    doubled = sorted({name for name, low in zip(header, lower, strict=True) if counts[low] > 1})
    missing = [n for column, n in names.items() if n.lower() not in counts and column not in settings.optional_columns]
    if doubled or missing:
        raise _other_header(settings, path, header, doubled, missing)
    positions = {low: n for n, low in enumerate(lower)}
    return header, {column: positions[name.lower()] for column, name in names.items() if name.lower() in positions}


def _other_header(
    settings: ReadSettings, path: StorePath, header: list[str], doubled: list[str], missing: list[str]
) -> DataRefused:
    """Return the refusal of a header. The kept text does not show one without a declared name: it may be a row."""
    names = settings.names_in_files
    known, has_pii = {name.lower() for name in names.values()}, bool(settings.table.pii)
    option = _option_of(header, known)
    may_be_a_row = has_pii or not (option or known & {name.lower() for name in header})

    def describe(is_shown: bool) -> str:
        shown = [name if is_shown or name.lower() in known else "(not shown)" for name in doubled]
        faults = [f"more than one column named {', '.join(dict.fromkeys(shown))}"] if shown else []
        faults += [f"no column {', '.join(missing)}"] if missing else []
        why = "the table has `pii`" if has_pii else "they may be a row"
        count = f"{len(header)} {'name' if len(header) == 1 else 'names'}, not shown since {why}"
        return f"{path.name} has {' and '.join(faults)}; its header has {', '.join(header) if is_shown else count}"

    return MissingColumns(
        describe(is_shown=not has_pii),
        missing=() if doubled or option else missing,
        unknown=[name for name in header if name.lower() not in known],
        kept=describe(is_shown=not may_be_a_row),
        expected=f"the columns {', '.join(names.values())}",
        where=f"{path}, line {settings.table.skip_lines + 1}",
        next_step=option or "correct the source, or the table's `names` if the source's columns were renamed",
    )


def _option_of(header: list[str], known: set[str]) -> str | None:
    """Return the option to set, if a header has more of the declared names (in lower case) with it."""
    found = len(known & {name.lower() for name in header})
    for separator in ";\t|,:":
        fields = {field.strip().strip('"').lower() for name in header for field in name.split(separator)}
        if len(known & fields) > found:
            return f"set `sep` to {json.dumps(separator)} in the table's `options`: the header has it between its names"
    if any("\ufffd" in name for name in header):
        return "set `encoding` in the table's `options`: the header is not in the declared one"
    return None


def _read_texts(settings: ReadSettings, file: LandedFile, path: StorePath, width: int) -> DataFrame:
    """Read every field as text, named by its position, and the full record if it has another number of fields."""
    dialect = Dialect.from_options(settings.table.options)
    # The parser returns the null value for a blank field, which keeps it apart from "". The file's own hash is the one
    # text that cannot occur in the file.
    options = {"nullvalue": file.sha256, "emptyvalue": ""}
    options |= {name: value for name, value in dialect.options.items() if name not in _RESERVED_OPTIONS}
    options |= {"mode": "PERMISSIVE", "columnnameofcorruptrecord": _RAGGED, "enforceschema": "true"}
    options["encoding"] = dialect.encoding_of(path)
    options["multiline"] = str(dialect.may_span_lines(file)).lower()
    ddl = ", ".join(f"`{name}` STRING" for name in (*(f"_{i}" for i in range(width)), _RAGGED))
    if dialect.may_span_lines(file) and (line_end := dialect.line_end(path)) != "\n":
        options["linesep"] = line_end  # with it, the parser leaves line ends inside quotes as they are
    return settings.spark.read.options(**options).schema(ddl).csv(escape_glob(path))
