"""Compares the schema of a table with the schema that it is expected to have."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import types as T


def schema_mismatches(found: T.StructType, declared: T.StructType) -> list[str]:
    """Return the columns of `found` that `declared` lacks or has with another type, one line each.

    Columns that only `declared` has are no mismatch: they can be added to the table.

    Args:
        found: The schema of the table.
        declared: The schema that it is expected to have.
    """
    return type_mismatches(_types_by_name(found), _types_by_name(declared))


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
