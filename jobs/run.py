"""Runs the verb `run` as a job: spark-submit jobs/run.py PIPELINE [NAME ...] [options]."""

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    if code := main(["run", *sys.argv[1:]]):  # Databricks treats every SystemExit as a failure
        sys.exit(code)
