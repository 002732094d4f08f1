"""Defines the refusal of a file without a column that it has to have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lakehouse.errors import DataRefused


class MissingColumns(DataRefused):
    """A file lacks declared columns.

    Attributes:
        missing: The names in the files of the columns that it lacks.
        unknown: The names of its columns that the schema does not name.
    """

    def __init__(self, found: str, *, missing: Iterable[str], unknown: Iterable[str], **parts: Any) -> None:
        super().__init__(found, **parts)
        self.missing, self.unknown = tuple(missing), tuple(unknown)
