"""A table begun anew from what landed: `lakehouse ingest PIPELINE TABLE --full-refresh`.

What was decided about it and what came of that, up to bronze, is taken away; `ingest` then finds its landed snapshots
as if they had just come. That is how personal columns which were written before `pii` named them, or hashed by another
key, leave raw: nothing else holds them as they were received. Silver and gold follow bronze as always.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from lakehouse.errors import ConfigError
from lakehouse.lake import delta, ledger
from lakehouse.lake.change_sets import table_folders
from lakehouse.storage import file_io, landing
from lakehouse.storage.paths import Lake


def reset_tables(spark: SparkSession, lake: Lake, names: list[str]) -> None:
    """Take away all that was made of these tables' snapshots. The ledger's rows go last: whatever kills this before,
    the same command ends it.

    Raises:
        ConfigError: nothing of a table has landed, so that nothing would come back.
    """
    if bare := [name for name in names if not landing.list_snapshots(lake, name)]:
        raise ConfigError(
            f"nothing of {', '.join(bare)} has landed",
            expected="at least one snapshot, to begin anew from",
            where=str(lake.landing_path(bare[0])),
        )
    for name in names:
        for table in (lake.bronze_table(name), lake.quarantine_table(name)):
            delta.drop(spark, table)
        for folder in (*table_folders(lake, name), lake.local_path("lines", name), lake.local_path("bronze", name)):
            file_io.remove(folder)
    ledger.delete_tables(spark, lake, names)
