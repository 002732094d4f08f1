"""What a format's reader makes of a file, before anything is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import types as T

from lakehouse.config import Table


def names_in_files(table: Table, declared: T.StructType) -> dict[str, str]:
    """The declared columns, each with its name in the files."""
    return {column: table.name_in_files(column) for column in declared.names}


@dataclass(frozen=True)
class ParsedField:
    """A declared column of a file: what stands there as text, its value, and the reason why it has none (or null)."""

    text: Column
    value: Column
    reason: Column


@dataclass(frozen=True)
class ParsedFile:
    """A file as read.

    Attributes:
        rows: what the columns below are columns of.
        columns: the declared columns, in order.
        received: the row as received, as JSON.
        broken: the reason why a row cannot be taken apart at all, or null; None: that cannot happen.
        whole: such a row, as it stands.
        records: how many records an independent reader counts, or None where lines are records.
        unnamed: columns of the file that the schema does not name.
        lacking: declared columns that the file does not have.
    """

    rows: DataFrame
    columns: Mapping[str, ParsedField]
    received_json: Column
    row_error: Column | None
    raw_record: Column
    record_count: int | None = None
    unknown_columns: tuple[str, ...] = ()
    missing_columns: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ParsedSnapshot:
    """A snapshot as read.

    Attributes:
        rows: the declared columns, PROBLEMS, RECEIVED and KEY.
        records: how many records an independent reader counts, or None where lines are records.
        unnamed: columns of the files that the schema does not name.
        lacking: declared columns that none of the files has.
    """

    rows: DataFrame
    record_count: int | None
    unknown_columns: tuple[str, ...]
    missing_columns: frozenset[str]
