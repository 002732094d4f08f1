"""Take a person's rows out of bronze."""

from __future__ import annotations

from pyspark.sql import SparkSession

from lakehouse.bronze import scd2
from lakehouse.config import Table
from lakehouse.forget.landing import Person
from lakehouse.lake import delta
from lakehouse.lake.merge import make_equal
from lakehouse.storage.paths import Lake


def erase(spark: SparkSession, lake: Lake, name: str, person: Person, table: Table) -> int:
    """Take a person's rows, or windows, out of a bronze that is where the ledger is; returns how many there were.

    The commit names the sequence that bronze was at, and that it is none which applies a change set.
    """
    head = delta.head(spark, lake.bronze_table(name))
    progress = head.recorded_progress() if head else None
    if progress is None:
        return 0
    rows, keys = delta.read(spark, lake.bronze_table(name)), scd2.keys(table)
    own = person.rows_of(rows).select(*keys)
    noted = progress | {"forgot": True}
    return make_equal(spark, lake.bronze_table(name), rows.limit(0), keys, noted, own, few=True).deleted
