"""Measures the downloads of a first run: jars and bytes of the Spark packages, for a lake on a disk and on S3.

Each set is downloaded into an empty folder, by a session that does nothing else. The extra `s3` also installs boto3.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peers import page

SESSION_PROGRAM = """
import sys
from pyspark.sql import SparkSession
from lakehouse.spark import session
from lakehouse.storage import s3
settings = session.default_settings() | (s3.spark_settings() if sys.argv[1] == "S3" else {})
builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
for name, value in (settings | {"spark.jars.ivy": sys.argv[2]}).items():
    builder = builder.config(name, value)
builder.getOrCreate()
"""


def fetch_packages(lake: str) -> tuple[int, float, float]:
    """Return the number of jars, their MB, and the seconds of a first session for a lake on `disk` or `S3`."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        env = os.environ | {"AWS_REGION": "us-east-1"}
        subprocess.run([sys.executable, "-c", SESSION_PROGRAM, lake, folder], check=True, capture_output=True, env=env)
        jars = list(Path(folder, "jars").glob("*.jar"))
        return len(jars), sum(jar.stat().st_size for jar in jars) / 1e6, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="page to write the section into")
    options = parser.parse_args()
    lines = ["## Downloads of a first run", "", "| lake | jars | MB | seconds, with the session |", "|---|--:|--:|--:|"]
    for lake in ("disk", "S3"):
        jars, size, seconds = fetch_packages(lake)
        lines.append(f"| {lake} | {jars} | {size:.1f} | {seconds:.0f} |")
    text = "\n".join([*lines, "", *page.environment_lines()]) + "\n"
    print(text)
    if options.out:
        page.write_section(options.out, text)


if __name__ == "__main__":
    main()
