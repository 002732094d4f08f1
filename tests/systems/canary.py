"""Runs several commands in one process and prints everything that could show a secret: canary.py JSON

The argument is a list of command lines. Stdout has the output of each of them and, as the last line, a document: exit
codes, Spark's settings read in two ways, and the command line of every process below this one.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from pyspark.sql import SparkSession

from lakehouse.cli import main


def child_processes(pid: int) -> list[int]:
    """Return the process ids of all descendants of a process that have not ended."""
    children = list[int]()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            children += map(int, task.read_text().split())
    return [one for child in children for one in (child, *child_processes(child))]


if __name__ == "__main__":
    codes = [main(words) for words in json.loads(sys.argv[1])]
    spark = SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
    found = {
        "codes": codes,
        "conf": spark.sparkContext.getConf().getAll(),
        "set": [tuple(row) for row in spark.sql("SET -v").collect() + spark.sql("SET").collect()],
        "argv": [
            Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in (os.getpid(), *child_processes(os.getpid()))
        ],
    }
    print(json.dumps(found, default=str))
