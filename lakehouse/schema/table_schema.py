"""Derives a table's Spark schema from pipeline.yml: as declared, and as stored in the lake."""

from __future__ import annotations

import re
from functools import lru_cache

from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.config.ddl import parse_columns
from lakehouse.schema import pii

_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_SIMPLE_TYPES: dict[str, T.DataType] = {
    "STRING": T.StringType(),
    "BOOLEAN": T.BooleanType(),
    "TINYINT": T.ByteType(),
    "SMALLINT": T.ShortType(),
    "INT": T.IntegerType(),
    "BIGINT": T.LongType(),
    "FLOAT": T.FloatType(),
    "DOUBLE": T.DoubleType(),
    "DATE": T.DateType(),
    "TIMESTAMP": T.TimestampType(),
    "TIMESTAMP_NTZ": T.TimestampNTZType(),
    "BINARY": T.BinaryType(),
}


def stored_schema(table: Table) -> T.StructType:
    """Return the schema of a table in the lake: the declared columns, with the changes of `pii`.

    Args:
        table: The table's configuration.
    """
    return pii.protected_schema(declared_schema(table), table)


def received_schema(table: Table) -> T.StructType:
    """Return the schema of a feed's events in raw: as stored, with the columns that the feed drops.

    Args:
        table: The table's configuration.
    """
    return pii.protected_schema(declared_schema(table), table, keep_dropped=True)


def declared_schema(table: Table) -> T.StructType:
    """Return the declared schema of a table; every column is nullable, because any value can be missing in a source.

    Args:
        table: The table's configuration.
    """
    return parse_schema(table.schema_ddl)


@lru_cache(maxsize=256)
def parse_schema(ddl: str) -> T.StructType:
    """Return the schema of a DDL text with every column nullable.

    Args:
        ddl: The columns.
    """
    types = [_simple_type(column.canonical_type) for column in parse_columns(ddl)]
    if None not in types:
        names = [column.name for column in parse_columns(ddl)]
        return T.StructType([T.StructField(name, t) for name, t in zip(names, types, strict=True) if t])
    schema = T.DataType.fromDDL(ddl)  # Spark parses nested types, in the JVM
    assert isinstance(schema, T.StructType)
    return T.StructType([T.StructField(f.name, f.dataType) for f in schema.fields])


def _simple_type(name: str) -> T.DataType | None:
    """Return a type by its canonical name, or None for a nested one."""
    if match := _DECIMAL.fullmatch(name):
        return T.DecimalType(int(match[1]), int(match[2]))
    return _SIMPLE_TYPES.get(name)
