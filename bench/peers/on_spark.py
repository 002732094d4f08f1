"""Finds changes with Spark alone, with the session of this project, so that only the method differs."""

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
    """Read the state. DuckDB's timestamps have no zone; they are UTC."""
    return spark.read.parquet(str(state)).withColumn("created_at", F.col("created_at").cast("timestamp"))


def wide_join(spark: SparkSession, state: Path, new: Path, out: Path) -> None:
    """Find changes by a full outer join of all columns: the obvious solution."""
    both = (
        read_state(spark, state)
        .alias("s")
        .join(read_snapshot(spark, new).alias("n"), F.expr("s.id = n.id"), how="full")
    )
    deleted, added = F.col("n.id").isNull(), F.col("s.id").isNull()
    operation = F.when(deleted, "D").when(added, "I").otherwise("U").alias(OPERATION)
    values = [F.when(deleted, F.col(f"s.{c}")).otherwise(F.col(f"n.{c}")).alias(c) for c in COLUMNS]
    both.where(deleted | added | _is_changed()).select(*values, operation).write.parquet(f"{out}/changes.parquet")


def with_datacompy(spark: SparkSession, state: Path, new: Path, out: Path) -> None:
    """Find changes by datacompy's comparison."""
    from datacompy import SparkSQLCompare

    comparison = SparkSQLCompare(spark, read_state(spark, state), read_snapshot(spark, new), join_columns="id")
    mismatches = comparison.all_mismatch()
    now = [F.col("id"), *[F.col(f"{c}_df2").alias(c) for c in CONTENT]]
    parts = [
        mismatches.select(*now, F.lit("U").alias(OPERATION)),
        comparison.df2_unq_rows.select(*COLUMNS, F.lit("I").alias(OPERATION)),
        comparison.df1_unq_rows.select(*COLUMNS, F.lit("D").alias(OPERATION)),
    ]
    reduce(DataFrame.unionByName, parts).write.parquet(f"{out}/changes.parquet")
    spark.catalog.clearCache()


def create_delta_table(spark: SparkSession, state: Path, path: Path) -> None:
    """Write the state as a Delta table with deletion vectors, which save a MERGE from rewriting files, and a CDF."""
    writer = read_state(spark, state).write.format("delta")
    writer.option("delta.enableChangeDataFeed", "true").option("delta.enableDeletionVectors", "true").save(str(path))


def delta_merge(spark: SparkSession, table: Path, new: Path) -> None:
    """Make the table equal to the snapshot by one MERGE, whose Change Data Feed is the change set."""
    merge = DeltaTable.forPath(spark, str(table)).alias("s").merge(read_snapshot(spark, new).alias("n"), "s.id = n.id")
    merge = merge.whenMatchedUpdateAll(_is_changed()).whenNotMatchedInsertAll().whenNotMatchedBySourceDelete()
    merge.execute()


def write_delta_changes(spark: SparkSession, table: Path, out: Path) -> None:
    """Write the feed of the MERGE in the format of the other peers; not measured."""
    feed = spark.read.option("readChangeFeed", "true").option("startingVersion", 1).format("delta").load(str(table))
    kind = F.col("_change_type")
    operation = F.when(kind == "insert", "I").when(kind == "delete", "D").otherwise("U").alias(OPERATION)
    feed.where(kind != "update_preimage").select(*COLUMNS, operation).write.parquet(f"{out}/changes.parquet")


def _is_changed() -> Column:
    return reduce(Column.__or__, [~F.col(f"s.{c}").eqNullSafe(F.col(f"n.{c}")) for c in CONTENT])
