"""Measures the size of a lake on disk compared with the CSV it came from, and the cost of reading it.

    .venv/bin/python bench/storage.py --rows 5000000 --data /tmp/bench     the generated table of bench/changes.py
    .venv/bin/python bench/storage.py --loyalty samples/loyalty            conf/loyalty, over a folder of snapshots

The sizes are those of `lakehouse status`. The first change set of the generated table is also written with Spark's
defaults (snappy, Parquet version 1), with version 1 and our codec, and with dictionaries of 1 MB, as bronze is written;
all variants are read in turns, fully and in part.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent))  # use the package of this clone, not an installed one

from peers import data, gauges, ours, page  # noqa: E402

MB = 1e6
PARQUET_V1 = {"parquet.writer.version": "v1"}
LARGE_DICTIONARIES = {"parquet.dictionary.page.size": str(4 << 20)}  # as lakehouse/lake/change_sets.py sets it
OTHER_SETTINGS = {
    "dictionaries of 1 MB, as bronze": {},
    "Parquet version 1": LARGE_DICTIONARIES | PARQUET_V1,
    "by Spark's defaults": {"compression": "snappy", **PARQUET_V1},
}
ALL_COLUMNS, TWO_COLUMNS = "every column", "two columns"
StorageRows = list[dict[str, Any]]
Seconds = dict[str, dict[str, list[float]]]


def storage_status(pipeline: Path) -> StorageRows:
    """Return the storage part of `lakehouse status`."""
    from lakehouse.inspect import status
    from lakehouse.runner import context

    rows: StorageRows = status.status(context.open_run(pipeline))["storage"]
    return rows


def build_generated_lake(csv: Path, options: argparse.Namespace, work: Path) -> Path:
    """Build a lake with two snapshots of the generated table in bronze; return the folder of the pipeline."""
    pipeline = ours.prepare_lake(work / "pipeline", csv)
    ours.land_snapshot(pipeline, data.snapshot_file(csv.parent, options.rows, options.share), ours.SECOND)
    ours.run_stage(pipeline, "ingest")
    ours.run_stage(pipeline, "bronze")
    return pipeline


def time_reads(spark: Any, datasets: dict[str, Path], rounds: int) -> Seconds:
    """Return the seconds of reading all columns and two columns of each dataset."""
    from pyspark.sql import functions as F

    queries = {
        ALL_COLUMNS: [F.bit_xor(F.xxhash64(*data.COLUMNS))],
        TWO_COLUMNS: [F.max("points"), F.max("created_at")],
    }
    seconds: Seconds = {query: defaultdict(list) for query in queries}
    for _ in range(rounds + 1):
        for name, folder in datasets.items():
            for query, columns in queries.items():
                began = time.monotonic()
                spark.read.parquet(str(folder)).agg(*columns).collect()
                seconds[query][name].append(time.monotonic() - began)
    return {
        query: {name: spent[1:] for name, spent in by.items()} for query, by in seconds.items()
    }  # without the first round, which warms up


def storage_table(rows: StorageRows) -> list[str]:
    """Return a Markdown table with a line per table and place, and sums if there are several tables."""
    places = list(dict.fromkeys(row["place"] for row in rows))
    sums = [_sum_rows([row for row in rows if row["place"] == place], place) for place in places]
    lines = rows if len({row["table"] for row in rows}) == 1 else [*rows, *sums]
    head = [
        "| table | place | received, MB | stored, MB | less, % | with old versions, MB |",
        "|---|---|--:|--:|--:|--:|",
    ]
    return head + [
        f"| {r['table']} | {r['place']} | {r['received_bytes'] / MB:,.3f} | {r['bytes'] / MB:,.3f} |"
        f" {r['less_percent']:.1f} | {r['kept_bytes'] / MB:,.3f} |"
        for r in lines
    ]


def _sum_rows(rows: StorageRows, place: str) -> dict[str, Any]:
    total = {key: sum(row[key] for row in rows) for key in ("received_bytes", "bytes", "kept_bytes")}
    return {
        "table": "*all*",
        "place": place,
        "less_percent": 100 * (1 - total["bytes"] / total["received_bytes"]),
        **total,
    }


def read_table(sizes: dict[str, int], seconds: Seconds) -> list[str]:
    lines = ["", "| the first change set | MB | every column, s | two columns, s |", "|---|--:|--:|--:|"]
    for name, size in sizes.items():
        spent = [seconds[query][name] for query in (ALL_COLUMNS, TWO_COLUMNS)]
        cells = [f"{statistics.median(one):.2f} ({min(one):.2f} to {max(one):.2f})" for one in spent]
        lines.append(f"| {name} | {size / MB:,.1f} | {' | '.join(cells)} |")
    return lines


def measure_generated(options: argparse.Namespace, work: Path) -> list[str]:
    from lakehouse.spark.session import get_session
    from lakehouse.storage.paths import Lake

    csv, _ = data.state_files(options.data or work, options.rows)
    spark = get_session(
        Lake(str(work / "session")), "bench", data_bytes=csv.stat().st_size
    )  # with the settings of a run
    pipeline = build_generated_lake(csv, options, work)
    written = pipeline / "lake/raw/full-load" / f"{ours.TABLE}.parquet"
    places = {"as written": written}
    for name, settings in OTHER_SETTINGS.items():
        places[name] = work / f"otherwise-{len(places)}"
        spark.read.parquet(str(written)).write.options(**settings).parquet(str(places[name]))
    seconds = time_reads(spark, places, options.rounds)
    sizes = {name: gauges.dataset_bytes(place) for name, place in places.items()}
    return [*storage_table(storage_status(pipeline)), *read_table(sizes, seconds)]


def measure_loyalty(source: Path, work: Path) -> list[str]:
    os.environ |= {"LAKE_ROOT": str(work / "lake"), "LOYALTY_SOURCE": str(source.resolve())}
    os.chdir(BENCH.parent)
    import lakehouse

    report = lakehouse.run("conf/loyalty")
    if report.code:
        raise SystemExit(f"the run ended with {report.code}: {report.outcomes}")
    return storage_table(storage_status(Path("conf/loyalty")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--data", type=Path, help="folder that keeps the generated files; by default they are generated each time"
    )
    parser.add_argument(
        "--loyalty", type=Path, metavar="FOLDER", help="folder of snapshots to use instead of generated ones"
    )
    parser.add_argument("--out", type=Path, help="page to write the section into")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.data) as folder:
        work = Path(folder)
        of_what = "conf/loyalty" if options.loyalty else f"{options.rows:,} rows, {100 * options.share:g} % changed"
        lines = measure_loyalty(options.loyalty, work) if options.loyalty else measure_generated(options, work)
    text = "\n".join([f"## Size on disk: {of_what}", "", *lines, "", *page.environment_lines()]) + "\n"
    print(text)
    if options.out:
        page.write_section(options.out, text)


if __name__ == "__main__":
    main()
