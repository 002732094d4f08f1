"""spark-submit jobs/gold.py PIPELINE [NAME ...] [options]: the verb `gold`, as a job."""

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    sys.exit(main(["gold", *sys.argv[1:]]))
