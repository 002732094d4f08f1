"""What a first run fetches: jars and bytes of the Spark packages, for a lake on a disk and for one on S3.

Each set is fetched into an empty folder, by a session that does nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SESSION = """
import sys
from pyspark.sql import SparkSession
from lakehouse import s3, session
settings = session.defaults() | (s3.spark_settings() if sys.argv[1] == "S3" else {})
builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
for name, value in (settings | {"spark.jars.ivy": sys.argv[2]}).items():
    builder = builder.config(name, value)
builder.getOrCreate()
"""


def main() -> None:
    print(f"{'lake':6} {'jars':>5} {'MB':>6} {'seconds':>8}")
    for lake in ("disk", "S3"):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            subprocess.run(
                [sys.executable, "-c", SESSION, lake, folder],
                check=True,
                capture_output=True,
                env=os.environ | {"AWS_REGION": "us-east-1"},
            )
            jars = list(Path(folder, "jars").glob("*.jar"))
            size = sum(jar.stat().st_size for jar in jars) / 1e6
            print(f"{lake:6} {len(jars):5} {size:6.1f} {time.monotonic() - began:8.1f}")


if __name__ == "__main__":
    main()
