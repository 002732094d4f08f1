"""PostgreSQL's types as Parquet's: each column as the type that holds all its values exactly, or as PostgreSQL's text.

Text is read by the declared schema later, value by value, and what does not fit goes to quarantine with its row. So
text is taken for types that Parquet has not (uuid, jsonb, interval, an unbounded numeric), and also for a column that
holds a value which its Parquet type has not: an infinite date, one before year 1 or after 9999, a numeric NaN.
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
    """A column as the catalog has it: its type's name and modifier, those of an array's elements where it is one."""

    name: str
    type: str
    modifier: int
    is_array: bool


@dataclass(frozen=True)
class ReadColumn:
    """How a column is read.

    Attributes:
        name: as the database spells it.
        expression: what is selected.
        wire: the type in which it comes, by its name in PostgreSQL.
        arrow: the type in which it is written.
        odd: a condition on values that this type has not; None where it has them all.
    """

    name: str
    expression: sql.Composed | sql.Identifier
    postgres_type: str
    arrow_type: pa.DataType
    unsupported_condition: sql.Composed | None = None

    def as_text(self) -> ReadColumn:
        """The same column as text; times as ISO 8601 writes them."""
        text = sql.SQL(
            "to_json({}) #>> '{{}}'"
            if self.postgres_type in _UNSUPPORTED_VALUES and self.postgres_type != "numeric"
            else "{}::text"
        )
        return ReadColumn(self.name, text.format(sql.Identifier(self.name)), "text", pa.string())


def plan_columns(declared: Iterable[Declared], catalog: Iterable[CatalogColumn], table: str) -> list[ReadColumn]:
    """The declared columns that are there, by name without case; one that is not is missed when the snapshot is read.

    Raises:
        ConfigError: a declared type that no column of this database comes to, or none of the columns is there.
    """
    by_name: dict[str, CatalogColumn] = {}
    for one in catalog:
        by_name.setdefault(one.name.lower(), one)
        by_name[one.name] = one
    there = [(column, by_name.get(column.name) or by_name.get(column.name.lower())) for column in declared]
    columns = [_plan_column(one, column, table) for column, one in there if one]
    if not columns:
        raise ConfigError(
            f"{table} has none of the declared columns",
            expected=f"some of {', '.join(column.name for column, _ in there)}",
            where=f"{table} ({', '.join(sorted({one.name for one in by_name.values()}))})",
            next_step="correct the table's `schema`, or its `file`",
        )
    return columns


def _plan_column(column: CatalogColumn, declared_column: Declared, table: str) -> ReadColumn:
    name, wanted = sql.Identifier(column.name), declared_column.canonical_type
    depth = len(re.match(r"(ARRAY<)*", wanted)[0]) // len("ARRAY<")  # type: ignore[index]
    if "STRUCT<" in wanted or (depth and not column.is_array):
        raise ConfigError(
            f"{table} has the column {column.name} as {column.type}, and it is declared as {wanted}",
            expected="STRING for what is neither a number, a time, a truth value, bytes nor an array of them",
            where=f"the schema of {table}",
            next_step=f"declare {column.name} STRING",
        )
    if depth:
        return _plan_array(column, wanted, depth)
    arrow = None if column.is_array else _exact_arrow_type(column)
    if arrow is None:
        return ReadColumn(column.name, sql.SQL("{}::text").format(name), "text", pa.string())
    odd = sql.SQL(_UNSUPPORTED_VALUES[column.type]).format(name) if column.type in _UNSUPPORTED_VALUES else None
    return ReadColumn(column.name, name, "text" if column.type in _TEXT_TYPES else column.type, arrow, odd)


def _plan_array(column: CatalogColumn, declared_type: str, depth: int) -> ReadColumn:
    name = sql.Identifier(column.name)
    element, expression, wire = _exact_arrow_type(column), sql.Composed([name]), f"{column.type}[]"
    decimal = re.search(r"DECIMAL\((\d+),(\d+)\)", declared_type)
    if element is None and column.type == "numeric" and decimal:
        element = pa.decimal128(int(decimal[1]), int(decimal[2]))
    if element is None or column.type in _TEXT_TYPES:
        element, expression, wire = pa.string(), sql.SQL("{}::text[]").format(name), "text[]"
    arrow = element
    for _ in range(depth):
        arrow = pa.list_(arrow)
    return ReadColumn(column.name, expression, wire, arrow)


def _exact_arrow_type(column: CatalogColumn) -> pa.DataType | None:
    """The Arrow type that has the same values; None: there is none."""
    if column.type == "numeric" and column.modifier >= 0:
        precision, scale = (column.modifier - 4) >> 16 & 0xFFFF, (column.modifier - 4) & 0x7FF
        return pa.decimal128(precision, scale) if scale <= precision <= _MAX_PRECISION else None
    return _ARROW_TYPES.get(column.type)


def to_record_batch(rows: list[tuple[Any, ...]], schema: pa.Schema, table: str) -> pa.RecordBatch:
    """Rows as they came, as Arrow has them.

    Raises:
        DataRefused: an array holds what its elements' type has not.
    """
    values = zip(*rows, strict=True) if rows else ([] for _ in schema)
    arrays = []
    for field, column in zip(schema, values, strict=True):
        try:
            if pa.types.is_list(field.type) and not all(_has_depth_of(value, field.type) for value in column):
                raise pa.ArrowInvalid("another depth")
            arrays.append(pa.array(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise DataRefused(
                f"the column {field.name} of {table} has a value that is no {field.type}",
                expected="arrays of one depth, whose elements are as they are declared",
                where=f"the table {table}",
                next_step=f"mend it in the database, or declare {field.name} STRING",
            ) from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _has_depth_of(value: Any, arrow_type: pa.DataType) -> bool:
    """Whether a value has as many dimensions as its type: to Arrow a text, too, is a list."""
    if value is None or not pa.types.is_list(arrow_type):
        return not isinstance(value, list)
    return isinstance(value, list) and all(_has_depth_of(element, arrow_type.value_type) for element in value)
