"""Defines `FieldColumn`: a column whose value is a field inside a declared column, such as `after.id` of an envelope.

The keys and the sequence of a change feed may be such fields. Debezium's events have a row as `after`, and of a delete
as `before`: so of a field in one of them, the same field in the other one is read where the first is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.config.ddl import Column, struct_columns

_IMAGES = {"after": "before", "before": "after"}


@dataclass(frozen=True)
class FieldColumn:
    """A column whose value is a field inside another column.

    Attributes:
        name: The column's name.
        paths: The names that lead to the field; where its value is null, the next path counts.
        type: The field's type, as written.
    """

    name: str
    paths: tuple[tuple[str, ...], ...]
    type: str

    @property
    def sources(self) -> frozenset[str]:
        """The declared columns that the value is read from."""
        return frozenset(path[0] for path in self.paths)


def is_path(name: str, columns: Sequence[Column]) -> bool:
    """Return whether a name is no declared column, but leads to a field inside one.

    Args:
        name: The name, as it is written.
        columns: The declared columns.
    """
    names = {column.name for column in columns}
    return name not in names and "." in name and name.partition(".")[0] in names


def find_field(name: str, columns: Sequence[Column]) -> Column | None:
    """Return the field that a dotted name leads to, or None if there is none.

    >>> find_field("source.lsn", [Column("source", "STRUCT<lsn: BIGINT>")])
    Column(name='lsn', type='BIGINT')

    Args:
        name: The name, such as `source.lsn`.
        columns: The declared columns.
    """
    first, *rest = name.split(".")
    found = next((column for column in columns if column.name == first), None)
    for part in rest:
        fields = struct_columns(found.type) if found and found.canonical_type.startswith("STRUCT<") else ()
        found = next((field for field in fields if field.name == part), None)
    return found


def field_column(name: str, path: str, columns: Sequence[Column]) -> FieldColumn:
    """Return the column for a field.

    Args:
        name: The name of the column.
        path: The names that lead to the field, with dots; it exists.
        columns: The declared columns.
    """
    field = find_field(path, columns)
    assert field is not None
    paths, parts = [tuple(path.split("."))], path.split(".")
    for at, part in enumerate(parts[:-1]):
        other = [*parts[:at], _IMAGES.get(part, part), *parts[at + 1 :]]
        found = find_field(".".join(other), columns)
        if other != parts and found and found.canonical_type == field.canonical_type:
            paths.append(tuple(other))
    return FieldColumn(name, tuple(paths), field.type)


def short_names(paths: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Return a name for each path: its last part, or all parts with `_` if that part is taken.

    >>> short_names(["after.id", "source.lsn", "day"], ["lsn"])
    ['id', 'source_lsn', 'day']

    Args:
        paths: Names of columns, and names with dots that lead to fields.
        taken: Other names, in any case.
    """
    last = [path.rpartition(".")[2].lower() for path in paths]
    used = {name.lower() for name in taken}
    return [
        path.replace(".", "_") if name in used or last.count(name) > 1 else path[-len(name) :] if "." in path else path
        for path, name in zip(paths, last, strict=True)
    ]
