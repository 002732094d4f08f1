"""Measures the full loyalty run: cold, with a small change, and without a change (`make bench`).

Each figure is the wall time of one process of the command line, including the start of the JVM, as the median of
several rounds. Each is compared with a floor of the same round: a process that starts the same Spark session and writes
a Delta table of one row. The ratio is comparable between machines; the seconds are not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-c", "import sys; from lakehouse.cli import main; sys.exit(main())"]
FLOOR_PROGRAM = """
import sys
from lakehouse.storage.paths import Lake
from lakehouse.spark.session import get_session
lake = Lake(sys.argv[1])
get_session(lake, "floor").range(1).write.format("delta").save(lake.spark_path("one"))
"""


def time_process(command: list[str], env: dict[str, str]) -> float:
    """Return the seconds of a process that has to succeed."""
    began = time.monotonic()
    subprocess.run(command, env=env, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def run_round(snapshots: list[Path], work: Path) -> dict[str, float]:
    source, lake = work / "source", work / "lake"
    env = os.environ | {"LAKE_ROOT": str(lake), "LOYALTY_SOURCE": str(source)}
    run = [*COMMAND, "run", "conf/loyalty"]
    seconds = {}
    for name, snapshot in zip(("cold", "changed"), snapshots, strict=True):
        shutil.copytree(snapshot, source / snapshot.name)
        seconds[name] = time_process(run, env)
    seconds["unchanged"] = time_process(run, env)
    without_archive = env | {"LAKEHOUSE_CLASS_ARCHIVE": "off"}  # the floor stays what it was before there was one
    seconds["floor"] = time_process([sys.executable, "-c", FLOOR_PROGRAM, str(work / "floor")], without_archive)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transactions", type=int, default=800)
    parser.add_argument("--clients", type=int, default=150)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        snapshot_folder = Path(folder) / "snapshots"
        size = ["--transactions", str(options.transactions), "--clients", str(options.clients)]
        subprocess.run([sys.executable, ROOT / "samples" / "generate.py", snapshot_folder, *size], check=True)
        snapshots = sorted(p for p in snapshot_folder.iterdir() if p.is_dir())
        rounds = [run_round(snapshots, Path(folder) / f"round-{n}") for n in range(options.rounds)]
    print(f"loyalty, {options.transactions:,} transactions, median of {options.rounds} (minimum to maximum), seconds")
    for name in ("cold", "changed", "unchanged", "floor"):
        all_of = sorted(r[name] for r in rounds)
        ratio = statistics.median(r[name] / r["floor"] for r in rounds)
        print(
            f"{name:<10} {statistics.median(all_of):7.2f}  ({all_of[0]:.2f} to {all_of[-1]:.2f})   {ratio:5.2f} x floor"
        )


if __name__ == "__main__":
    main()
