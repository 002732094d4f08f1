"""Spark's own ways, in the session that this project works in: what differs is the method, not the settings."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from peers.data import COLUMNS, SCHEMA

CONTENT = COLUMNS[1:]
OPERATION = "_cdc_operation"


def read_snapshot(spark: SparkSession, new: Path) -> DataFrame:
    return spark.read.csv(str(new), schema=SCHEMA, sep=";", header=True, timestampFormat="yyyy-MM-dd HH:mm:ss.SSS")


def read_state(spark: SparkSession, state: Path) -> DataFrame:
    """DuckDB's timestamps have no zone; they are UTC."""
    return spark.read.parquet(str(state)).withColumn("created_at", F.col("created_at").cast("timestamp"))


def wide_join(spark: SparkSession, state: Path, new: Path, out: Path) -> None:
    """Whole rows through one full outer join: what one writes first."""
    both = (
        read_state(spark, state)
        .alias("s")
        .join(read_snapshot(spark, new).alias("n"), F.expr("s.id = n.id"), how="full")
    )
    gone, added = F.col("n.id").isNull(), F.col("s.id").isNull()
    operation = F.when(gone, "D").when(added, "I").otherwise("U").alias(OPERATION)
    values = [F.when(gone, F.col(f"s.{c}")).otherwise(F.col(f"n.{c}")).alias(c) for c in COLUMNS]
    both.where(gone | added | _is_changed()).select(*values, operation).write.parquet(f"{out}/changes.parquet")


def with_datacompy(spark: SparkSession, state: Path, new: Path, out: Path) -> None:
    """datacompy's comparison, and the rows that it names."""
    from datacompy import SparkSQLCompare

    found = SparkSQLCompare(spark, read_state(spark, state), read_snapshot(spark, new), join_columns="id")
    mismatches = found.all_mismatch()
    now = [F.col("id"), *[F.col(f"{c}_df2").alias(c) for c in CONTENT]]
    parts = [
        mismatches.select(*now, F.lit("U").alias(OPERATION)),
        found.df2_unq_rows.select(*COLUMNS, F.lit("I").alias(OPERATION)),
        found.df1_unq_rows.select(*COLUMNS, F.lit("D").alias(OPERATION)),
    ]
    reduce(DataFrame.unionByName, parts).write.parquet(f"{out}/changes.parquet")
    spark.catalog.clearCache()


def create_delta_table(spark: SparkSession, state: Path, path: Path) -> None:
    """The state as a Delta table, with what spares a MERGE from rewriting files, and a Change Data Feed."""
    writer = read_state(spark, state).write.format("delta")
    writer.option("delta.enableChangeDataFeed", "true").option("delta.enableDeletionVectors", "true").save(str(path))


def delta_merge(spark: SparkSession, table: Path, new: Path) -> None:
    """Make the table equal to the snapshot in one MERGE. Its Change Data Feed is the change set."""
    merge = DeltaTable.forPath(spark, str(table)).alias("s").merge(read_snapshot(spark, new).alias("n"), "s.id = n.id")
    merge = merge.whenMatchedUpdateAll(_is_changed()).whenNotMatchedInsertAll().whenNotMatchedBySourceDelete()
    merge.execute()


def write_delta_changes(spark: SparkSession, table: Path, out: Path) -> None:
    """The feed of the MERGE, as the other peers write it; not measured."""
    feed = spark.read.option("readChangeFeed", "true").option("startingVersion", 1).format("delta").load(str(table))
    kind = F.col("_change_type")
    operation = F.when(kind == "insert", "I").when(kind == "delete", "D").otherwise("U").alias(OPERATION)
    feed.where(kind != "update_preimage").select(*COLUMNS, operation).write.parquet(f"{out}/changes.parquet")


def _is_changed() -> Column:
    return reduce(Column.__or__, [~F.col(f"s.{c}").eqNullSafe(F.col(f"n.{c}")) for c in CONTENT])
