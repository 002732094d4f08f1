"""Defines `TableRef`: one table of a pipeline, with the session and the lake that it is worked on with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from pyspark.sql import SparkSession
from pyspark.sql import types as T

from lakehouse.config import Table
from lakehouse.config.tuning import Tuning
from lakehouse.lake.cdc import own_columns_ddl
from lakehouse.schema.table_schema import parse_schema, stored_schema
from lakehouse.storage.paths import Lake


@dataclass(frozen=True)
class TableRef:
    """One table of a pipeline, with the session, lake and thresholds to work on it.

    Attributes:
        spark: The session to work in; inside `foreachBatch`, the batch's own.
        lake: Where the lake's files and tables are.
        name: The table's name in pipeline.yml.
        config: The table's part of pipeline.yml.
        tuning: The thresholds of the run.
    """

    spark: SparkSession
    lake: Lake
    name: str
    config: Table
    tuning: Tuning = field(default_factory=Tuning)

    @property
    def bronze(self) -> str:
        """The address of the bronze table."""
        return self.lake.bronze_table(self.name)

    @property
    def quarantine(self) -> str:
        """The address of the table's quarantine."""
        return self.lake.quarantine_table(self.name)

    @cached_property
    def schema(self) -> T.StructType:
        """The table's schema as the lake stores it."""
        return stored_schema(self.config)

    def with_spark(self, spark: SparkSession) -> TableRef:
        """Return the same table in another session."""
        return replace(self, spark=spark)


def bronze_schema(table: Table) -> T.StructType:
    """Return the columns of bronze: the stored columns of a table, and those that bronze adds.

    Args:
        table: The table's configuration.
    """
    return T.StructType([*stored_schema(table), *parse_schema(own_columns_ddl(table))])
