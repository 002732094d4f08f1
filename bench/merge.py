"""Measures a small MERGE and a query after it: by Spark under several settings, and by the driver.

One process with one session; a table of 4,000 rows, of which 20 are updated at a time, as in bronze and silver. The
figures are the first, and the median of the others, in seconds. For docs/decisions/0004-local-session.md and
docs/decisions/0023-small-tables.md.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from pyspark.sql import functions as F

from lakehouse.config.tuning import Tuning
from lakehouse.lake import small_tables
from lakehouse.lake.cached_rows import cache_rows
from lakehouse.lake.merge import MergeTarget, merge_to_match
from lakehouse.spark import session
from lakehouse.storage.paths import Lake

BY_SPARK = Tuning(small_table_bytes=0)


class Case(NamedTuple):
    """How a table is written and read."""

    vectors: bool
    size: int | None
    tuning: Tuning = BY_SPARK


CASES = {
    "Spark, deletion vectors, default settings": Case(True, None),
    "Spark, no deletion vectors, default settings": Case(False, None),
    "Spark, no deletion vectors, settings for small data": Case(False, 0),
    "the driver (small_table_bytes)": Case(False, 0, Tuning()),
}


def time_merges(lake: Lake, name: str, case: Case, times: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each MERGE and of the query after it."""
    spark = session.isolated_session(session.get_session(lake, "bench"), case.size)
    path = lake.spark_path(re.sub(r"\W+", "-", name))
    rows = spark.range(4_000).select(F.col("id").cast("string").alias("id"), F.col("id").alias("value"))
    target = MergeTarget(spark, path, ["id"], is_large=case.vectors, tuning=case.tuning)
    merge_to_match(target, rows, {"sequence": 0})
    merges, queries = [], []
    for n in range(times):
        changed = rows.where(F.col("value").between(20 * n, 20 * n + 19)).withColumn("value", F.col("value") + 5_000)
        affected = cache_rows(spark, changed.select("id"))
        began = time.monotonic()
        target = MergeTarget(spark, path, ["id"], tuning=case.tuning)
        written = merge_to_match(target, changed, {"sequence": n + 1}, affected, expect_few=True)
        merges.append(time.monotonic() - began)
        assert written.updated == 20, written
        began = time.monotonic()
        table = small_tables.read(spark, path, case.tuning.small_table_bytes)
        assert table.agg(F.count("*")).collect()[0][0] == 4_000
        queries.append(time.monotonic() - began)
    return merges, queries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=8)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(str(Path(folder)))
        time_merges(lake, "warm-up", Case(False, None), 3)
        for name, case in CASES.items():
            for what, seconds in zip(("MERGE", "query"), time_merges(lake, name, case, times), strict=True):
                print(f"{name:<52} {what} first {seconds[0]:5.2f}  median {statistics.median(seconds[1:]):5.2f}")


if __name__ == "__main__":
    main()
