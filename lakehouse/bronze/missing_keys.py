"""Applies change sets of a table with `missing` to bronze: keys that go missing, are back, expire or are marked.

A change set has more operations then: `M`, the key goes missing, and `R`, it is back and equal. Its row stays, and only
`_cdc_missing_since` changes; `_cdc_operation`, `_cdc_timestamp` and `_cdc_sequence` stay those of the last change of
its values. `D` with `_cdc_missing_since` is a key that is marked as deleted: its row stays, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.bronze import read, scd2
from lakehouse.config.ddl import quote_identifier
from lakehouse.lake import delta
from lakehouse.lake.cdc import CDC_COLUMNS, DELETE, END_AT, GOES_MISSING, IS_BACK, MISSING_SINCE
from lakehouse.lake.duckdb_sql import quote
from lakehouse.lake.duckdb_views import Database, open_database
from lakehouse.lake.slice_columns import slice_text_sql
from lakehouse.lake.slices import Slice
from lakehouse.lake.table_ref import TableRef


@dataclass(frozen=True)
class MissingKeys:
    """The keys of a table that are missing, and whose grace has not ended.

    Attributes:
        count: How many there are.
        since: Since when the first of them has been missing; None without one.
    """

    count: int = 0
    since: datetime | None = None


def find_missing(table: TableRef) -> MissingKeys:
    """Return the missing keys of a table; the driver reads them, if it can read bronze.

    Args:
        table: The table.
    """
    with _missing_rows(table) as (database, is_missing):
        if not is_missing:
            return MissingKeys()
        query = f"SELECT count(*) AS n, min({MISSING_SINCE}) AS since FROM bronze.rows WHERE {is_missing}"
        (found,) = database.fetch(query)
    return MissingKeys(found["n"], found["since"])


def find_missing_by_slice(table: TableRef) -> dict[Slice, datetime]:
    """Return since when the first missing key of each slice has been missing.

    Args:
        table: A table with `slice_by`.
    """
    types = {field.name: field.dataType for field in table.schema}
    slice_by = table.config.slice_by or ()
    texts = ", ".join(f"{slice_text_sql(quote(name), types[name])} AS s{n}" for n, name in enumerate(slice_by))
    with _missing_rows(table) as (database, is_missing):
        query = f"SELECT {texts}, min({MISSING_SINCE}) AS since FROM bronze.rows WHERE {is_missing} GROUP BY ALL"
        rows = database.fetch(query) if is_missing else []
    return {tuple(str(row[f"s{n}"]) for n in range(len(slice_by))): row["since"] for row in rows}


@contextmanager
def _missing_rows(table: TableRef) -> Iterator[tuple[Database, str]]:
    """Yield a database with bronze as `bronze.rows`, and the condition of missing keys; empty if there can be none."""
    with open_database() as database:
        if not delta.exists(table.spark, table.bronze):
            yield database, ""
            return
        columns = database.add_table("bronze.rows", table.spark, table.bronze)
        is_open = f" AND {END_AT} IS NULL" if END_AT in columns.names else ""
        is_missing = f"{MISSING_SINCE} IS NOT NULL AND _cdc_operation <> '{DELETE}'{is_open}"
        yield database, is_missing if MISSING_SINCE in columns.names else ""


def apply_changes(table: TableRef, changes: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Return the rows that bronze has to have for the keys of one change set, and the keys of the rows it replaces.

    Args:
        table: The table.
        changes: The change set.
    """
    keys = table.config.keys
    if MISSING_SINCE not in changes.columns:  # it was made before `missing` was switched on
        changes = changes.withColumn(MISSING_SINCE, F.lit(None).cast("timestamp"))
    stored = read.stored_rows(table)
    if MISSING_SINCE not in stored.columns:
        stored = stored.withColumn(MISSING_SINCE, F.lit(None).cast("timestamp"))
    stored = stored.join(changes.select(*map(quote_identifier, keys)), on=keys, how="left_semi")
    if table.config.scd == 2:
        open_windows = stored.where(scd2.is_open_window())
        return scd2.apply_changes(open_windows, changes, table.config, table.schema)
    return _current_rows(table, stored, changes), changes.select(*map(quote_identifier, keys))


def _current_rows(table: TableRef, stored: DataFrame, changes: DataFrame) -> DataFrame:
    """Return the rows after a change set (scd 1)."""
    same_key = reduce(
        Column.__and__,
        [F.col(quote_identifier("c", k)).eqNullSafe(F.col(quote_identifier("o", k))) for k in table.config.keys],
    )
    both = changes.alias("c").join(stored.alias("o"), on=same_key, how="left")
    keeps_cdc = F.col("c._cdc_operation").isin(GOES_MISSING, IS_BACK)
    cdc = [F.when(keeps_cdc, F.col(f"o.{name}")).otherwise(F.col(f"c.{name}")).alias(name) for name in CDC_COLUMNS]
    is_gone = (F.col("c._cdc_operation") == DELETE) & F.col(f"c.{MISSING_SINCE}").isNull()
    return both.where(~is_gone).select(
        *[F.col(quote_identifier("c", name)) for name in table.schema.names], *cdc, F.col(f"c.{MISSING_SINCE}")
    )
