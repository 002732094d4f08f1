"""Measures a table of each size and share of changed rows: ingest and bronze, beside DuckDB in the same process.

    .venv/bin/python bench/sizes.py --rows 1000,100000,1000000 --columns 6,20 --shares 0.001,0.01,0.2,1

Seconds are without the start of the session, in a process that has loaded and changed a small table before. DuckDB
reads the same file, compares it with a Parquet file of the state and writes the changed rows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent))  # use the package of this clone, not an installed one

from peers import page, process  # noqa: E402

ABOUT = """Seconds in a process that has loaded and changed a small table before, medians of {rounds} rounds; x is the
median of the ratios to DuckDB, which reads the same file, compares it with a Parquet file of the state and writes the
changed rows. The first load has the share *first*; there, x compares with DuckDB's copy of the file to Parquet.
Written: the bytes that bronze's commit added. Memory is the peak of Python and the JVM in the whole process."""


HEADING = "## Every size"
COLUMNS = (
    "format",
    "rows",
    "columns",
    "changed",
    "ingest, s",
    "x",
    "ingest and bronze, s",
    "x",
    "written, MB",
    "memory, MB",
)


def table_rows(file_format: str, rounds: list[dict[tuple[int, int], Any]]) -> list[list[str]]:
    """Return the cells of a row for each size and share."""
    found = []
    for rows, columns in rounds[0]:
        results = [r[rows, columns] for r in rounds]
        peak = statistics.median(result["peak"] for result in results) / page.MB
        shares = ["first", *(change["share"] for change in results[0]["changes"])]
        for number, share in enumerate(shares):
            each = [result["load"] if number == 0 else result["changes"][number - 1] for result in results]
            seconds = {"ingest": [one["ingest"] for one in each], "both": [o["ingest"] + o["bronze"] for o in each]}
            cells = [file_format, f"{rows:,}", str(columns), "first" if number == 0 else f"{100 * float(share):g} %"]
            for of_stages in seconds.values():
                ratios = [spent / one["duckdb"] for spent, one in zip(of_stages, each, strict=True)]
                cells += [f"{statistics.median(of_stages):.2f}", f"{statistics.median(ratios):.1f}"]
            written = f"{each[0]['written'] / page.MB:,.1f}" if number else ""
            found.append([*cells, written, f"{peak:,.0f}"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000,10000,100000,1000000")
    parser.add_argument("--columns", default="6,20")
    parser.add_argument("--shares", default="0.001,0.01,0.2,1")
    parser.add_argument("--format", default="csv", choices=["csv", "json", "parquet"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="page whose table gets the rows, such as docs/bench.md")
    options = parser.parse_args()
    sizes = [(int(rows), int(columns)) for columns in options.columns.split(",") for rows in options.rows.split(",")]
    rounds: list[dict[tuple[int, int], Any]] = []
    for number in range(options.rounds):
        results = {}
        for rows, columns in sizes:
            with tempfile.TemporaryDirectory() as folder:
                arguments = (options.format, rows, columns, options.shares, folder)
                results[rows, columns] = process.run_module("peers.sized_run", *arguments)
            print(f"round {number + 1}: {rows:,} rows, {columns} columns", file=sys.stderr)
        rounds.append(results)
    old = page.read_section(options.out, HEADING) if options.out else ""
    rows = page.merged_rows(table_rows(options.format, rounds), old, 4)
    section = page.table_section(HEADING, ABOUT.format(rounds=options.rounds), COLUMNS, rows)
    print(section)
    if options.out:
        page.write_section(options.out, section)


if __name__ == "__main__":
    main()
