"""Runs the verb `bronze` as a job: spark-submit jobs/bronze.py PIPELINE [NAME ...] [options]."""

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    if code := main(["bronze", *sys.argv[1:]]):  # Databricks treats every SystemExit as a failure
        sys.exit(code)
