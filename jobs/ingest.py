"""spark-submit jobs/ingest.py PIPELINE [NAME ...] [options]: the verb `ingest`, as a job."""

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    sys.exit(main(["ingest", *sys.argv[1:]]))
