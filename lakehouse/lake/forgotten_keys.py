"""Keeps the list of keys that were forgotten on request, in `<lake>/forgotten`.

Rows of these keys that a source still delivers are ignored. The list has only hashes of the keys as the lake stores
them (`pii` included): it has to recognise a key, not to name it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.config import Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.lake import delta
from lakehouse.lake.table_ref import TableRef
from lakehouse.storage.paths import Lake

SCHEMA = "table STRING, key_hash STRING, forgotten_at TIMESTAMP, run_id STRING"


def read_hashes(spark: SparkSession, lake: Lake, name: str) -> frozenset[str]:
    """Return the hashes of a table's forgotten keys."""
    if not delta.exists(spark, lake.forgotten_keys_table):
        return frozenset()
    rows = delta.read(spark, lake.forgotten_keys_table).where(F.col("table") == name)
    return frozenset(row.key_hash for row in rows.collect())


def add(table: TableRef, key_hash: str, run_id: str) -> None:
    """Add a key to the list, unless it is on it.

    Args:
        table: The table whose key it is.
        key_hash: The key, as `hash_key` hashes it.
        run_id: The run that forgets it.
    """
    if key_hash in read_hashes(table.spark, table.lake, table.name):
        return
    row = (table.name, key_hash, datetime.now(timezone.utc), run_id)
    rows = table.spark.createDataFrame([row], SCHEMA).coalesce(1)
    delta.create_or_append(table.spark, table.lake.forgotten_keys_table, rows)


def remove(table: TableRef, key_hash: str) -> bool:
    """Remove a key from the list, and return whether it was on it."""
    if key_hash not in read_hashes(table.spark, table.lake, table.name):
        return False
    keys = delta.table(table.spark, table.lake.forgotten_keys_table)
    keys.delete((F.col("table") == table.name) & (F.col("key_hash") == key_hash))
    return True


def drop_forgotten(rows: DataFrame, table: Table, forgotten: Collection[str]) -> DataFrame:
    """Return the rows whose key is not forgotten, including those without a key.

    Args:
        rows: Rows with the table's key columns, as the lake stores them.
        table: The table's configuration.
        forgotten: The hashes of its forgotten keys.
    """
    return rows.where(~is_forgotten(table, forgotten)) if forgotten else rows


def is_forgotten(table: Table, forgotten: Collection[str]) -> Column:
    """Return the condition that a row's key is one of the forgotten ones."""
    return F.coalesce(hash_key(table).isin(*forgotten), F.lit(False))


def hash_key(table: Table) -> Column:
    """Return the hash of a row's key, or null if a part of the key is null."""
    keys = [F.col(quote_identifier(key)) for key in table.keys]
    has_key = reduce(Column.__and__, [key.isNotNull() for key in keys])
    return F.when(has_key, F.sha2(F.to_json(F.struct(*keys)), 256))
