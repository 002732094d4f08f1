"""Measures many pending snapshots of one table, taken in one pass; beside one by one, Spark's `lag()` and git-history.

    .venv/bin/python bench/backlog.py                     # 100 of 100,000 rows, and 2,500 of 300
    python -m venv /tmp/git-history && /tmp/git-history/bin/pip install git-history==0.8
    .venv/bin/python bench/backlog.py --git-history /tmp/git-history/bin/git-history --out docs/bench.md

The numbers of changes that the ways find have to be equal.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent))  # use the package of this clone, not an installed one

from peers import backlog_data, backlog_run, page, process, trial  # noqa: E402

HEADING = "## Many snapshots at once"
ABOUT = """Seconds in a process that has taken a few small snapshots before: the session's start is left out. Each
snapshot differs from the one before in 1 % of the rows. *One by one* takes the first {few} of the same snapshots, each
with a commit of the ledger and one of bronze; its seconds for all are extrapolated. `lag()` is written by hand in
Spark: it reads all files at once and writes the changes as Parquet, without guards, quarantine, ledger or a table.
[git-history](https://pypi.org/project/git-history/) makes a SQLite database of a git repository that has the same files
as commits, without deletes; *from git* is this project on that repository. All ways have to find the same numbers of
changes.
The load is that of the machine in the last minute, before and after: 2 is both cores."""
COLUMNS = (
    *("snapshots", "rows", "format", "extract", "ingest", "bronze", "ms each", "one by one, ms each", "all of them, s"),
    *("lag(), s", "git-history, s", "from git, s", "memory, MB", "load"),
)


@dataclass(frozen=True)
class Size:
    """How many snapshots are taken, of how many rows."""

    snapshots: int
    rows: int
    format: str

    @classmethod
    def parse(cls, text: str) -> Size:
        """Return the size of a text such as `100x100000xcsv`."""
        snapshots, rows, file_format = text.split("x")
        return cls(int(snapshots), int(rows), file_format)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100x100000xcsv,2500x300xjson", help="snapshots x rows x format")
    parser.add_argument("--few", type=int, default=20, help="how many are taken one by one")
    parser.add_argument("--git-history", type=Path, help="the program, in a virtual environment of its own")
    parser.add_argument("--out", type=Path, help="page to write the section into, such as docs/bench.md")
    options = parser.parse_args()
    rows = []
    for size in map(Size.parse, options.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(size, options.few, options.git_history, Path(folder)))
        print(rows[-1], file=sys.stderr)
    section = page.table_section(HEADING, ABOUT.format(few=options.few), COLUMNS, rows)
    print(section)
    if options.out:
        page.write_section(options.out, section)


def measure(size: Size, few: int, git_history: Path | None, folder: Path) -> list[str]:
    """Return the cells of one size."""
    source, load = folder / "source", os.getloadavg()[0]
    backlog_data.write_folders(source, size.snapshots, size.rows, size.format)
    at_once = run_way(backlog_run.AT_ONCE, size, source, folder)
    by_lag = run_way(backlog_run.LAG, size, source, folder)
    require_equal(at_once, by_lag)
    first = folder / "first"
    first.mkdir()
    for each in sorted(source.iterdir())[:few]:
        each.rename(first / each.name)
    one_by_one = run_way(backlog_run.ONE_BY_ONE, size, first, folder)
    seconds, each_of_few = at_once["seconds"], sum(one_by_one["seconds"].values()) / one_by_one["snapshots"]
    cells = {
        "snapshots": f"{size.snapshots:,}",
        "rows": f"{size.rows:,}",
        "format": size.format,
        **{stage: f"{spent:.1f}" for stage, spent in seconds.items()},
        "ms each": f"{1000 * sum(seconds.values()) / size.snapshots:.0f}",
        "one by one, ms each": f"{1000 * each_of_few:,.0f}",
        "all of them, s": f"{size.snapshots * each_of_few:,.0f}",
        "lag(), s": f"{by_lag['seconds']['lag']:.1f}",
        "memory, MB": f"{at_once['peak'] / page.MB:,.0f}",
    }
    if size.format == "json":
        cells |= measure_git(size, git_history, at_once, folder)
    cells["load"] = f"{load:.1f} to {os.getloadavg()[0]:.1f}"
    return [cells.get(name, "") for name in COLUMNS]


def run_way(way: str, size: Size, source: Path, folder: Path) -> dict[str, Any]:
    """Take the snapshots of a source in a process of its own."""
    found: dict[str, Any] = process.run_module(
        "peers.backlog_run", way, size.format, source, folder / f"{way}-{source.name}"
    )
    return found


def measure_git(size: Size, git_history: Path | None, at_once: dict[str, Any], folder: Path) -> dict[str, str]:
    """Return the cells of a git repository with the same snapshots."""
    repository = folder / "repository"
    backlog_data.write_repository(repository, size.snapshots, size.rows, size.format)
    from_git = run_way(backlog_run.AT_ONCE, size, repository, folder)
    require_equal(at_once, from_git)
    cells = {"from git, s": f"{sum(from_git['seconds'].values()):.1f}"}
    if git_history:
        cells["git-history, s"] = f"{run_git_history(git_history, repository, at_once, folder / 'history.db'):.1f}"
    return cells


def run_git_history(program: Path, repository: Path, at_once: dict[str, Any], database: Path) -> float:
    """Return the seconds of git-history; end the bench if it finds other changes. It does not know deletes."""
    places = [str(database), "rows.json", "--repo", str(repository)]
    command = [str(program), "file", *places, "--id", "id", "--silent"]
    seconds = trial.time_call(lambda: process.run_program(command))
    with closing(sqlite3.connect(database)) as connection:
        (versions,) = connection.execute("SELECT count(*) FROM item_version").fetchone()
    if versions != at_once["changes"]["inserted"] + at_once["changes"]["updated"]:
        raise SystemExit(f"git-history has {versions:,} versions of rows, of {at_once['changes']}")
    return seconds


def require_equal(ours: dict[str, Any], other: dict[str, Any]) -> None:
    """End the bench if two ways found different numbers of changes."""
    if ours["changes"] != other["changes"]:
        raise SystemExit(f"other changes: {ours['changes']}, {other['changes']}")


if __name__ == "__main__":
    main()
