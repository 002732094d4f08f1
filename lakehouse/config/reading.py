"""Defines the settings of a table by which its files are read as they are, and checks them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from lakehouse.config.ddl import Column
from lakehouse.config.strict_model import STRUCTURE, Discrepancy, did_you_mean, validation_error

EVERY_COLUMN = "*"
"""The name in `null_values` that stands for every column."""

_NAME_IN_PATH = re.compile(r"`((?:[^`]|``)+)`|([^.`]+)")


def parse_path(path: str) -> tuple[str, ...]:
    """Return the names of a path; none if it is no path.

    >>> parse_path("data.items"), parse_path("`odata.value`"), parse_path("data..items")
    (('data', 'items'), ('odata.value',), ())

    Args:
        path: Names with dots between them; a name that has a dot is in backticks.
    """
    names, at = [], 0
    while match := _NAME_IN_PATH.match(path, at):
        names.append(match[1].replace("``", "`") if match[1] else match[2])
        at = match.end()
        if at == len(path):
            return tuple(names)
        if path[at] != ".":
            break
        at += 1
    return ()


def format_path(names: tuple[str, ...]) -> str:
    """Return the path that `parse_path` parses into these names.

    >>> format_path(("odata.value", "items"))
    '`odata.value`.items'

    Args:
        names: The names.
    """
    return ".".join("`" + name.replace("`", "``") + "`" if set(name) & {".", "`"} else name for name in names)


def _check_path(path: str) -> str:
    if not parse_path(path):
        raise validation_error("expected names with dots between them, such as data.items; a name with a dot in `...`")
    return path


RecordsPath = Annotated[str, AfterValidator(_check_path)]
NullTexts = Annotated[list[str], Field(min_length=1)]


def null_texts(null_values: Mapping[str, list[str]], column: str) -> tuple[str, ...]:
    """Return the texts that stand for null in a column: its own, and those of every column.

    >>> null_texts({"*": ["NULL"], "end": ["00000000"]}, "end")
    ('00000000', 'NULL')

    Args:
        null_values: The setting of the table.
        column: The declared column.
    """
    return tuple(sorted({*null_values.get(column, ()), *null_values.get(EVERY_COLUMN, ())}))


def check_reading(data: Mapping[str, Any], columns: tuple[Column, ...]) -> Iterator[Discrepancy]:
    """Yield the discrepancies between how a table's files are read and its other settings.

    Args:
        data: The table, as it is written.
        columns: Its declared columns; none if they are not valid.
    """
    for name in ("skip_lines", "skip_footer"):
        if data.get(name) and data.get("format") in ("json", "parquet"):
            yield Discrepancy((name,), STRUCTURE, f"{data['format']} has no such lines; this setting is for csv")
    if data.get("records") and data.get("format") in ("csv", "parquet"):
        yield Discrepancy(("records",), STRUCTURE, f"{data['format']} has no documents; this setting is for json")
    null_values, known = data.get("null_values"), [column.name for column in columns]
    if null_values and data.get("format") == "parquet":
        message = "parquet has nulls of its own; this setting is for csv and json"
        yield Discrepancy(("null_values",), STRUCTURE, message)
    for name in null_values if isinstance(null_values, Mapping) else ():
        if columns and name != EVERY_COLUMN and name not in known:
            hint = did_you_mean(str(name), known)
            message = f'neither a column of schema nor "{EVERY_COLUMN}", which is every column{hint}'
            yield Discrepancy(("null_values", name), STRUCTURE, message)
