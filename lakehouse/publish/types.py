"""Maps types of the lake to the PostgreSQL types with the same values; some have none."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import types as T

from lakehouse.config.fields import MAX_POSTGRES_NAME_BYTES
from lakehouse.errors import ConfigError

# As PostgreSQL spells them (format_type), so that the types of an existing table can be compared with these.
_POSTGRES_TYPES: dict[type[T.DataType], str] = {
    **{T.ByteType: "smallint", T.ShortType: "smallint", T.IntegerType: "integer", T.LongType: "bigint"},
    **{T.FloatType: "real", T.DoubleType: "double precision", T.BooleanType: "boolean", T.StringType: "text"},
    **{T.BinaryType: "bytea", T.DateType: "date", T.TimestampType: "timestamp with time zone"},
    **{T.TimestampNTZType: "timestamp without time zone"},
}


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
        ConfigError: With all columns whose type or name PostgreSQL cannot have.
    """
    columns, problems = [], []
    for field in schema:
        spark_type, data_type = field.dataType.simpleString().upper(), postgres_type(field.dataType)
        if len(field.name.encode()) > MAX_POSTGRES_NAME_BYTES:
            problems.append(f"the name {field.name} has more than {MAX_POSTGRES_NAME_BYTES} bytes")
        elif data_type is None:
            problems.append(f"{field.name} is {spark_type}")
        else:
            origin = f"{source}.{field.name}, {spark_type}{', key' if field.name in keys else ''}"
            columns.append(Column(field.name, data_type, str((field.metadata or {}).get("comment") or origin)))
    if problems:
        raise ConfigError(
            f"{source} cannot be published as it is: {'; '.join(problems)}",
            expected="numbers, text, bytes, booleans, dates and timestamps, under names that fit into PostgreSQL",
            where=source,
            next_step="publish a model that selects to_json(column), or single fields, or another name",
        )
    return tuple(columns)


def postgres_type(data_type: T.DataType) -> str | None:
    """Return the PostgreSQL type with the same values and the same equality; None if there is none.

    >>> postgres_type(T.DecimalType(12, 2))
    'numeric(12,2)'
    """
    if isinstance(data_type, T.DecimalType):
        return f"numeric({data_type.precision},{data_type.scale})"
    return next((name for of, name in _POSTGRES_TYPES.items() if isinstance(data_type, of)), None)
