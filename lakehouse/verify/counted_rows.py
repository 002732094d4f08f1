"""Compares the rows of a table without a key with landed bytes: each row has to be there as often as it was delivered.

The hash by which the lake tells these rows apart is not used: rows are grouped by their values. Only a row that was
forgotten is recognised by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.config.row_keys import ROW_COUNT, ROW_ID
from lakehouse.lake import forgotten_keys
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.row_id import row_id
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.verify.check import Check, Claim, Side, compare_rows, quoted_column
from lakehouse.verify.checked_table import CheckedTable
from lakehouse.verify.second_reader import UNREADABLE, read_typed


def delivered_rows(table: CheckedTable, snapshot: LandedSnapshot) -> DataFrame:
    """Return the rows of a snapshot that the second reader can read and that have a slice, if the table has slices.

    Those that were forgotten are left out.

    Args:
        table: The table.
        snapshot: The snapshot, with files that can be read.
    """
    files = [read_typed(table, file, path) for file, path in zip(snapshot.files, snapshot.paths, strict=True)]
    rows = reduce(DataFrame.unionByName, files).where(F.col(UNREADABLE).isNull()).drop(UNREADABLE)
    if table.forgotten:
        rows = rows.withColumn(ROW_ID, row_id(table.schema))
        rows = forgotten_keys.drop_forgotten(rows, table.config, table.forgotten).drop(ROW_ID)
    return rows.dropna(subset=table.config.slice_by) if table.config.slice_by else rows


def unread_reason(table: CheckedTable, rows: DataFrame, entries: Sequence[LedgerEntry]) -> str:
    """Return why rows cannot be compared: the second reader reads others than were accepted; empty if they can.

    If rows were forgotten after they were accepted, it reads fewer.

    Args:
        table: The table.
        rows: The rows of all snapshots.
        entries: The ledger rows of the snapshots.
    """
    accepted, read = sum((e.rows_read or 0) - (e.quarantined or 0) for e in entries), rows.count()
    is_as_accepted = read == accepted or (read < accepted and bool(table.forgotten))
    return "" if is_as_accepted else f"this reader can read {read:,} rows, and {accepted:,} were accepted"


def compare_counted(claim: Claim, table: CheckedTable, rows: DataFrame, bronze: DataFrame, details: str) -> Check:
    """Check that bronze has each row with the count of equal rows.

    Args:
        claim: The claim.
        table: The table.
        rows: The rows as they were delivered.
        bronze: The current rows of bronze.
        details: Figures to add to the result if the claim holds.
    """
    columns = [quoted_column(name) for name in table.config.identifying_columns]
    expected = rows.groupBy(*columns).agg(F.count("*").alias(ROW_COUNT))
    actual = bronze.select(*columns, ROW_COUNT)
    return compare_rows(claim, Side("the landed rows", expected), Side("bronze", actual), details)
