"""Derives a table's Spark schema from pipeline.yml: as declared, and as stored in the lake."""

from __future__ import annotations

import re
from functools import lru_cache

from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.config.ddl import array_element, canonical_type, parse_columns, struct_columns
from lakehouse.config.row_keys import COUNTED_COLUMNS
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
_COUNTED_FIELDS = [T.StructField(column.name, _SIMPLE_TYPES[column.type]) for column in COUNTED_COLUMNS]


def stored_schema(table: Table) -> T.StructType:
    """Return the schema of a table in the lake: the declared columns, with the changes of `pii` and of `keys: all`.

    Keys of a feed that are fields inside columns are columns of their own.

    Args:
        table: The table's configuration.
    """
    fields = [T.StructField(field.name, _data_type(field.type)) for field in table.field_columns]
    keys = [field for field in fields if field.name in table.keys]
    protected = pii.protected_schema(declared_schema(table), table)
    return T.StructType([*keys, *protected, *(_COUNTED_FIELDS if table.counts_rows else [])])


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
    """Return the schema of a DDL text with every column nullable, and every field inside one.

    Spark's own parser needs a JVM, and commands that only read start none.

    Args:
        ddl: The columns.
    """
    return T.StructType([T.StructField(column.name, _data_type(column.type)) for column in parse_columns(ddl)])


def _data_type(text: str) -> T.DataType:
    name = canonical_type(text)
    if match := _DECIMAL.fullmatch(name):
        return T.DecimalType(int(match[1]), int(match[2]))
    if name.startswith("ARRAY<"):
        return T.ArrayType(_data_type(array_element(text)))
    if name.startswith("STRUCT<"):
        return T.StructType([T.StructField(field.name, _data_type(field.type)) for field in struct_columns(text)])
    return _SIMPLE_TYPES[name]
