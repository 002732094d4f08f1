"""Runs the verb `silver` as a job: spark-submit jobs/silver.py PIPELINE [NAME ...] [options]."""

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    if code := main(["silver", *sys.argv[1:]]):  # Databricks treats every SystemExit as a failure
        sys.exit(code)
