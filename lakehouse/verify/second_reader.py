"""Reads landed CSV files with Spark's typed reader: a second opinion beside `ingest`, which converts text itself."""

from __future__ import annotations

import csv
import secrets
from typing import TextIO

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table, locales, options, patterns
from lakehouse.schema import pii
from lakehouse.storage.file_io import StorePath, escape_glob, is_utf8_copy
from lakehouse.storage.landing import LandedFile
from lakehouse.verify.check import quoted_column
from lakehouse.verify.checked_table import CheckedTable

UNREADABLE = "_cdc_unreadable"  # the record's text, if the reader cannot read it by the schema
# What the reader returns for "", so that a blank stays null. It is random: no file can contain it.
_EMPTY_TEXT = secrets.token_hex(16)
_DEFAULT_OPTIONS = {"header": "true", "sep": ",", "quote": '"', "encoding": "UTF-8"}  # the defaults of pipeline.yml
_OWN_OPTIONS = ("locale", "dateformat", "timestampformat", "timestampntzformat")
_MINUTE_BEFORE_ZONE = r"^([0-9-]+[ T][0-9]+:[0-9]+)(?= *[A-Za-z+-])"  # the reader requires seconds there
_NON_FINITE = r"(?i)^([+-]?inf(inity)?|nan)$"
_TRUE_WORDS, _FALSE_WORDS = ["true", "t", "yes", "y", "1"], ["false", "f", "no", "n", "0"]


def read_typed(table: CheckedTable, file: LandedFile, path: StorePath) -> DataFrame:
    """Return the rows of a landed file by the declared schema, and `UNREADABLE`, the text of a record that is not.

    Pii columns are as the lake may store them.
    """
    in_name = table.config.file_pattern.find_values(file.name) or {}
    reader_options = _reader_options(table.config) | ({"encoding": "UTF-8"} if is_utf8_copy(path) else {})
    in_files = [field for field in table.file_schema if field.name not in in_name]
    by_name = {table.config.name_in_files(field.name).lower(): field for field in in_files}
    has_header = reader_options["header"].lower() == "true"
    header = _read_header(path, reader_options) if has_header else list(by_name)
    fields = [by_name.get(name.strip().lower()) for name in header]
    present = {field.name for field in fields if field}
    unreadable_texts = [  # of columns that are read as text, and whose text is not of the declared type
        F.when(
            _value_column(table, field, True).isNull(),
            without_null_texts(table.config, field.name, quoted_column(field.name)),
        )
        for field in table.file_schema
        if field.name in present and _is_read_as_text(table, field)
    ]
    plain = {
        field.name: parse_text(table, field, F.lit(in_name[field.name]))
        if field.name in in_name
        else _value_column(table, field, field.name in present)
        for field in table.file_schema
    }
    unreadable_texts += [F.when(plain[name].isNull(), F.lit(text)) for name, text in in_name.items()]
    values = {name: pii.protected_value(name, value, table.config) for name, value in plain.items()}
    return _read_file(table, path, fields, reader_options).select(
        *[value.alias(name) for name, value in values.items() if value is not None],
        F.coalesce(UNREADABLE, *unreadable_texts).alias(UNREADABLE),
    )


def _read_file(
    table: CheckedTable, path: StorePath, fields: list[T.StructField | None], reader_options: dict[str, str]
) -> DataFrame:
    """Return the result of Spark's reader for the fields of a file's columns; None is a column of no declared name."""
    columns = [
        T.StructField(f"_other_{position}", T.StringType())
        if field is None
        else T.StructField(field.name, T.StringType() if _is_read_as_text(table, field) else field.dataType)
        for position, field in enumerate(fields)
    ]
    settings = {"escape": reader_options["quote"], "nullvalue": "", "emptyvalue": _EMPTY_TEXT}
    settings |= _line_end_options(path, reader_options)
    settings |= {name: value for name, value in reader_options.items() if name not in _OWN_OPTIONS}
    settings |= {"mode": "PERMISSIVE", "columnnameofcorruptrecord": UNREADABLE, "enforceschema": "true"}
    schema = T.StructType([*columns, T.StructField(UNREADABLE, T.StringType())])
    return table.spark.read.options(**settings).schema(schema).csv(escape_glob(path))


def _reader_options(config: Table) -> dict[str, str]:
    """Return a table's options by Spark's names in lower case, with the defaults of pipeline.yml."""
    given = {options.ALIASES.get(name.lower(), name.lower()): value for name, value in config.options.items()}
    merged = _DEFAULT_OPTIONS | given
    return merged | {"encoding": options.canonical_charset(merged["encoding"]) or merged["encoding"]}


def _is_read_as_text(table: CheckedTable, field: T.StructField) -> bool:
    """Return whether a column is read as text for `parse_text`.

    The reader has no epochs, only two words for booleans, one spelling of infinity, no locale for numbers, and one
    text for null.
    """
    if isinstance(field.dataType, T.FloatType | T.DoubleType):
        return True
    if isinstance(field.dataType, T.NumericType):
        return "locale" in _reader_options(table.config) or bool(_null_texts(table.config, field.name))
    return isinstance(field.dataType, T.BooleanType | T.DateType | T.TimestampType | T.TimestampNTZType)


def _value_column(table: CheckedTable, field: T.StructField, is_present: bool) -> Column:
    """Return a declared column of the rows that were read; null if the file has no such column."""
    column = without_null_texts(table.config, field.name, quoted_column(field.name))
    if not is_present:  # added to the schema after this snapshot was taken
        column = F.lit(None).cast(field.dataType)
    elif isinstance(field.dataType, T.StringType | T.BinaryType):
        empty_text = F.lit(_EMPTY_TEXT).cast(field.dataType)
        column = F.when(column == empty_text, F.lit("").cast(field.dataType)).otherwise(column)
    elif _is_read_as_text(table, field):
        column = parse_text(table, field, column)
    return column.alias(field.name)


