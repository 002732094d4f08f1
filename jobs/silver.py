"""spark-submit jobs/silver.py PIPELINE [NAME ...] [options]: the verb `silver`, as a job."""

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    sys.exit(main(["silver", *sys.argv[1:]]))
