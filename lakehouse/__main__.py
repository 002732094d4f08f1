"""Runs the command line as `python -m lakehouse`, with the Python of the caller's choice."""

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    sys.exit(main())
