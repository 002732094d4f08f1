"""Measures publishing to PostgreSQL: a first load of quotes, micro-batches of new ones, and a publish without changes.

One process with one session, and a real PostgreSQL (tests/servers/postgres.py) on this machine, without fsync. The
seconds include the connection, but not the start of Spark. The memory is the peak of Python, without the JVM.
bench/tesouro.py measures the full way from JSON files.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from peers import page
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.lake.merge import MergeTarget, merge_to_match
from lakehouse.publish.sync import Publication, PublishResult, publish
from lakehouse.spark import session
from lakehouse.storage.paths import Lake

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from servers.postgres import postgres

KEYS = ("tipo", "data_vencimento", "data_base")


def quotes(spark: SparkSession, first: int, rows: int) -> DataFrame:
    """Return quotes like those in gold of conf/tesouro: a key of three columns, five decimals."""
    number = F.col("id")
    money = [((number * factor) % 900_000 / 100).cast("decimal(18,2)") for factor in (7919, 7907, 7901, 7883, 7879)]
    return spark.range(first, first + rows).select(
        F.concat(F.lit("Tesouro "), (number % 20).cast("string")).alias("tipo"),
        F.date_add(F.lit("2030-01-01").cast("date"), (number % 20).cast("int")).alias("data_vencimento"),
        F.date_add(F.lit("2005-01-01").cast("date"), (number / 20).cast("int")).alias("data_base"),
        *[column.alias(f"valor_{n}") for n, column in enumerate(money)],
    )


def time_publish(publish_once: Callable[[], PublishResult], expected: int) -> float:
    began = time.monotonic()
    done = publish_once()
    seconds = time.monotonic() - began
    assert done.counts.get("inserted", 0) == expected, done
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=45_000)
    parser.add_argument("--batch", type=int, default=60)
    parser.add_argument("--batches", type=int, default=5)
    parser.add_argument("--out", type=Path, help="page to write the section into")
    options = parser.parse_args()
    rows, batch = options.rows, options.batch
    with tempfile.TemporaryDirectory() as folder, postgres() as server:
        lake = Lake(folder)
        spark = session.get_session(lake, "bench", data_bytes=rows * 100)
        publication = Publication("bench", "gold.quotes", server.url, "quotes", KEYS)

        def published() -> PublishResult:
            return publish(publication, lake, lambda: session.isolated_session(spark, rows * 100))

        path, seconds = lake.table("gold.quotes"), {}
        own = session.isolated_session(spark, 0)
        target = MergeTarget(own, path, list(KEYS))
        merge_to_match(target, quotes(own, 0, rows), {"n": 0})
        seconds[f"first load of {rows:,} rows"] = [time_publish(published, rows)]
        seconds[f"{batch:,} new rows"] = []
        for n in range(options.batches):
            new = quotes(own, rows + n * batch, batch)
            merge_to_match(target, new, {"n": n + 1}, new.select(*KEYS), expect_few=True)
            seconds[f"{batch:,} new rows"].append(time_publish(published, batch))
        seconds["nothing new"] = [time_publish(published, 0) for _ in range(options.batches)]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    text = section(rows, seconds, memory)
    print(text)
    if options.out:
        page.write_section(options.out, text)


def section(rows: int, seconds: dict[str, list[float]], memory: float) -> str:
    """Return a Markdown table with a line for each kind of load."""
    lines = [f"## Publishing a table to PostgreSQL: {rows:,} rows", ""]
    lines += ["A key of three columns and five decimals; a warm session. Medians (minimum to maximum).", ""]
    lines += ["| | s |", "|---|--:|"]
    for name, each in seconds.items():
        spread = f" ({min(each):.2f} to {max(each):.2f})" if len(each) > 1 else ""
        lines.append(f"| {name} | {statistics.median(each):.2f}{spread} |")
    return "\n".join([*lines, "", f"Peak memory of Python: {memory:,.0f} MB.", "", *page.environment_lines()]) + "\n"


if __name__ == "__main__":
    main()
