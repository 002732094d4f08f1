"""Draws pipelines at random, runs them, and reports what must never happen: `make fuzz`.

    case.py          a pipeline with its snapshots, as data that can be shortened, written to a folder and read again
    draw_tables.py   schemas, dialects and files of every format, with odd types and bytes
    draw_models.py   models of the SQL that is allowed, over the drawn schemas
    draw.py          a whole case
    check.py         runs a case, and lists its faults
    shrink.py        leaves out what a fault does not need
    __main__.py      draws cases until the time is over

A fault is: an exit code 1 or 3, a command that takes too long, a table that a reader cannot read or of which two
readers see different numbers of rows, rows that the ledger does not account for, an invariant that `verify` finds
broken, and a second run that finds something new.
"""
