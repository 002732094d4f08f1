"""Tables of the lake, followed by tables in a PostgreSQL database.

    keep.py         one table brought up to date: what changed since, or all of it against all of it
    table.py        the transaction's part in PostgreSQL: a table made equal to what is staged
    statements.py   its SQL
    database.py     what is there, and how far PostgreSQL itself says that it is
    connection.py   who is let in, and what goes wrong
    columns.py      types of the lake as types of PostgreSQL
    lines.py        rows of the lake as lines of COPY

PostgreSQL's own record is the only truth about what it has: it moves in the transaction that moves the rows. Nothing is
dropped or emptied under a reader, equal rows are not written, and of keys a NULL is a value.
"""
