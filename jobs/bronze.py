"""spark-submit jobs/bronze.py PIPELINE [NAME ...] [options]: the verb `bronze`, as a job."""

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    if code := main(["bronze", *sys.argv[1:]]):  # Databricks takes any SystemExit for a failure
        sys.exit(code)
