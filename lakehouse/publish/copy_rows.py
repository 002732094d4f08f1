"""Converts rows of the lake to lines of PostgreSQL's COPY. Spark writes the text; the driver only forwards it.

A line has `f` and then all columns in order or, for a deleted row, `t` and its keys. NULL is \\N.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import islice

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier
from lakehouse.lake.delta import is_before_image
from lakehouse.publish.json_values import json_text
from lakehouse.publish.types import NESTED_TYPES

LINE_COLUMN = "line"
_NULL = "\\N"
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}  # the backslash first
_LINES_PER_BLOCK = 1_000


def row_lines(rows: DataFrame) -> DataFrame:
    """Return one line per row."""
    cells = [_copy_value(field) for field in rows.schema]
    return rows.select(F.concat_ws("\t", F.lit("f"), *cells).alias(LINE_COLUMN))


def change_lines(images: DataFrame, schema: T.StructType, keys: tuple[str, ...]) -> DataFrame:
    """Return one line per changed key: its current row, or its deletion.

    Args:
        images: A Change Data Feed. It may have several versions of a key. One version has the row before and after
            the change, or only one of them if another writer changed the key itself.
        schema: The columns to write: those of the current version.
        keys: The names of the key columns.
    """
    by_key = Window.partitionBy(*[F.col(quote_identifier(key)) for key in keys])
    newest = by_key.orderBy(F.desc("_commit_version"), is_before_image())
    last = images.withColumn("_cdc_rank", F.row_number().over(newest)).where("_cdc_rank = 1")
    # PostgreSQL never accepted a key with a NUL character, so it has no such row, and would reject the deletion too.
    texts = [F.col(quote_identifier(f.name)) for f in schema if f.name in keys and isinstance(f.dataType, T.StringType)]
    has_nul = reduce(Column.__or__, [F.coalesce(text.contains("\0"), F.lit(False)) for text in texts], F.lit(False))
    last = last.where(~(is_before_image() & has_nul))
    # A deletion has nothing but its key: PostgreSQL might reject one of its other values.
    cells = [_copy_value(field, null_if=None if field.name in keys else is_before_image()) for field in schema]
    flag = F.when(is_before_image(), "t").otherwise("f")
    return last.select(F.concat_ws("\t", flag, *cells).alias(LINE_COLUMN))


def read_blocks(lines: DataFrame) -> Iterator[str]:
    """Yield the text of the lines in blocks; the next partition is fetched while the current one is forwarded."""
    rows = (row[0] for row in lines.toLocalIterator(prefetchPartitions=True))
    while block := list(islice(rows, _LINES_PER_BLOCK)):
        yield "".join(f"{line}\n" for line in block)


def _copy_value(field: T.StructField, null_if: Column | None = None) -> Column:
    text = _value_text(field) if null_if is None else F.when(~null_if, _value_text(field))
    return F.coalesce(text, F.lit(_NULL))


def _value_text(field: T.StructField) -> Column:
    """Return a value as PostgreSQL reads it; timestamps are in UTC, the session's time zone."""
    value = F.col(quote_identifier(field.name))
    if isinstance(field.dataType, T.BinaryType):
        return F.concat(F.lit("\\\\x"), F.hex(value))
    if isinstance(field.dataType, T.TimestampType):
        return F.concat(value.cast("string"), F.lit("+00"))
    if isinstance(field.dataType, NESTED_TYPES):
        value = json_text(value, field.dataType)
    if isinstance(field.dataType, (T.StringType, *NESTED_TYPES)):
        return reduce(lambda text, pair: F.replace(text, *map(F.lit, pair)), _ESCAPES.items(), value)
    return value.cast("string")
