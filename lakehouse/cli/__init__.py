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

from __future__ import annotations

import gc

_OBJECTS_BETWEEN_COLLECTIONS = 200_000  # Python's default, 700, collects some hundred times while modules are imported


def main(argv: list[str] | None = None) -> int:
    """Run a command line, and return its exit code.

    Args:
        argv: The arguments; None: those of the process, which ends after the command.
    """
    if argv is None:
        gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 30, 30)
    from lakehouse.cli import app

    if argv is None:
        gc.freeze()  # no search goes through these modules again, also not the one at the end of the process
    return app.main(argv)
