"""spark-submit jobs/gold.py PIPELINE [NAME ...] [options]: the verb `gold`, as a job."""

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    if code := main(["gold", *sys.argv[1:]]):  # Databricks takes any SystemExit for a failure
        sys.exit(code)
