"""Measures a small MERGE under the settings of docs/decisions/0004-local-session.md: the first, and the median.

One process with one session; a table of 4,000 rows, of which 20 are updated at a time, as in bronze and silver.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from pyspark.sql import functions as F

from lakehouse.lake.merge import MergeTarget, merge_to_match
from lakehouse.spark import session
from lakehouse.storage.paths import Lake

CASES: dict[str, tuple[bool, int | None]] = {
    "deletion vectors, default settings": (True, None),
    "no deletion vectors, default settings": (False, None),
    "no deletion vectors, settings for small data": (False, 0),
}


def time_merges(lake: Lake, name: str, vectors: bool, size: int | None, times: int) -> list[float]:
    spark = session.isolated_session(session.get_session(lake, "bench"), size)
    path = lake.spark_path(name.replace(" ", "-").replace(",", ""))
    rows = spark.range(4_000).select(F.col("id").cast("string").alias("id"), F.col("id").alias("value"))
    merge_to_match(MergeTarget(spark, path, ["id"], is_large=vectors), rows, {"sequence": 0})
    seconds = []
    for n in range(times):
        changed = rows.where(F.col("value").between(20 * n, 20 * n + 19)).withColumn("value", F.col("value") + 5_000)
        began = time.monotonic()
        target = MergeTarget(spark, path, ["id"])
        written = merge_to_match(target, changed, {"sequence": n + 1}, changed.select("id"), expect_few=True)
        seconds.append(time.monotonic() - began)
        assert written.updated == 20, written
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=8)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(str(Path(folder)))
        time_merges(lake, "warm-up", False, None, 3)
        for name, (vectors, size) in CASES.items():
            seconds = time_merges(lake, name, vectors, size, times)
            print(f"{name:<48} first {seconds[0]:5.2f}  median {statistics.median(seconds[1:]):5.2f}")


if __name__ == "__main__":
    main()
