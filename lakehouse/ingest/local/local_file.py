"""Defines the result of a reader of this package: the rows of one file, and the SQL for their declared columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa


class LocalColumn(NamedTuple):
    """The SQL for a declared column, over the columns of the batches.

    Attributes:
        text: The field as text, as it is in the file.
        value: Its value, of the declared type; null if the text has none.
        fault: Why the text is not accepted, or null.
    """

    text: str
    value: str
    fault: str


class BrokenRow(NamedTuple):
    """A record that cannot be split into fields.

    Attributes:
        raw: Its text.
        received: The record as received, as JSON.
        reason: Why it cannot be split.
    """

    raw: str
    received: str
    reason: str


@dataclass
class LocalFile:
    """The rows of a file, before they are validated.

    Attributes:
        columns: The declared columns, in order.
        read: Yields the rows, in batches of the columns that `columns` needs. Can be called again.
        received: Returns the rows at these positions as received, as JSON.
        broken: The records that cannot be split; complete when all batches were read.
        unknown_columns: Columns of the file that the schema does not name; complete when all batches were read.
        missing_columns: Declared columns that the file lacks; complete when all batches were read.
        record_count: The number of records by an independent reader, or None if every line is a record.
    """

    columns: Mapping[str, LocalColumn]
    read: Callable[[], Iterator[pa.RecordBatch]]
    received: Callable[[Collection[int]], dict[int, str]]
    broken: list[BrokenRow] = field(default_factory=list)
    unknown_columns: tuple[str, ...] = ()
    missing_columns: frozenset[str] = frozenset()
    record_count: int | None = None