def _null_texts(config: Table, name: str) -> list[str]:
    return [*config.null_values.get("*", ()), *config.null_values.get(name, ())]


def without_null_texts(config: Table, name: str, text: Column, is_of_reader: bool = True) -> Column:
    """Return the texts of a column with null in place of those that `null_values` lists.

    Args:
        config: The table's configuration.
        name: The declared column.
        text: The texts, as received.
        is_of_reader: Whether they are the reader's, whose text for "" is another.
    """
    for each in _null_texts(config, name):
        text = F.when(text != F.lit(each or (_EMPTY_TEXT if is_of_reader else "")), text)
    return text


def _read_header(path: StorePath, reader_options: dict[str, str]) -> list[str]:
    with _open_text(path, reader_options, newline="") as file:
        rows = csv.reader(
            file,
            delimiter=reader_options["sep"].replace(r"\t", "\t"),
            quotechar=reader_options["quote"] or None,
            quoting=csv.QUOTE_MINIMAL if reader_options["quote"] else csv.QUOTE_NONE,
        )
        return next(row for row in rows if row)


def _line_end_options(path: StorePath, reader_options: dict[str, str]) -> dict[str, str]:
    """Return the reader's options for a file's line ends.

    Records may span lines, so the reader is a multi-line one. That one assumes a single kind of line end, and removes
    a CR inside quotes unless it is given as the line end. A file with several kinds and no quotes is read by line.
    """
    quote = reader_options["quote"]
    with _open_text(path, reader_options) as file:
        has_quote = bool(quote) and any(quote in line for line in file)
        if isinstance(file.newlines, tuple) and not has_quote:
            return {"multiline": "false"}
    with _open_text(path, reader_options, newline="") as file:
        first = file.readline()
    line_end = first[len(first.rstrip("\r\n")) :]
    return {"multiline": "true"} | ({"linesep": line_end} if line_end.startswith("\r") else {})


def _open_text(path: StorePath, reader_options: dict[str, str], newline: str | None = None) -> TextIO:
    encoding = reader_options["encoding"]
    is_utf8 = encoding.lower().replace("-", "") == "utf8"
    return path.open(encoding="utf-8-sig" if is_utf8 else encoding, errors="replace", newline=newline)


def parse_text(table: CheckedTable, field: T.StructField, text: Column) -> Column:
    """Return a cell's value as the CSV reader parses it, with the words and notations that the reader does not know.

    Args:
        table: The table, whose options and time zone count.
        field: The declared column.
        text: The cell, as received.

    Returns:
        A column of the declared name and type; null if the text is not of that type.
    """
    data_type, reader_options = field.dataType, _reader_options(table.config)
    if isinstance(data_type, T.StringType | T.BinaryType):
        return text.cast(data_type).alias(field.name)
    if isinstance(data_type, T.BooleanType):
        word = F.lower(text)
        return F.when(word.isin(_TRUE_WORDS), True).when(word.isin(_FALSE_WORDS), False).alias(field.name)
    if isinstance(data_type, T.NumericType):
        signs = locales.find_separators(reader_options.get("locale", "en-US")) or locales.Separators(".", ",")
        plain = F.translate(text, signs.decimal + signs.groups, ".") if "locale" in reader_options else text
        number = _parse_cell(plain, data_type, {})
        if isinstance(data_type, T.FloatType | T.DoubleType):
            number = F.when(text.rlike(_NON_FINITE), text.try_cast(data_type)).otherwise(number)
        return number.alias(field.name)
    formats = {k: v for k, v in reader_options.items() if k in _OWN_OPTIONS and v not in patterns.EPOCH_UNITS}
    plain = text if formats else F.regexp_replace(text, _MINUTE_BEFORE_ZONE, "$1:00")
    parsed = _parse_cell(plain, data_type, formats | {"timezone": table.pipeline.timezone})
    return F.coalesce(parsed, _parse_epoch(table, data_type, text)).alias(field.name)


def _parse_cell(text: Column, data_type: T.DataType, settings: dict[str, str]) -> Column:
    cell = F.concat(F.lit('"'), F.replace(text, F.lit('"'), F.lit('""')), F.lit('"'))
    parsed = F.from_csv(cell, f"value {data_type.simpleString()}", {"escape": '"', "mode": "PERMISSIVE"} | settings)
    return parsed["value"]


def _parse_epoch(table: CheckedTable, data_type: T.DataType, text: Column) -> Column:
    """Return the instant of an integer: 13 digits are milliseconds, any other number needs the unit in the options."""
    format_options = {"DATE": "dateformat", "TIMESTAMP": "timestampformat"}
    name = format_options.get(data_type.simpleString().upper(), "timestampntzformat")
    units_per_second = patterns.EPOCH_UNITS.get(_reader_options(table.config).get(name, ""))
    digits = "^[+-]?[0-9]+$" if units_per_second else "^-?[0-9]{13}$"
    number = F.when(text.rlike(digits), text.try_cast("bigint"))
    instant = F.timestamp_micros(F.try_multiply(number, F.lit(1_000_000 // (units_per_second or 1_000))))
    if not isinstance(data_type, T.DateType):
        return instant.cast(data_type)
    is_utc_midnight = F.date_trunc("day", instant) == instant
    local = F.from_utc_timestamp(instant, table.pipeline.timezone)
    return F.when(is_utc_midnight, instant.cast(data_type)).otherwise(local.cast(data_type))
