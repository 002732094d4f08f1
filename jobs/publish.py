"""spark-submit jobs/publish.py PIPELINE [NAME ...] [options]: the verb `publish`, as a job."""

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    if code := main(["publish", *sys.argv[1:]]):  # Databricks takes any SystemExit for a failure
        sys.exit(code)
