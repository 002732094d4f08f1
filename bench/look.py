"""Measures the commands that look at a lake, each in a process of its own, beside Python with DuckDB and PyArrow.

.venv/bin/python bench/look.py --rounds 5
.venv/bin/python bench/look.py --lake lake      # the lake of `make demo`, instead of a new one
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent))  # use the package of this clone, not an installed one

from peers import page  # noqa: E402

LAKEHOUSE = [sys.executable, "-c", "import sys; from lakehouse.cli import main; sys.exit(main())"]
FLOOR = [sys.executable, "-c", "import duckdb, pyarrow"]
PIPELINE = "conf/loyalty"
VERBS = {
    "--help": ["--help"],
    "validate": ["validate", PIPELINE],
    "explain": ["explain", PIPELINE, "gold.churn"],
    "status": ["status", PIPELINE],
    "history": ["history", PIPELINE, "clientes"],
    "quarantine": ["quarantine", PIPELINE, "clientes"],
    "show, a table": ["show", PIPELINE, "clientes"],
    "show, a model": ["show", PIPELINE, "gold.churn"],
    "sql": ["sql", PIPELINE, "SELECT count(*) FROM bronze.clientes"],
    "diff": ["diff", PIPELINE],
    "why, a row of a cube": ["why", PIPELINE, "gold.churn", "2025-10-03"],
}
ABOUT = """A process each, on the lake of `make demo`; no JVM starts. Medians of {rounds} rounds (minimum to maximum).
*x* is the median of the ratios of the CPU time to that of `{floor}` in the same round,
which depends least on other load."""


def measure(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return the wall time and the CPU time of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, env=environment, cwd=BENCH.parent, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{command[-2:]} ended with {done.returncode}: {done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_all(lake: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the wall and CPU times of each command, in turn, after one round that nobody counts."""
    environment = os.environ | {"LAKE_ROOT": str(lake)}
    commands = {"floor": FLOOR} | {name: [*LAKEHOUSE, *words] for name, words in VERBS.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            times = measure(command, environment)
            if number:
                found[name].append(times)
    return found


def table(found: dict[str, list[tuple[float, float]]]) -> list[str]:
    """Return the lines of the table."""
    lines = ["| command | wall, s | CPU, s | x |", "|---|--:|--:|--:|"]
    for name, times in found.items():
        wall, cpu = (list(values) for values in zip(*times, strict=True))
        ratio = statistics.median(own / floor for own, (_, floor) in zip(cpu, found["floor"], strict=True))
        spread = f"{statistics.median(wall):.2f} ({min(wall):.2f} to {max(wall):.2f})"
        lines.append(f"| {name} | {spread} | {statistics.median(cpu):.2f} | {ratio:.1f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lake", type=Path, help="the folder of a lake of conf/loyalty, instead of a new one")
    parser.add_argument("--out", type=Path, help="page to write the section into, such as docs/bench.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lake = options.lake.resolve() if options.lake else Path(folder)
        if not options.lake:
            measure([*LAKEHOUSE, "run", PIPELINE], os.environ | {"LAKE_ROOT": str(lake)})
        lines = table(measure_all(lake, options.rounds))
    about = ABOUT.format(rounds=options.rounds, floor=f'python -c "{FLOOR[-1]}"')
    section = "\n".join(["## Looking at a lake", "", about, "", *lines, "", *page.environment_lines()]) + "\n"
    print(section)
    if options.out:
        page.write_section(options.out, section)


if __name__ == "__main__":
    main()
