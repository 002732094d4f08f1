"""Measures the diff on a standalone cluster with two workers: that its tasks' memory does not grow with the table.

    .venv/bin/python bench/cluster.py --rows 1000000,5000000 --memory 1g

Master and workers run on this machine, with one core each, and so the seconds are those of one machine. The driver
compares no snapshot itself from 64 MB on. Bronze is compared with the rows of the last snapshot.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent), str(BENCH.parent / "tests")]  # use the package of this clone, not an installed one

from peers import page, process  # noqa: E402
from servers import spark_cluster  # noqa: E402

ABOUT = """A standalone master with two workers of one core, all on one machine; executors with {memory} of memory. The
first load, and then a snapshot of which {share:g} % changed. *Execution* is the greatest memory that an executor had
for hash tables and sorts at once, *heap* the greatest use of its heap, garbage included. In every case bronze was equal
to the last snapshot."""
STAGES = ("ingest first", "bronze first", "ingest change", "bronze change")
COLUMNS = (
    *("rows", "ingest, first load, s", "bronze, s", "ingest, change, s", "bronze, s"),
    *("shuffled, MB", "execution, MB", "heap, MB"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000000,5000000")
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--memory", default="1g")
    parser.add_argument("--out", type=Path, help="page to write the section into, such as docs/bench.md")
    options = parser.parse_args()
    table: list[list[str]] = []
    for rows in map(int, options.rows.split(",")):
        with (
            tempfile.TemporaryDirectory() as folder,
            spark_cluster.start(Path(folder) / "cluster", options.memory) as on,
        ):
            arguments = (on.url, rows, options.share, options.memory, Path(folder) / "work")
            found = process.run_module("peers.cluster_run", *arguments)
        if not found["is_equal"]:
            raise SystemExit(f"bronze differs from the last snapshot of {rows:,} rows")
        seconds = [f"{found['seconds'][stage]:.1f}" for stage in STAGES]
        sizes = [found["shuffled"], found["peaks"]["execution"], found["peaks"]["heap"]]
        table.append([f"{rows:,}", *seconds, *(f"{size / page.MB:,.0f}" for size in sizes)])
        print(", ".join(table[-1]), file=sys.stderr)
    about = ABOUT.format(memory=options.memory, share=100 * options.share)
    section = page.table_section("## On a cluster", about, COLUMNS, table)
    print(section)
    if options.out:
        page.write_section(options.out, section)


if __name__ == "__main__":
    main()
