"""Measures a pipeline of many small tables, with a silver model each: cold, one table changed, nothing changed.

.venv/bin/python bench/tables.py --tables 4,60,200
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent))  # use the package of this clone, not an installed one

from peers import page, process  # noqa: E402

ABOUT = """Seconds of `lakehouse run` in one process, the start of the session in the first one; {rows} rows a table.
*One changed*: a new snapshot of all tables, in which one row of one table differs. Executions are Spark's SQL
executions."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default="4,60,200")
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--out", type=Path, help="page to write the section into, such as docs/bench.md")
    options = parser.parse_args()
    lines = ["| tables | cold, s | one changed, s | nothing changed, s | executions, one changed | memory, MB |"]
    lines.append("|--:|--:|--:|--:|--:|--:|")
    for tables in map(int, options.tables.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            found = process.run_module("peers.tables_run", tables, options.rows, folder)
        seconds = [f"{found['runs'][run]['seconds']:.1f}" for run in ("cold", "one changed", "nothing")]
        executions = found["runs"]["one changed"]["executions"]
        lines.append(f"| {tables} | {' | '.join(seconds)} | {executions} | {found['peak'] / page.MB:,.0f} |")
        print(lines[-1], file=sys.stderr)
    about = ABOUT.format(rows=options.rows)
    section = "\n".join(["## Many tables", "", about, "", *lines, "", *page.environment_lines()]) + "\n"
    print(section)
    if options.out:
        page.write_section(options.out, section)


if __name__ == "__main__":
    main()
