"""Selects values in a form in which any of them can be collected."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config.ddl import quote_identifier

_HELD_BY_PYTHON = (T.NumericType, T.StringType, T.BooleanType, T.BinaryType)


def select_collectable(rows: DataFrame, columns: Sequence[str]) -> DataFrame:
    """Select columns, as texts if Python may not hold their values.

    PySpark converts an instant to the zone of the process, and fails on those of the first and last day of the years
    1 to 9999.

    Args:
        rows: Any rows.
        columns: The names of the columns.
    """
    selected = rows.select(*map(quote_identifier, columns))
    return selected.select(
        *[
            F.col(quote_identifier(field.name))
            if isinstance(field.dataType, _HELD_BY_PYTHON)
            else F.col(quote_identifier(field.name)).cast("string").alias(field.name)
            for field in selected.schema
        ]
    )
