"""Compares the schema of a table with the schema that it is expected to have."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.config.row_keys import ROW_COUNT, ROW_ID


def schema_mismatches(found: T.StructType, declared: T.StructType) -> list[str]:
    """Return the columns of `found` that `declared` lacks or has with another type, one line each.

    Columns that only `declared` has are no mismatch: they can be added to the table.

    Args:
        found: The schema of the table.
        declared: The schema that it is expected to have.
    """
    return type_mismatches(_types_by_name(found), _types_by_name(declared))


def table_mismatches(found: T.StructType, declared: T.StructType, table: Table) -> list[str]:
    """Return the same for rows of a table, and whether it has got `keys: all` or lost it since they were written.

    Args:
        found: The columns of the rows.
        declared: The columns that they are expected to have.
        table: The table's configuration.
    """
    had_keys = ROW_ID not in found.names
    changed = []
    if had_keys == table.counts_rows:
        changed = ["keys: all is new" if had_keys else f"keys: all is now {', '.join(table.keys)}"]
    compared = T.StructType([field for field in found if field.name not in (ROW_ID, ROW_COUNT)])
    return changed + schema_mismatches(compared, declared)


def type_mismatches(found: Mapping[str, str], declared: Mapping[str, str]) -> list[str]:
    """Return the same for types by column name, as the database spells them.

    >>> type_mismatches({"id": "int", "name": "string"}, {"id": "bigint", "added": "date"})
    ['id: int is now bigint', 'name is gone']

    Args:
        found: The columns of the table.
        declared: The columns that it is expected to have.
    """
    lines = []
    for name, data_type in found.items():
        if name not in declared:
            lines.append(f"{name} is gone")
        elif data_type != declared[name]:
            lines.append(f"{name}: {data_type} is now {declared[name]}")
    return lines


def _types_by_name(schema: T.StructType) -> dict[str, str]:
    return {field.name: field.dataType.simpleString() for field in schema}
