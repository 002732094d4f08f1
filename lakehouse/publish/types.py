"""Maps types of the lake to the PostgreSQL types with the same values; some have none."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import types as T

from lakehouse.config.postgres_tables import JSON_TYPE, PlannedColumn, atomic_type, require_possible

NESTED_TYPES = (T.ArrayType, T.StructType, T.MapType)


@dataclass(frozen=True)
class Column:
    """A column of a published table: its name, its PostgreSQL type and its comment."""

    name: str
    type: str
    comment: str = ""


def postgres_columns(schema: T.StructType, source: str, keys: tuple[str, ...]) -> tuple[Column, ...]:
    """Return the columns of the PostgreSQL table that follows `source`; the default of a comment is the origin.

    Args:
        schema: The schema of the table in the lake.
        source: The table in the lake, such as `gold.churn`.
        keys: The names of its key columns.

    Raises:
        ConfigError: With everything that PostgreSQL cannot have.
    """
    planned = [_plan(field) for field in schema]
    require_possible(source, planned, keys, source)
    return tuple(
        Column(field.name, column.postgres_type or "", _comment(field, source, keys))
        for field, column in zip(schema, planned, strict=True)
    )


def postgres_type(data_type: T.DataType) -> str | None:
    """Return the PostgreSQL type with the same values and the same equality; None if there is none.

    A MAP is an object in JSON, so that its keys must have a text.

    >>> postgres_type(T.DecimalType(12, 2)), postgres_type(T.ArrayType(T.LongType()))
    ('numeric(12,2)', 'jsonb')
    """
    if not isinstance(data_type, NESTED_TYPES):
        return atomic_type(data_type.simpleString())
    if isinstance(data_type, T.MapType) and isinstance(data_type.keyType, NESTED_TYPES):
        return None
    return JSON_TYPE if all(map(postgres_type, _parts(data_type))) else None


def _parts(data_type: T.DataType) -> list[T.DataType]:
    if isinstance(data_type, T.ArrayType):
        return [data_type.elementType]
    if isinstance(data_type, T.MapType):
        return [data_type.keyType, data_type.valueType]
    return [field.dataType for field in data_type] if isinstance(data_type, T.StructType) else []


def _plan(field: T.StructField) -> PlannedColumn:
    found = postgres_type(field.dataType)
    return PlannedColumn(field.name, found, "" if found else field.dataType.simpleString().upper())


def _comment(field: T.StructField, source: str, keys: tuple[str, ...]) -> str:
    origin = f"{source}.{field.name}, {field.dataType.simpleString().upper()}{', key' if field.name in keys else ''}"
    return str((field.metadata or {}).get("comment") or origin)
