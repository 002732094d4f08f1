"""Rows of the lake as lines of PostgreSQL's COPY, written by Spark: the driver passes text on and holds no table.

A line has `f`, and then the columns in their order; or, for a row that is gone, `t` and its keys. NULL is \\N.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import islice

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.lake.delta import is_before_image

LINE_COLUMN = "line"
_NULL = "\\N"
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}  # the backslash first
_LINES_PER_BLOCK = 1_000  # lines


def row_lines(rows: DataFrame) -> DataFrame:
    """Rows as they are now: a line each."""
    cells = [_copy_value(field) for field in rows.schema]
    return rows.select(F.concat_ws("\t", F.lit("f"), *cells).alias(LINE_COLUMN))


def change_lines(images: DataFrame, schema: T.StructType, keys: tuple[str, ...]) -> DataFrame:
    """What became of each key that changed: a line each.

    Args:
        images: a Change Data Feed. A key may come in several versions of it; in one version, its old image and its new
            one, or only one of them where a foreign writer changed the key itself.
        fields: the columns to write, those of the table as it is now.
    """
    by_key = Window.partitionBy(*[_quoted_column(key) for key in keys])
    newest = by_key.orderBy(F.desc("_commit_version"), is_before_image())
    last = images.withColumn("_cdc_rank", F.row_number().over(newest)).where("_cdc_rank = 1")
    # A key that PostgreSQL refused was never there, and would be refused again on its way out.
    texts = [_quoted_column(f.name) for f in schema if f.name in keys and isinstance(f.dataType, T.StringType)]
    refused = reduce(Column.__or__, [F.coalesce(text.contains("\0"), F.lit(False)) for text in texts], F.lit(False))
    last = last.where(~(is_before_image() & refused))
    # Of a row that is gone nothing but the key is told: any other value of it could be one that PostgreSQL refuses.
    cells = [_copy_value(field, null_if=None if field.name in keys else is_before_image()) for field in schema]
    gone = F.when(is_before_image(), "t").otherwise("f")
    return last.select(F.concat_ws("\t", gone, *cells).alias(LINE_COLUMN))


def read_blocks(lines: DataFrame) -> Iterator[str]:
    """The text of the lines, some of them at a time. A partition is fetched while the one before it is passed on."""
    rows = (row[0] for row in lines.toLocalIterator(prefetchPartitions=True))
    while some := list(islice(rows, _LINES_PER_BLOCK)):
        yield "".join(f"{line}\n" for line in some)


def _copy_value(field: T.StructField, null_if: Column | None = None) -> Column:
    text = _value_text(field) if null_if is None else F.when(~null_if, _value_text(field))
    return F.coalesce(text, F.lit(_NULL))


def _value_text(field: T.StructField) -> Column:
    """A value as PostgreSQL reads it; times are of UTC, as the session's are."""
    value = _quoted_column(field.name)
    if isinstance(field.dataType, T.BinaryType):
        return F.concat(F.lit("\\\\x"), F.hex(value))
    if isinstance(field.dataType, T.TimestampType):
        return F.concat(value.cast("string"), F.lit("+00"))
    if isinstance(field.dataType, T.StringType):
        return reduce(lambda text, pair: F.replace(text, *map(F.lit, pair)), _ESCAPES.items(), value)
    return value.cast("string")


def _quoted_column(column: str) -> Column:
    return F.col("`" + column.replace("`", "``") + "`")
