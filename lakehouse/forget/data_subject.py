"""Defines the data subject: the key whose rows are erased, in the forms in which the lake has it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.errors import ConfigError
from lakehouse.lake import forgotten_keys
from lakehouse.schema import pii
from lakehouse.schema.cast import cast_text
from lakehouse.schema.table_schema import declared_schema
from lakehouse.spark.session import local_frame


@dataclass(frozen=True)
class DataSubject:
    """Whose rows are erased.

    Attributes:
        key_texts: The key as it was given, by column.
        plain_key: One row with the key, by the declared types.
        stored_key: The same row as the lake stores it (`pii`).
        key_hash: The key's hash in the list of forgotten keys.
    """

    key_texts: Mapping[str, str]
    plain_key: DataFrame
    stored_key: DataFrame
    key_hash: str

    def is_named_in(self, text: str) -> bool:
        """Return whether every part of the key is a word of a text: the test for texts that are no rows."""
        return all(re.search(_as_word(part), text) for part in self.key_texts.values())

    def mask_in(self, text: str) -> str:
        """Return a text with the key masked, if the text names the data subject."""
        if self.is_named_in(text):
            for part in self.key_texts.values():
                text = re.sub(_as_word(part), pii.MASK, text)
        return text

    def rows_in(self, rows: DataFrame, as_stored: bool = True) -> DataFrame:
        """Return those of `rows` that have the key, as the lake stores it or, from landed files, as it was received."""
        key = F.broadcast(self.stored_key if as_stored else self.plain_key)
        return rows.join(key, on=list(self.key_texts), how="left_semi")


def _as_word(text: str) -> str:
    return rf"(?<!\w){re.escape(text)}(?!\w)"


def find_data_subject(spark: SparkSession, table: Table, key_texts: Mapping[str, str]) -> DataSubject:
    """Return the data subject of a key.

    Args:
        spark: The session that casts the key.
        table: The table's configuration.
        key_texts: The key by column, as `parse_key` returns it.

    Raises:
        ConfigError: A text is not of its column's type.
    """
    types = {f.name: f.dataType for f in declared_schema(table)}
    columns = {column: F.col(quote_identifier(column)) for column in key_texts}
    ddl = ", ".join(f"{quote_identifier(column)} STRING" for column in key_texts)
    given = local_frame(spark, ddl, [tuple(key_texts.values())])
    plain = given.select(*[cast_text(text, types[c], "UTC", {})[0].alias(c) for c, text in columns.items()])
    row = plain.collect()[0]
    if wrong := [f"{c} as {types[c].simpleString().upper()}" for c in columns if row[c] is None]:
        raise ConfigError(
            f"no value of the key's type: {', '.join(wrong)}", expected="as 2025-10-03, 17.5 or plain text"
        )

    def stored_value(column: str) -> Column:
        value = pii.protected_value(column, columns[column], table)
        assert value is not None  # `pii` drops no key
        return value.alias(column)

    stored = plain.select(*map(stored_value, columns))
    return DataSubject(key_texts, plain, stored, stored.select(forgotten_keys.hash_key(table)).collect()[0][0])


def parse_key(table: Table, key: list[str]) -> dict[str, str]:
    """Return a key by column.

    Args:
        table: The table's configuration.
        key: The arguments of the command: a value, or `column=value` for each column of the key.

    Raises:
        ConfigError: A column of the key is missing, or is none.
    """
    if len(table.keys) == 1:
        given = {table.keys[0]: key[0]} if len(key) == 1 else {}
    else:
        parts = key[0].split(",") if len(key) == 1 else key
        given = {name: value for name, equals, value in (part.partition("=") for part in parts) if equals}
    if set(given) != set(table.keys) or not all(given.values()):
        wanted = ["KEY"] if len(table.keys) == 1 else [f"{k}=..." for k in table.keys]
        raise ConfigError(
            f"{len(key)} arguments that do not name a key",
            expected=f"{' '.join(wanted)}: a value for {', '.join(table.keys)}",
        )
    return {k: given[k] for k in table.keys}
