"""Measures the full loyalty run, and what Spark does in it; ours, and a script by hand (bench/peers/loyalty_script.py).

    .venv/bin/python bench/loyalty.py --rounds 3

Each figure is the wall time of one process, including the start of the JVM: cold, with a small change, and without a
change. Two are without that start: a change in a session that has run before (a process that has brought another lake
up to date), and a change by a command that uses a warm engine, if this version has engines. Each is compared with a
floor of the same round: a process that starts our Spark session, without the archive of classes, and writes a Delta
table of one row. The ratio is comparable between machines; the seconds are not.

The script has to give the same gold tables, or the bench fails. It runs with our session, archive of classes included,
and with Spark's own settings.
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
sys.path.insert(0, str(ROOT))  # use the package of this clone, not an installed one

from peers import page, process  # noqa: E402
from peers.loyalty_run import OURS, WAYS, gold_differences  # noqa: E402

COMMAND = [sys.executable, "-c", "import sys; from lakehouse.cli import main; sys.exit(main())"]
FLOOR_PROGRAM = """
import sys
from lakehouse.storage.paths import Lake
from lakehouse.spark.session import get_session
lake = Lake(sys.argv[1])
get_session(lake, "floor").range(1).write.format("delta").save(lake.spark_path("one"))
"""
NO_ARCHIVE, NO_ENGINE = {"LAKEHOUSE_CLASS_ARCHIVE": "off"}, {"LAKEHOUSE_ENGINE": "off"}
WARM, ENGINE = "changed, in a session that has run before", "changed, with a warm engine"
FLOOR = ("floor", "")
COUNTS = ("executions", "jobs", "stages", "tasks")
ABOUT = """Seconds of a process, medians of {rounds} rounds (minimum to maximum); x is the median of the ratios to the
floor of the same round. `bench/loyalty.py` explains the rows. Executions are Spark's SQL executions that started a job;
those that start none, such as the creation of a temporary view, are left out. The floor was measured without an archive
of classes, our session {archive} one. The gold tables of the script were equal to ours."""

Round = dict[tuple[str, str], dict[str, float]]


def time_process(command: list[str], env: dict[str, str]) -> float:
    """Return the seconds of a process that has to succeed."""
    began = time.monotonic()
    subprocess.run(command, env=env, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def run_process(way: str, env: dict[str, str], *runs: tuple[Path, Path]) -> dict[str, float]:
    """Run a way in a process, in each folder with its snapshot; return the seconds and counts of the last run."""
    arguments = [path for run in runs for path in run]
    began = time.monotonic()
    document = process.run_module("peers.loyalty_run", way, *arguments, environment=env)
    seconds = time.monotonic() - began
    last: dict[str, float] = document["runs"][-1]
    return last if len(runs) > 1 else last | {"seconds": seconds - document["aside"]}


def run_way(way: str, snapshots: list[Path], work: Path, env: dict[str, str]) -> dict[str, dict[str, float]]:
    """Run a way on new lakes; return the seconds and counts of each kind of run."""
    first, second = snapshots
    results = {
        "cold": run_process(way, env, (work / "own", first)),
        "changed": run_process(way, env, (work / "own", second)),
    }
    if way == OURS:
        results["unchanged"] = run_process(way, env, (work / "own", second))
    warm = work / "warm"
    results[WARM] = run_process(way, env, (work / "other", first), (warm, first), (warm, second))
    return results


def run_with_engine(snapshots: list[Path], work: Path, env: dict[str, str]) -> dict[str, float]:
    """Return the seconds of a changed run by an engine that has run before; nothing else runs beside it."""
    env = env | NO_ARCHIVE | {"LAKEHOUSE_ENGINE": "on", "XDG_CACHE_HOME": str(work / "cache")}
    seconds = 0.0
    try:
        for lake, snapshot in (("other", snapshots[0]), ("lake", snapshots[0]), ("lake", snapshots[1])):
            source = work / lake / "source"
            shutil.copytree(snapshot, source / snapshot.name)
            places = {"LAKE_ROOT": str(work / lake), "LOYALTY_SOURCE": str(source)}
            seconds = time_process([*COMMAND, "run", "conf/loyalty"], env | places)
    finally:
        subprocess.run([*COMMAND, "engine", "stop", "--force"], env=env, cwd=ROOT, check=True, capture_output=True)
    return {"seconds": seconds}


def run_round(ways: list[str], snapshots: list[Path], work: Path, env: dict[str, str]) -> Round:
    """Run each way once, so that other load on the machine affects all of them, and compare the results."""
    results: Round = {}
    for way in ways:
        measured = run_way(way, snapshots, work / way, env)
        if way == OURS and has_engines(env):
            measured[ENGINE] = run_with_engine(snapshots, work / "engine", env)
        for run, result in measured.items():
            results[way, run] = result
            print(f"{way:<14} {run:<41} {result['seconds']:7.2f} s", file=sys.stderr)
        lakes = [f"{OURS}/own", f"{way}/own", f"{way}/warm"]
        if OURS in ways and (wrong := gold_differences(*(work / p / "loyalty" for p in lakes))):
            raise SystemExit("\n".join(wrong))
    floor = time_process([sys.executable, "-c", FLOOR_PROGRAM, str(work / "floor")], env | NO_ARCHIVE)
    return results | {FLOOR: {"seconds": floor}}


def has_engines(env: dict[str, str]) -> bool:
    """Return whether this version of the project has warm engines."""
    return not subprocess.run(
        [*COMMAND, "engine", "status"], env=env, cwd=ROOT, capture_output=True, check=False
    ).returncode


def build_archive(env: dict[str, str]) -> bool:
    """Build the archive of classes, unless there is one; return whether there is one then."""
    build = [sys.executable, "-m", "lakehouse.spark.build_class_archive"]
    done = subprocess.run(build, env=env, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    return not done.returncode


def results_table(rounds: list[Round]) -> list[str]:
    """Return a Markdown table with a row for each kind of run of each way."""
    lines = [f"| | seconds | x | {' | '.join(COUNTS)} |", "|---|--:|--:|" + "--:|" * len(COUNTS)]
    for way, run in rounds[0]:
        results = [r[way, run] for r in rounds]
        seconds = [result["seconds"] for result in results]
        ratio = statistics.median(s / r[FLOOR]["seconds"] for s, r in zip(seconds, rounds, strict=True))
        counts = [f"{statistics.median(r[c] for r in results):,.0f}" if c in results[0] else "" for c in COUNTS]
        cells = [f"{WAYS[way]}: {run}" if run else way, _format_seconds(seconds), f"{ratio:.2f}", *counts]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _format_seconds(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transactions", type=int, default=800)
    parser.add_argument("--clients", type=int, default=150)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(WAYS), metavar="NAME,...")
    parser.add_argument("--out", type=Path, help="page to write the section into, such as docs/bench.md")
    options = parser.parse_args()
    if unknown := [name for name in options.only if name not in WAYS]:
        parser.error(f"unknown way {', '.join(unknown)}: the ways are {', '.join(WAYS)}")
    ways = [way for way in WAYS if way in options.only]
    env = os.environ | NO_ENGINE
    has_archive = build_archive(env)
    env |= {} if has_archive else NO_ARCHIVE  # without this, a session would build one beside a measurement
    with tempfile.TemporaryDirectory() as folder:
        snapshot_folder = Path(folder) / "snapshots"
        size = ["--transactions", str(options.transactions), "--clients", str(options.clients)]
        subprocess.run([sys.executable, ROOT / "samples" / "generate.py", snapshot_folder, *size], check=True)
        snapshots = sorted(p for p in snapshot_folder.iterdir() if p.is_dir())
        rounds = [run_round(ways, snapshots, Path(folder) / f"round-{n}", env) for n in range(options.rounds)]
    about = ABOUT.format(rounds=options.rounds, archive="with" if has_archive else "without")
    heading = f"## The loyalty run: {options.transactions:,} transactions"
    section = "\n".join([heading, "", about, "", *results_table(rounds), "", *page.environment_lines()]) + "\n"
    print(section)
    if options.out:
        page.write_section(options.out, section)


if __name__ == "__main__":
    main()
