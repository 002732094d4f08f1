"""Computes the slice of a row, with Spark and in the SQL of DuckDB: the texts that `lake/slices.py` defines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.lake.received_row import member_text
from lakehouse.lake.slices import Slices
from lakehouse.schema.cast import cast_text
from lakehouse.schema.table_schema import declared_schema
from lakehouse.spark.session import local_frame


def slice_of(columns: list[Column]) -> Column:
    """Return the slice of a row as an array of texts; null if one of the values is null.

    Args:
        columns: The row's values of `slice_by`, as the lake stores them.
    """
    texts = [column.cast("string") for column in columns]
    return F.when(reduce(Column.__and__, [text.isNotNull() for text in texts]), F.array(*texts))


def slice_in_table(table: Table, prefix: str = "") -> Column:
    """Return the slice of a row that has the table's columns.

    Args:
        table: The table's configuration, with `slice_by`.
        prefix: A prefix of the columns' names.
    """
    return slice_of([F.col(quote_identifier(f"{prefix}{name}")) for name in table.slice_by or ()])


def slice_in_quarantine(table: Table, columns: Sequence[str], time_zone: str) -> Column:
    """Return the slice of a row in quarantine, by its text as received; null if it cannot be read.

    Args:
        table: The table's configuration.
        columns: The columns of `slice_by`, by which the row was judged.
        time_zone: The zone of timestamps that name none.
    """
    declared, values = declared_schema(table), []
    for name in columns:
        text = member_text(table.name_in_files(name))
        is_stored = name in table.pii  # its hash is in quarantine, too
        values.append(text if is_stored else cast_text(text, declared[name].dataType, time_zone, table.options)[0])
    return slice_of(values)


def slice_frame(spark: SparkSession, slices: Slices, name: str) -> DataFrame:
    """Return the slices as rows with one column, an array of texts.

    Args:
        spark: The session to work in.
        slices: The slices.
        name: The name of the column.
    """
    rows = [(list(each),) for each in sorted(slices.values)]
    return local_frame(spark, f"{quote_identifier(name)} ARRAY<STRING>", rows)


def slice_text_sql(value: str, data_type: T.DataType) -> str:
    """Return the SQL of DuckDB for the text of a value of `slice_by`.

    Args:
        value: The SQL for the value.
        data_type: Its type.
    """
    text = f"CAST({value} AS VARCHAR)"
    if isinstance(data_type, T.DecimalType) and data_type.precision == data_type.scale:  # `.50`, and in Spark `0.50`
        return f"regexp_replace({text}, '^(-?)[.]', '\\10.')"
    return text
