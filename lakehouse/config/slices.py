"""Checks `slice_by`, the columns that say which part of a table a snapshot holds, and the columns of files' names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lakehouse.config.ddl import Column
from lakehouse.config.file_pattern import file_pattern
from lakehouse.config.strict_model import STRUCTURE, VALUE, Discrepancy

_NESTED = ("ARRAY", "STRUCT", "MAP")
# Types whose values have no single text, by which slices are recorded and compared.
_TYPES_WITHOUT_SLICES = ("FLOAT", "DOUBLE", "BINARY", *_NESTED)


def check_slices(data: Mapping[str, Any], columns: tuple[Column, ...]) -> Iterator[Discrepancy]:
    """Yield the discrepancies of `slice_by` and of the placeholders in `file`.

    Args:
        data: The table, as it is written.
        columns: Its declared columns; none if they are not valid.
    """
    types = {column.name: column for column in columns}
    ignored = data.get("ignore")
    slice_by = data.get("slice_by")
    for at, name in enumerate(slice_by if isinstance(slice_by, list) else []):
        if not isinstance(name, str) or name not in types:  # the other checks report it
            continue
        if types[name].canonical_type.startswith(_TYPES_WITHOUT_SLICES):
            message = f"which is {types[name].canonical_type}; expected a type whose values have one text each"
            yield Discrepancy(("slice_by", at), VALUE, message)
        if isinstance(ignored, list) and name in ignored:
            message = "which is ignored, so that a row could change its slice without an update"
            yield Discrepancy(("slice_by", at), VALUE, message)
    if isinstance(data.get("file"), str):
        yield from _check_placeholders(data, types)


def _check_placeholders(data: Mapping[str, Any], types: Mapping[str, Column]) -> Iterator[Discrepancy]:
    pattern = file_pattern(data["file"], tuple(types))
    names = data.get("names")
    for name in pattern.columns:
        if isinstance(names, Mapping) and name in names:
            message = f"in the files too, where `file` takes it from their names ({{{name}}}); remove one of them"
            yield Discrepancy(("names", name), VALUE, message)
        if types[name].canonical_type.startswith(_NESTED):
            message = f"{{{name}}}: the name of a file cannot contain {types[name].type}"
            yield Discrepancy(("file",), STRUCTURE, message)
    for left, right in pattern.ambiguous_neighbours():
        message = f"nothing separates {left} from {right}, so that a name could be read in several ways"
        yield Discrepancy(("file",), STRUCTURE, message)
