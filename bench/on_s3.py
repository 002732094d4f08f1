"""The loyalty run with its lake on S3: seconds of each stage, and the requests it took.

The server is s3proxy (tests/servers/s3.py) on this machine, which answers within milliseconds: what a store further
away adds is its latency, times the requests, by as many as go side by side. Each run is a process of the command line.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from servers import faults, s3  # noqa: E402

SAMPLES = sorted((ROOT / "samples" / "loyalty").iterdir())
COMMAND = [sys.executable, "-c", "import sys; from lakehouse.cli import main; sys.exit(main())", "run", "conf/loyalty"]


def timed(env: dict[str, str]) -> tuple[float, dict[str, float]]:
    """Seconds of a run, and of each of its stages: those of the slowest table or model."""
    began = time.monotonic()
    done = subprocess.run([*COMMAND, "--json"], env=env, cwd=ROOT, check=True, capture_output=True)
    seconds = time.monotonic() - began
    stages: dict[str, float] = defaultdict(float)
    for outcome in json.loads(done.stdout)["outcomes"]:
        stages[outcome["stage"]] = max(stages[outcome["stage"]], outcome["seconds"])
    return seconds, stages


def main() -> None:
    none = faults.Faults({})
    runs = [("cold", SAMPLES[0]), ("changed", SAMPLES[1]), ("unchanged", None)]
    with (
        tempfile.TemporaryDirectory() as own,
        s3.s3proxy(Path(own)) as server,
        faults.before(server, none) as url,
    ):
        s3.client(server).create_bucket(Bucket="lake")
        source = Path(own, "source")
        lake = {"AWS_ENDPOINT_URL": url, "LAKE_ROOT": "s3a://lake", "LOYALTY_SOURCE": str(source)}
        print(f"{'run':10} {'seconds':>8} {'requests':>9}   by stage")
        for name, snapshot in runs:
            if snapshot:
                shutil.copytree(snapshot, source / snapshot.name)
            before = none.passed
            seconds, stages = timed(os.environ | s3.KEY | lake)
            told = ", ".join(f"{stage} {spent:.1f}" for stage, spent in stages.items())
            print(f"{name:10} {seconds:8.1f} {none.passed - before:9,}   {told}")


if __name__ == "__main__":
    main()
