"""The schema of a table: as declared, and as the lake holds it."""

from __future__ import annotations

from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.schema import pii


def stored_schema(table: Table) -> T.StructType:
    """The table's schema as the lake holds it: as declared, but for what `pii` makes of a column."""
    return pii.protected_schema(declared_schema(table), table)


def declared_schema(table: Table) -> T.StructType:
    """The table's declared schema, every column nullable: what a source hands out can lack anything."""
    written = T.DataType.fromDDL(table.schema_ddl)
    assert isinstance(written, T.StructType)
    return T.StructType([T.StructField(f.name, f.dataType) for f in written.fields])
