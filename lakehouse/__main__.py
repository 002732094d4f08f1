"""`python -m lakehouse`: the command line, by a Python of one's own choice."""

import sys

from lakehouse.cli import main

if __name__ == "__main__":
    sys.exit(main())
