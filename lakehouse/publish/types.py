"""Types of the lake as types of PostgreSQL: the one that has the same values, or none."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import types as T

from lakehouse.config.fields import MAX_POSTGRES_NAME_BYTES
from lakehouse.errors import ConfigError

# As PostgreSQL itself spells them (format_type), so that what is there can be compared with what should be.
_POSTGRES_TYPES: dict[type[T.DataType], str] = {
    **{T.ByteType: "smallint", T.ShortType: "smallint", T.IntegerType: "integer", T.LongType: "bigint"},
    **{T.FloatType: "real", T.DoubleType: "double precision", T.BooleanType: "boolean", T.StringType: "text"},
    **{T.BinaryType: "bytea", T.DateType: "date", T.TimestampType: "timestamp with time zone"},
    **{T.TimestampNTZType: "timestamp without time zone"},
}


@dataclass(frozen=True)
class Column:
    """A column of a published table: its name, PostgreSQL's type, and what is said of it there."""

    name: str
    type: str
    comment: str = ""


def postgres_columns(schema: T.StructType, source: str, keys: tuple[str, ...]) -> tuple[Column, ...]:
    """The columns of the table that follows `source`.

    Args:
        fields: of the table in the lake.

    Raises:
        ConfigError: with all columns that PostgreSQL has no such type or no room for.
    """
    misfits = [problem for f in schema if (problem := _column_problem(f))]
    if misfits:
        raise ConfigError(
            f"{source} cannot be published as it is: {'; '.join(misfits)}",
            expected="numbers, text, bytes, truth values, dates and timestamps, under names that fit into PostgreSQL",
            where=source,
            next_step="publish a model that selects to_json(column), or the fields that are needed, or another name",
        )
    return tuple(Column(f.name, postgres_type(f.dataType) or "", _column_comment(f, source, keys)) for f in schema)


def postgres_type(data_type: T.DataType) -> str | None:
    """PostgreSQL's type for one of the lake; None: there is none that has the same values and is equal for the same.

    >>> postgres_type(T.DecimalType(12, 2))
    'numeric(12,2)'
    """
    if isinstance(data_type, T.DecimalType):
        return f"numeric({data_type.precision},{data_type.scale})"
    return next((name for of, name in _POSTGRES_TYPES.items() if isinstance(data_type, of)), None)


def _column_problem(field: T.StructField) -> str:
    if len(field.name.encode()) > MAX_POSTGRES_NAME_BYTES:
        return f"the name {field.name} has more than {MAX_POSTGRES_NAME_BYTES} bytes"
    return "" if postgres_type(field.dataType) else f"{field.name} is {field.dataType.simpleString().upper()}"


def _column_comment(field: T.StructField, source: str, keys: tuple[str, ...]) -> str:
    """What the lake says of a column; else where it comes from."""
    said = (field.metadata or {}).get("comment")
    key = ", key" if field.name in keys else ""
    return str(said) if said else f"{source}.{field.name}, {field.dataType.simpleString().upper()}{key}"
