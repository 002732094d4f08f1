"""A table begun anew from what landed: `lakehouse ingest PIPELINE TABLE --full-refresh`.

What was decided about it and what came of that, up to bronze, is taken away; `ingest` then finds its landed snapshots
as if they had just come. That is how personal columns which were written before `pii` named them, or hashed by another
key, leave raw: nothing else holds them as they were received. Silver and gold follow bronze as always.
"""

from __future__ import annotations

import re

from pyspark.sql import SparkSession

from lakehouse import delta, ledger
from lakehouse.errors import ConfigError
from lakehouse.storage import file_io, landing
from lakehouse.storage.file_io import Place
from lakehouse.storage.paths import Lake


def begin(spark: SparkSession, lake: Lake, names: list[str]) -> None:
    """Take away all that was made of these tables' snapshots. The ledger's rows go last: whatever kills this before,
    the same command ends it.

    Raises:
        ConfigError: nothing of a table has landed, so that nothing would come back.
    """
    if bare := [name for name in names if not landing.landed(lake, name)]:
        raise ConfigError(
            f"nothing of {', '.join(bare)} has landed",
            expected="at least one snapshot, to begin anew from",
            where=str(lake.landing(bare[0])),
        )
    for name in names:
        for table in (lake.bronze(name), lake.quarantine(name)):
            delta.drop(spark, table)
        for folder in (*change_sets(lake, name), lake.here("lines", name), lake.here("bronze", name)):
            file_io.remove(folder)
    ledger.strike(spark, lake, names)


def change_sets(lake: Lake, name: str) -> list[Place]:
    """The folders of a table's change sets, those among them that were never published."""
    of_table = re.compile(rf"{re.escape(name)}_\d{{8}}_\d{{6}}(_\d+)?\.parquet")
    folders = [lake.place("raw", kind) for kind in ("full-load", "cdc")]
    others = [folder / there for folder in folders for there in file_io.names(folder) if of_table.fullmatch(there)]
    return [lake.place("raw", "full-load", f"{name}.parquet"), *others]
