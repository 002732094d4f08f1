"""Take a person's rows out of bronze."""

from __future__ import annotations

from pyspark.sql import SparkSession

from lakehouse.bronze import scd2
from lakehouse.config import Table
from lakehouse.forget.landing import DataSubject
from lakehouse.lake import delta
from lakehouse.lake.merge import merge_to_match
from lakehouse.storage.paths import Lake


def erase(spark: SparkSession, lake: Lake, name: str, subject: DataSubject, table: Table) -> int:
    """Take a person's rows, or windows, out of a bronze that is where the ledger is; returns how many there were.

    The commit names the sequence that bronze was at, and that it is none which applies a change set.
    """
    head = delta.current_version(spark, lake.bronze_table(name))
    progress = head.recorded_progress() if head else None
    if progress is None:
        return 0
    rows, keys = delta.read(spark, lake.bronze_table(name)), scd2.row_keys(table)
    own = subject.rows_in(rows).select(*keys)
    noted = progress | {"forgot": True}
    return merge_to_match(spark, lake.bronze_table(name), rows.limit(0), keys, noted, own, expect_few=True).deleted
