"""Defines the data subject: the key whose rows are erased, in the forms in which the lake has it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.config.field_columns import FieldColumn
from lakehouse.config.key_text import KeyTextError, parse_key_text, parse_values
from lakehouse.config.row_keys import ROW_ID
from lakehouse.errors import ConfigError
from lakehouse.lake import forgotten_keys
from lakehouse.schema import pii
from lakehouse.schema.cast import cast_text
from lakehouse.schema.table_schema import declared_schema, stored_schema
from lakehouse.spark.collect import select_collectable
from lakehouse.spark.session import local_frame
from lakehouse.text import visible

_DIGITS = re.compile(r"[\d\s.,/()+-]+")  # also as 123.456.789-09 or +55 (11) 99999-0000
_DAY = re.compile(r"(\d{4}([-/.])\d{2}\2\d{2}|\d{2}([-/.])\d{2}\3\d{4})(?!\d)")
_IDENTIFYING = 9  # digits
_RANDOM = re.compile(r"[0-9a-fA-F-]{32,}")  # UUIDs and hashes: there are too many to try them all
_ROW_ID = re.compile(rf"(?:{ROW_ID}=)?(?P<hash>[0-9a-fA-F]{{32}})")
_NUMBER = re.compile(r"(?P<sign>[+-]?)(?P<whole>\d+)(?:\.(?P<fraction>\d+))?", re.ASCII)


@dataclass(frozen=True)
class DataSubject:
    """Whose rows are erased.

    Attributes:
        key_texts: The key as it was given, by column.
        plain_key: One row with the key, by the declared types.
        stored_key: The same row as the lake stores it (`pii`).
        key_hashes: The key in the forms of the list of forgotten keys, first the one to add.
        key_patterns: Finds each part of the key in texts: as it was given, typed, and stored.
    """

    key_texts: Mapping[str, str]
    plain_key: DataFrame
    stored_key: DataFrame
    key_hashes: tuple[str, ...]
    key_patterns: Mapping[str, re.Pattern[str]]

    def is_named_in(self, text: str) -> bool:
        """Return whether every part of the key is a word of a text: the test for texts that are no rows."""
        return all(pattern.search(text) for pattern in self.key_patterns.values())

    def mask_in(self, text: str) -> str:
        """Return a text with the key masked, if the text names the data subject."""
        if self.is_named_in(text):
            for pattern in self.key_patterns.values():
                text = pattern.sub(pii.MASK, text)
        return re.sub(_as_word("|".join(map(re.escape, self.key_hashes))), pii.MASK, text)

    def rows_in(self, rows: DataFrame, as_stored: bool = True) -> DataFrame:
        """Return those of `rows` that have the key, as the lake stores it or, from landed files, as it was received."""
        key = F.broadcast(self.stored_key if as_stored else self.plain_key)
        return rows.join(key, on=list(self.key_texts), how="left_semi")


def _as_word(pattern: str) -> str:
    return rf"(?<!\w)(?:{pattern})(?!\w)"


def text_pattern(forms: Iterable[str], is_number: bool) -> re.Pattern[str]:
    """Return the pattern that finds a value in texts.

    Args:
        forms: The forms of the value.
        is_number: Whether the value is a number, which texts may have with other zeros: `7`, `007` and `7.0`. Other
            values are different then: `007` is not the text `7`.
    """
    patterns = dict.fromkeys(pattern for form in forms for pattern in _form_patterns(form, is_number))
    word = _as_word("|".join(sorted(patterns, key=len, reverse=True)))
    return re.compile(rf"(?<!\d\.){word}(?!\.\d)" if is_number else word)


def _form_patterns(form: str, is_number: bool) -> Iterator[str]:
    yield re.escape(form)
    yield re.escape(visible(form, 10 * len(form)))
    for written in (
        json.dumps(form)[1:-1],
        json.dumps(form, ensure_ascii=False)[1:-1],
        quote(form, safe=""),
        quote_plus(form),
    ):
        yield re.escape(written)
    if is_number and (number := _NUMBER.fullmatch(form)):
        whole, fraction = number["whole"].lstrip("0"), (number["fraction"] or "").rstrip("0")
        sign = "-" if number["sign"] == "-" else ""
        yield sign + (f"0*{whole}" if whole else "0+") + (rf"\.{fraction}0*" if fraction else r"(?:\.0)?")


def find_data_subject(spark: SparkSession, table: Table, key_texts: Mapping[str, str]) -> DataSubject:
    """Return the data subject of a key.

    Args:
        spark: The session that casts the key.
        table: The table's configuration.
        key_texts: The key by column, as `parse_key` returns it.

    Raises:
        ConfigError: A text is not of its column's type.
    """
    types = key_types(table)
    columns = {column: F.col(quote_identifier(column)) for column in key_texts}
    ddl = ", ".join(f"{quote_identifier(column)} STRING" for column in key_texts)
    given = local_frame(spark, ddl, [tuple(key_texts.values())])
    plain = given.select(*[cast_text(text, types[c], "UTC", {})[0].alias(c) for c, text in columns.items()])
    row = select_collectable(plain, list(key_texts)).collect()[0]
    if wrong := [f"{c} as {types[c].simpleString().upper()}" for c in columns if row[c] is None]:
        raise ConfigError(
            f"no value of the key's type: {', '.join(wrong)}", expected="as 2025-10-03, 17.5 or plain text"
        )

    def stored_value(column: str) -> Column:
        value = pii.protected_value(column, columns[column], table)
        assert value is not None  # `pii` drops no key
        return value.alias(column)

    stored = plain.select(*map(stored_value, columns))
    quoted = [F.col(quote_identifier(column)).cast("string") for column in columns]
    typed, kept = plain.select(*quoted).collect()[0], stored.select(*quoted).collect()[0]
    patterns = {
        column: text_pattern((text, typed[n], kept[n]), isinstance(types[column], T.NumericType))
        for n, (column, text) in enumerate(key_texts.items())
    }
    key_hashes = tuple(stored.select(*forgotten_keys.hash_forms(table, list(key_texts))).collect()[0])
    return DataSubject(key_texts, plain, stored, key_hashes, patterns)


def key_types(table: Table) -> dict[str, T.DataType]:
    """Return the types of the columns that a key may have, as they are declared.

    Args:
        table: The table's configuration.
    """
    return {field.name: field.dataType for field in (*stored_schema(table), *declared_schema(table))}


def key_fields(table: Table) -> dict[str, FieldColumn]:
    """Return the columns of a table's key that are fields inside others (`after.id`), by name.

    Args:
        table: The table's configuration.
    """
    return {field.name: field for field in table.field_columns if field.name in table.keys}


def text_of_field(field: FieldColumn, texts: Mapping[str, Column]) -> Column:
    """Return the text of a field in the JSON of the columns that it is inside, also if other parts of these are wrong.

    Args:
        field: The field.
        texts: The text of each of these columns; an object around it, as rows of Parquet have it, does not matter.
    """
    found = []
    for first, *rest in field.paths:
        paths = ("".join(f"['{name}']" for name in names) for names in (rest, [first, *rest]))
        found += [F.get_json_object(texts[first], f"${path}") for path in paths]
    return F.coalesce(*found)


def can_be_guessed(table: Table, key_texts: Mapping[str, str]) -> bool:
    """Return whether a key's SHA-256 can be reversed by trial: no part of it is random, nor hashed by `pii`.

    Names and addresses can: there are lists of them.
    """
    return not forgotten_keys.has_hashed_key(table, key_texts) and not any(
        _RANDOM.fullmatch(text) and not _DIGITS.fullmatch(text) for text in key_texts.values()
    )


def is_identifier(table: Table, key_texts: Mapping[str, str]) -> bool:
    """Return whether a key that can be guessed names a person: a part of it is a number of 9 digits or more.

    These are numbers that authorities, banks and telephone companies give (CPF, 11 digits), and all of them can be
    tried. Shorter ones, which number the rows of a source, and days mean something only to those who know the source.
    """
    days = {name for name, type_ in key_types(table).items() if isinstance(type_, T.DatetimeType)}
    return can_be_guessed(table, key_texts) and any(
        _DIGITS.fullmatch(text)
        and sum(map(str.isdigit, text)) >= _IDENTIFYING
        and column not in days
        and not _DAY.match(text)
        for column, text in key_texts.items()
    )


def parse_key(table: Table, key: list[str]) -> dict[str, str]:
    """Return a key by column. Rows without a key are found by values of any columns, or by their `_cdc_row`.

    Args:
        table: The table's configuration.
        key: The arguments of the command: a value, or `column=value` for each column of the key.

    Raises:
        ConfigError: A column of the key is missing, or is none.
    """
    if table.counts_rows:
        return _parse_values(table, key)
    given = dict(zip(table.keys, key, strict=False)) if len(table.keys) == len(key) == 1 else {}
    with suppress(KeyTextError):
        given = given or {c: text for c, text in parse_key_text(table.keys, key, may_be_null=False).items() if text}
    if len(given) < len(table.keys) or not all(given.values()):
        wanted = ["KEY"] if len(table.keys) == 1 else [f"{k}=..." for k in table.keys]
        raise ConfigError(
            f"{len(key)} arguments that do not name a key",
            expected=f"{' '.join(wanted)}: a value for {', '.join(table.keys)}",
        )
    return given


def _parse_values(table: Table, key: list[str]) -> dict[str, str]:
    """Return the values of the columns by which rows without a key are found."""
    if len(key) == 1 and (row := _ROW_ID.fullmatch(key[0])):
        return {ROW_ID: row["hash"].lower()}
    # The lake does not know the values of masked and dropped columns; floating-point numbers have no one text.
    comparable = [
        column.name
        for column in table.columns
        if table.pii.get(column.name) in (None, "hmac")
        and not (column.is_nested or column.canonical_type in ("FLOAT", "DOUBLE"))
    ]
    with suppress(KeyTextError):
        if given := parse_values(comparable, key):
            return given
    raise ConfigError(
        f"{len(key)} arguments that do not name rows of a table without a key",
        expected=f"column=value for one or more of {', '.join(comparable)}; or the row's {ROW_ID}",
    )
