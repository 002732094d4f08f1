"""Requires that a table can have the columns that a model returns: the rules of `sql/resolve`, on Spark's own types.

`validate` finds most of these faults without Spark; here the first refresh finds the others, before it writes.
"""

from __future__ import annotations

from pyspark.sql import types as T
from sqlglot import exp

from lakehouse.models.sql.faults import to_error
from lakehouse.models.sql.resolve import OutputColumn, Relation
from lakehouse.models.sql.resolve.result import column_faults, duplicate_names, duplicates_fault

_INTERVALS = ("interval", "daytimeinterval", "yearmonthinterval", "calendarinterval")


def require_storable(model: str, schema: T.StructType) -> None:
    """Raise if a table cannot have the columns of a model, or could not be compared with its next rows.

    Args:
        model: The model's name.
        schema: The columns that it returns.

    Raises:
        ConfigError: With all such columns.
    """
    columns = tuple(OutputColumn(f.name, _as_sql_type(f.dataType), collation=_collation(f.dataType)) for f in schema)
    faults = [fault for column in columns for fault in column_faults(model, column, column.name or "x")]
    if repeated := duplicate_names(Relation(columns)):
        faults.append(duplicates_fault(model, list(repeated)))
    if faults:
        raise to_error(faults)


def _as_sql_type(data_type: T.DataType) -> exp.DataType | None:
    """Return the parts of a type that the rules look at; None for every other type."""
    kinds = exp.DataType.Type
    if isinstance(data_type, T.ArrayType):
        element = _as_sql_type(data_type.elementType)
        return exp.DataType(this=kinds.ARRAY, expressions=[element] if element is not None else [])
    if isinstance(data_type, T.StructType):
        members = [exp.ColumnDef(this=exp.to_identifier(f.name), kind=_as_sql_type(f.dataType)) for f in data_type]
        return exp.DataType(this=kinds.STRUCT, expressions=members)
    name = data_type.typeName().partition(" ")[0].partition("(")[0].lower()
    if isinstance(data_type, T.MapType):
        return exp.DataType(this=kinds.MAP)
    if isinstance(data_type, T.NullType):
        return exp.DataType(this=kinds.NULL)
    if name.startswith(_INTERVALS):
        return exp.DataType(this=kinds.INTERVAL)
    return (
        exp.DataType(this={"variant": kinds.VARIANT, "time": kinds.TIME}[name]) if name in ("variant", "time") else None
    )


def _collation(data_type: T.DataType) -> str:
    collation = getattr(data_type, "collation", "UTF8_BINARY")
    return "" if collation == "UTF8_BINARY" else str(collation)
