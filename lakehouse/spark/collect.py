"""Selects values in a form in which any of them can be collected, by Python or by Arrow."""

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


def with_nullable_fields(rows: DataFrame) -> DataFrame:
    """Return rows in which each field of a struct may be null, as in the columns of a Delta table.

    Spark knows of `named_struct('x', 1)` that x is never null. Where such a struct is itself null, PyArrow finds a null
    in x, and refuses it.

    Args:
        rows: Any rows.
    """
    types = {field.name: _nullable(field.dataType) for field in rows.schema}
    if all(field.dataType == types[field.name] for field in rows.schema):
        return rows
    return rows.select(
        *[
            F.col(quote_identifier(field.name)).cast(types[field.name]).alias(field.name, metadata=field.metadata)
            if field.dataType != types[field.name]
            else quote_identifier(field.name)
            for field in rows.schema
        ]
    )


def _nullable(data_type: T.DataType) -> T.DataType:
    if isinstance(data_type, T.StructType):
        return T.StructType(
            [T.StructField(f.name, _nullable(f.dataType), metadata=f.metadata) for f in data_type.fields]
        )
    if isinstance(data_type, T.ArrayType):
        return T.ArrayType(_nullable(data_type.elementType), data_type.containsNull)
    return data_type
