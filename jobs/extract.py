"""spark-submit jobs/extract.py PIPELINE [NAME ...] [options]: the verb `extract`, as a job."""

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    if code := main(["extract", *sys.argv[1:]]):  # Databricks takes any SystemExit for a failure
        sys.exit(code)
