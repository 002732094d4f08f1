"""Derives a table's Spark schema from pipeline.yml: as declared, and as stored in the lake."""

from __future__ import annotations

from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.schema import pii


def stored_schema(table: Table) -> T.StructType:
    """Return the schema of a table in the lake: the declared columns, with the changes of `pii`.

    Args:
        table: The table's configuration.
    """
    return pii.protected_schema(declared_schema(table), table)


def declared_schema(table: Table) -> T.StructType:
    """Return the declared schema of a table; every column is nullable, because any value can be missing in a source.

    Args:
        table: The table's configuration.
    """
    schema = T.DataType.fromDDL(table.schema_ddl)
    assert isinstance(schema, T.StructType)
    return T.StructType([T.StructField(f.name, f.dataType) for f in schema.fields])
