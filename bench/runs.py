"""Measures whether a run becomes slower with the number of runs before it, each of which adds files to its tables.

.venv/bin/python bench/runs.py --runs 400
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent))  # use the package of this clone, not an installed one

from peers import page, process  # noqa: E402

ABOUT = """Seconds of `lakehouse run` in one process, the median of {each} runs. Each takes a snapshot with 5 new
rows and 3 changed ones through bronze and silver to a cube. *Files*: the data files that the newest version of a table
has after these runs; *compactions*: how often a run has compacted one of the tables since the beginning."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--each", type=int, default=50, help="runs of one line")
    parser.add_argument("--out", type=Path, help="page to write the section into, such as docs/bench.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = process.run_module("peers.many_runs", options.runs, options.each, folder)
    lines = ["| runs | a run, s | files: ledger | bronze | silver | compactions |", "|--:|--:|--:|--:|--:|--:|"]
    for row in found:
        files = " | ".join(str(row["files"][name]) for name in ("raw/ledger", "bronze/items", "silver/items"))
        lines.append(f"| {row['runs']:,} | {row['seconds']:.2f} | {files} | {row['compactions']} |")
    about = ABOUT.format(each=options.each)
    section = "\n".join(["## Many runs", "", about, "", *lines, "", *page.environment_lines()]) + "\n"
    print(section)
    if options.out:
        page.write_section(options.out, section)


if __name__ == "__main__":
    main()
