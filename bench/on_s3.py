"""Measures the loyalty run with its lake on S3: the seconds of each stage, and the number of requests.

    .venv/bin/python bench/on_s3.py --rounds 3

The server is s3proxy (tests/servers/s3.py) on this machine, which responds within milliseconds. A remote store adds its
latency, times the number of requests, divided by the number of parallel requests. Each run is a process of the command
line, including the start of the JVM; a stage takes as long as its slowest table or model. Medians, minimum to maximum.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "deploy/connect")]

from peers import page  # noqa: E402
from servers import faults, s3  # noqa: E402

SAMPLES = sorted((ROOT / "samples" / "loyalty").iterdir())
COMMAND = [sys.executable, "-c", "import sys; from lakehouse.cli import main; sys.exit(main())", "run", "conf/loyalty"]


def time_run(env: dict[str, str]) -> tuple[float, dict[str, float]]:
    """Return the seconds of a run, and of each of its stages."""
    began = time.monotonic()
    done = subprocess.run([*COMMAND, "--json"], env=env, cwd=ROOT, check=True, capture_output=True)
    return time.monotonic() - began, seconds_by_stage(done.stdout)


def seconds_by_stage(document: bytes) -> dict[str, float]:
    """Return the seconds of the slowest table or model of each stage, from the document of `run --json`."""
    seconds: dict[str, float] = defaultdict(float)
    for outcome in json.loads(document)["outcomes"]:
        seconds[outcome["stage"]] = max(seconds[outcome["stage"]], outcome["seconds"])
    return seconds


def run_round() -> dict[str, dict[str, float]]:
    """Return for each run its seconds, in total and by stage, and its requests, on a new server."""
    no_faults, results = faults.Faults({}), dict[str, dict[str, float]]()
    with (
        tempfile.TemporaryDirectory() as own,
        s3.s3proxy(Path(own)) as server,
        faults.proxy(server, no_faults) as url,
    ):
        s3.client(server).create_bucket(Bucket="lake")
        source = Path(own, "source")
        lake = {"AWS_ENDPOINT_URL": url, "LAKE_ROOT": "s3a://lake", "LOYALTY_SOURCE": str(source)}
        for name, snapshot in (("cold", SAMPLES[0]), ("changed", SAMPLES[1]), ("unchanged", None)):
            if snapshot:
                shutil.copytree(snapshot, source / snapshot.name)
            before = no_faults.request_count
            seconds, stages = time_run(os.environ | s3.CREDENTIALS | lake)
            results[name] = {"full run": seconds, **stages, "requests": no_faults.request_count - before}
            print(name, results[name], file=sys.stderr)
    return results


def seconds_table(rounds: list[dict[str, dict[str, float]]]) -> list[str]:
    """Return a Markdown table with a line per run and a column per stage."""
    columns = list(next(iter(rounds[0].values())))  # the first run has every stage
    lines = ["| run | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for name in rounds[0]:
        cells = [_format_cell([each[name][c] for each in rounds if c in each[name]], c == "requests") for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _format_cell(values: list[float], is_integer: bool) -> str:
    if not values:
        return ""
    middle = statistics.median(values)
    return f"{middle:,.0f}" if is_integer else f"{middle:.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="page to write the section into")
    options = parser.parse_args()
    lines = seconds_table([run_round() for _ in range(options.rounds)])
    about = f"Seconds, medians of {options.rounds} rounds (minimum to maximum); `bench/on_s3.py` explains them."
    text = "\n".join(["## The loyalty run on S3", "", about, "", *lines, "", *page.environment_lines()]) + "\n"
    print(text)
    if options.out:
        page.write_section(options.out, text)


if __name__ == "__main__":
    main()
