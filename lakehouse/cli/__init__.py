"""Contains the command line. The entry point is `main`, which runs one command and returns its exit code.

app.py      the commands with their arguments and options
render.py   prints results
"""

from lakehouse.cli.app import main

__all__ = ["main"]
