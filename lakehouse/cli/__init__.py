"""The command line: `main` runs one command and returns its exit code."""

from lakehouse.cli.app import main

__all__ = ["main"]
