"""Defines `Ready`, the setting of a source of type `files` that says when a snapshot is complete, and checks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from lakehouse.config.fields import Duration, FileName
from lakehouse.config.strict_model import STRUCTURE, VALUE, Discrepancy, StrictModel


class Ready(StrictModel):
    """When a snapshot's folder is taken; if both are given, both must hold."""

    file: FileName | None = Field(
        None, description="Name or glob of a file that is written last, such as _SUCCESS; it belongs to no table."
    )
    settle: Duration | None = Field(
        None, description="How far apart two looks must be at which names, sizes and times of change are equal (5m)."
    )

    @classmethod
    def discrepancies(cls, data: Mapping[str, Any], folder: Path | None) -> Iterator[Discrepancy]:
        if data.get("file") is None and data.get("settle") is None:
            yield Discrepancy((), STRUCTURE, "says nothing; give file: _SUCCESS, settle: 5m, or both")


def check_ready(data: Mapping[str, Any]) -> Iterator[Discrepancy]:
    """Yield the tables whose file is the one that marks a complete snapshot.

    Args:
        data: The pipeline, as it is written.
    """
    source, tables = data.get("source"), data.get("tables")
    ready = source.get("ready") if isinstance(source, Mapping) else None
    marker = ready.get("file") if isinstance(ready, Mapping) else None
    for name, table in tables.items() if isinstance(tables, Mapping) else ():
        if isinstance(table, Mapping) and isinstance(marker, str) and table.get("file") == marker:
            message = f"which is the file of the table {name}; expected a file that belongs to no table"
            yield Discrepancy(("source", "files", "ready", "file"), VALUE, message)  # as pydantic has it
