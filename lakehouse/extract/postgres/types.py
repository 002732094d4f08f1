"""Chooses a Parquet type for each column of PostgreSQL: one that represents all its values exactly, or text.

Text is cast to the declared type later, value by value, and a row with an invalid value goes to quarantine. So a column
is read as text if Parquet has no such type (uuid, jsonb, interval, an unbounded numeric), or if the column contains a
value that its Parquet type cannot represent: an infinite date, a date outside the years 1 to 9999, a numeric NaN.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from psycopg import sql

from lakehouse.config.ddl import Column as Declared
from lakehouse.errors import ConfigError, DataRefused

_ARROW_TYPES = {
    **{"int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "float4": pa.float32(), "float8": pa.float64()},
    **{"bool": pa.bool_(), "bytea": pa.binary(), "date": pa.date32(), "timestamp": pa.timestamp("us")},
    **{"timestamptz": pa.timestamp("us", "UTC"), "text": pa.string(), "varchar": pa.string(), "bpchar": pa.string()},
}
_TEXT_TYPES = ("text", "varchar", "bpchar")
_UNSUPPORTED_VALUES = {
    **dict.fromkeys(("date", "timestamp", "timestamptz"), "({0} < '0001-01-01' OR {0} >= '10000-01-01')"),
    "numeric": "{0} = 'NaN'",
}
_MAX_PRECISION = 38


class CatalogColumn(NamedTuple):
    """A column in the database's catalog; for an array, `type` and `modifier` are those of its elements."""

    name: str
    type: str
    modifier: int
    is_array: bool


@dataclass(frozen=True)
class ReadColumn:
    """The types by which a column is read.

    Attributes:
        name: Its name in the database's spelling.
        expression: The expression to select.
        postgres_type: The name of the expression's type.
        arrow_type: The type to write it as.
        unsupported_condition: True for values that `arrow_type` cannot represent; None if it can represent all.
    """

    name: str
    expression: sql.Composed | sql.Identifier
    postgres_type: str
    arrow_type: pa.DataType
    unsupported_condition: sql.Composed | None = None

    def as_text(self) -> ReadColumn:
        """Return the same column as text; times in the notation of ISO 8601."""
        is_time = self.postgres_type in _UNSUPPORTED_VALUES and self.postgres_type != "numeric"
        text = sql.SQL("to_json({}) #>> '{{}}'" if is_time else "{}::text")
        return ReadColumn(self.name, text.format(sql.Identifier(self.name)), "text", pa.string())


def plan_columns(declared: Iterable[Declared], catalog: Iterable[CatalogColumn], table: str) -> list[ReadColumn]:
    """Return how each declared column is read; names match without case.

    A declared column that the database lacks is skipped: the snapshot is rejected for it when it is read.

    Args:
        declared: The declared columns, by their names in the database.
        catalog: The columns of the table in the database.
        table: The table's name, for messages.

    Raises:
        ConfigError: A column cannot have its declared type, or the database has none of the columns.
    """
    declared, by_name = list(declared), dict[str, CatalogColumn]()
    for column in catalog:
        by_name.setdefault(column.name.lower(), column)
        by_name[column.name] = column
    matches = [(one, by_name.get(one.name) or by_name.get(one.name.lower())) for one in declared]
    columns = [_plan_column(column, one, table) for one, column in matches if column]
    if not columns:
        raise ConfigError(
            f"{table} has none of the declared columns",
            expected=f"some of {', '.join(column.name for column in declared)}",
            where=f"{table} ({', '.join(sorted({column.name for column in by_name.values()}))})",
            next_step="correct the table's `schema`, or its `file`",
        )
    return columns


def _plan_column(column: CatalogColumn, declared_column: Declared, table: str) -> ReadColumn:
    name, declared_type = sql.Identifier(column.name), declared_column.canonical_type
    depth = len(re.match(r"(ARRAY<)*", declared_type)[0]) // len("ARRAY<")  # type: ignore[index]
    if "STRUCT<" in declared_type or (depth and not column.is_array):
        raise ConfigError(
            f"{table} has the column {column.name} as {column.type}, but it is declared as {declared_type}",
            expected="STRING for values other than numbers, times, booleans, bytes and arrays of them",
            where=f"the schema of {table}",
            next_step=f"declare {column.name} STRING",
        )
    if depth:
        return _plan_array(column, declared_type, depth)
    arrow_type = None if column.is_array else _exact_arrow_type(column)
    if arrow_type is None:
        return ReadColumn(column.name, sql.SQL("{}::text").format(name), "text", pa.string())
    condition = sql.SQL(_UNSUPPORTED_VALUES[column.type]).format(name) if column.type in _UNSUPPORTED_VALUES else None
    return ReadColumn(column.name, name, "text" if column.type in _TEXT_TYPES else column.type, arrow_type, condition)


def _plan_array(column: CatalogColumn, declared_type: str, depth: int) -> ReadColumn:
    name = sql.Identifier(column.name)
    element, expression, postgres_type = _exact_arrow_type(column), sql.Composed([name]), f"{column.type}[]"
    decimal = re.search(r"DECIMAL\((\d+),(\d+)\)", declared_type)
    if element is None and column.type == "numeric" and decimal:
        element = pa.decimal128(int(decimal[1]), int(decimal[2]))
    if element is None or column.type in _TEXT_TYPES:
        element, expression, postgres_type = pa.string(), sql.SQL("{}::text[]").format(name), "text[]"
    arrow_type = element
    for _ in range(depth):
        arrow_type = pa.list_(arrow_type)
    return ReadColumn(column.name, expression, postgres_type, arrow_type)


def _exact_arrow_type(column: CatalogColumn) -> pa.DataType | None:
    """Return the Arrow type with the same values, or None if there is none."""
    if column.type == "numeric" and column.modifier >= 0:
        precision, scale = (column.modifier - 4) >> 16 & 0xFFFF, (column.modifier - 4) & 0x7FF
        return pa.decimal128(precision, scale) if scale <= precision <= _MAX_PRECISION else None
    return _ARROW_TYPES.get(column.type)


def to_record_batch(rows: list[tuple[Any, ...]], schema: pa.Schema, table: str) -> pa.RecordBatch:
    """Return rows of the database as an Arrow batch.

    Args:
        rows: The rows, with a value for each field of the schema.
        schema: The Arrow schema.
        table: The table's name, for messages.

    Raises:
        DataRefused: An array contains a value that is not of its declared type.
    """
    values = zip(*rows, strict=True) if rows else ([] for _ in schema)
    arrays = []
    for field, column in zip(schema, values, strict=True):
        try:
            if pa.types.is_list(field.type) and not all(_has_depth_of(value, field.type) for value in column):
                raise pa.ArrowInvalid("another number of dimensions")
            arrays.append(pa.array(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise DataRefused(
                f"the column {field.name} of {table} has a value that is not of type {field.type}",
                expected="arrays with the declared number of dimensions and type of elements",
                where=f"the table {table}",
                next_step=f"correct it in the database, or declare {field.name} STRING",
            ) from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _has_depth_of(value: Any, arrow_type: pa.DataType) -> bool:
    """Return whether a value has as many dimensions as its type, because Arrow accepts a text as a list, too."""
    if value is None or not pa.types.is_list(arrow_type):
        return not isinstance(value, list)
    return isinstance(value, list) and all(_has_depth_of(element, arrow_type.value_type) for element in value)
