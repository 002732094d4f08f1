"""Contains the command line. The entry point is `main`, which runs one command and returns its exit code.

app.py             the commands with their arguments and options
parameters.py      those that several commands have
verbs.py           their groups, examples and exit codes in the help
progress.py        the bar and the lines of a running command
render.py          prints the results of most commands, and errors
lake.py            prints those of `status`, `history`, `quarantine`, `show`, `sql` and `test`
snapshot_diff.py   prints that of `diff`
console.py         writes to stdout and stderr
"""

from lakehouse.cli.app import main

__all__ = ["main"]
