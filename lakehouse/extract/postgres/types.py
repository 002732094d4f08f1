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

_SAME = {
    **{"int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "float4": pa.float32(), "float8": pa.float64()},
    **{"bool": pa.bool_(), "bytea": pa.binary(), "date": pa.date32(), "timestamp": pa.timestamp("us")},
    **{"timestamptz": pa.timestamp("us", "UTC"), "text": pa.string(), "varchar": pa.string(), "bpchar": pa.string()},
}
_TEXTS = ("text", "varchar", "bpchar")
_ODD = {
    **dict.fromkeys(("date", "timestamp", "timestamptz"), "({0} < '0001-01-01' OR {0} >= '10000-01-01')"),
    "numeric": "{0} = 'NaN'",
}
_MOST_DIGITS = 38


class Found(NamedTuple):
    """A column as the catalog has it: its type's name and modifier, those of an array's elements where it is one."""

    name: str
    type: str
    modifier: int
    is_array: bool


@dataclass(frozen=True)
class Column:
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
    wire: str
    arrow: pa.DataType
    odd: sql.Composed | None = None

    def as_text(self) -> Column:
        """The same column as text; times as ISO 8601 writes them."""
        text = sql.SQL("to_json({}) #>> '{{}}'" if self.wire in _ODD and self.wire != "numeric" else "{}::text")
        return Column(self.name, text.format(sql.Identifier(self.name)), "text", pa.string())


def chosen(declared: Iterable[Declared], found: Iterable[Found], table: str) -> list[Column]:
    """The declared columns that are there, by name without case; one that is not is missed when the snapshot is read.

    Raises:
        ConfigError: a declared type that no column of this database comes to, or none of the columns is there.
    """
    by_name: dict[str, Found] = {}
    for one in found:
        by_name.setdefault(one.name.lower(), one)
        by_name[one.name] = one
    there = [(column, by_name.get(column.name) or by_name.get(column.name.lower())) for column in declared]
    columns = [_column(one, column, table) for column, one in there if one]
    if not columns:
        raise ConfigError(
            f"{table} has none of the declared columns",
            expected=f"some of {', '.join(column.name for column, _ in there)}",
            where=f"{table} ({', '.join(sorted({one.name for one in by_name.values()}))})",
            next_step="correct the table's `schema`, or its `file`",
        )
    return columns


def _column(found: Found, declared: Declared, table: str) -> Column:
    name, wanted = sql.Identifier(found.name), declared.canonical_type
    depth = len(re.match(r"(ARRAY<)*", wanted)[0]) // len("ARRAY<")  # type: ignore[index]
    if "STRUCT<" in wanted or (depth and not found.is_array):
        raise ConfigError(
            f"{table} has the column {found.name} as {found.type}, and it is declared as {wanted}",
            expected="STRING for what is neither a number, a time, a truth value, bytes nor an array of them",
            where=f"the schema of {table}",
            next_step=f"declare {found.name} STRING",
        )
    if depth:
        return _array(found, wanted, depth)
    arrow = None if found.is_array else _exactly(found)
    if arrow is None:
        return Column(found.name, sql.SQL("{}::text").format(name), "text", pa.string())
    odd = sql.SQL(_ODD[found.type]).format(name) if found.type in _ODD else None
    return Column(found.name, name, "text" if found.type in _TEXTS else found.type, arrow, odd)


def _array(found: Found, wanted: str, depth: int) -> Column:
    name = sql.Identifier(found.name)
    element, expression, wire = _exactly(found), sql.Composed([name]), f"{found.type}[]"
    decimal = re.search(r"DECIMAL\((\d+),(\d+)\)", wanted)
    if element is None and found.type == "numeric" and decimal:
        element = pa.decimal128(int(decimal[1]), int(decimal[2]))
    if element is None or found.type in _TEXTS:
        element, expression, wire = pa.string(), sql.SQL("{}::text[]").format(name), "text[]"
    arrow = element
    for _ in range(depth):
        arrow = pa.list_(arrow)
    return Column(found.name, expression, wire, arrow)


def _exactly(found: Found) -> pa.DataType | None:
    """The Arrow type that has the same values; None: there is none."""
    if found.type == "numeric" and found.modifier >= 0:
        precision, scale = (found.modifier - 4) >> 16 & 0xFFFF, (found.modifier - 4) & 0x7FF
        return pa.decimal128(precision, scale) if scale <= precision <= _MOST_DIGITS else None
    return _SAME.get(found.type)


def batch(rows: list[tuple[Any, ...]], schema: pa.Schema, table: str) -> pa.RecordBatch:
    """Rows as they came, as Arrow has them.

    Raises:
        DataRefused: an array holds what its elements' type has not.
    """
    values = zip(*rows, strict=True) if rows else ([] for _ in schema)
    arrays = []
    for field, column in zip(schema, values, strict=True):
        try:
            if pa.types.is_list(field.type) and not all(_is_as_deep(value, field.type) for value in column):
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


def _is_as_deep(value: Any, kind: pa.DataType) -> bool:
    """Whether a value has as many dimensions as its type: to Arrow a text, too, is a list."""
    if value is None or not pa.types.is_list(kind):
        return not isinstance(value, list)
    return isinstance(value, list) and all(_is_as_deep(element, kind.value_type) for element in value)
