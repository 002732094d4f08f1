"""spark-submit jobs/run.py PIPELINE [NAME ...] [options]: the verb `run`, as a job."""

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    if code := main(["run", *sys.argv[1:]]):  # Databricks takes any SystemExit for a failure
        sys.exit(code)
