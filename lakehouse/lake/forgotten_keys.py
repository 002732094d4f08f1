"""Keys that were forgotten on request, in `<lake>/forgotten`: what a source still hands out of them is passed over.

The list holds hashes of keys as the lake stores them (`pii` included). It has to know a key when it comes, and not to
name it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.config import Table
from lakehouse.lake import delta
from lakehouse.storage.paths import Lake

SCHEMA = "table STRING, key_hash STRING, forgotten_at TIMESTAMP, run_id STRING"


def read_hashes(spark: SparkSession, lake: Lake, name: str) -> frozenset[str]:
    """The forgotten keys of a table."""
    if not delta.exists(spark, lake.forgotten_keys_table):
        return frozenset()
    return frozenset(
        row.key_hash for row in delta.read(spark, lake.forgotten_keys_table).where(F.col("table") == name).collect()
    )


def add(spark: SparkSession, lake: Lake, name: str, key_hash: str, run_id: str) -> None:
    """Put a key on the list, where it is not on it yet."""
    if key_hash in read_hashes(spark, lake, name):
        return
    row = spark.createDataFrame([(name, key_hash, datetime.now(timezone.utc), run_id)], SCHEMA).coalesce(1)
    if delta.exists(spark, lake.forgotten_keys_table):
        delta.append(lake.forgotten_keys_table, row)
    else:
        delta.create(spark, lake.forgotten_keys_table, row, {})


def remove(spark: SparkSession, lake: Lake, name: str, key_hash: str) -> bool:
    """Take a key off the list; whether it was on it."""
    if key_hash not in read_hashes(spark, lake, name):
        return False
    delta.table(spark, lake.forgotten_keys_table).delete((F.col("table") == name) & (F.col("key_hash") == key_hash))
    return True


def drop_forgotten(rows: DataFrame, table: Table, forgotten: Collection[str]) -> DataFrame:
    """The rows whose key is not forgotten; those without a key stay."""
    return rows.where(~is_forgotten(table, forgotten)) if forgotten else rows


def is_forgotten(table: Table, forgotten: Collection[str]) -> Column:
    return F.coalesce(hash_key(table).isin(*forgotten), F.lit(False))


def hash_key(table: Table) -> Column:
    """A stored key as the list has it; a key with a null in it is none."""
    keys = [F.col(f"`{k}`") for k in table.keys]
    is_whole = reduce(Column.__and__, [k.isNotNull() for k in keys])
    return F.when(is_whole, F.sha2(F.to_json(F.struct(*keys)), 256))
