"""Publishes tables of the lake to PostgreSQL. Entry point: `sync.publish`, for one table.

1. `connection.py` connects and maps the errors of psycopg to ours; `catalog.py` reads the publish position.
2. `sync.py` decides between the changed rows and a full comparison.
3. `copy_rows.py` writes rows of the lake as lines of COPY; `types.py` maps their types.
4. `table.py` applies the staged rows within the transaction; `statements.py` composes its SQL.

PostgreSQL's own record is the only source for its content: the transaction that changes the rows also changes the
publish position. Nothing is dropped or emptied while somebody reads it, equal rows are not written, and NULL is a value
of a key.
"""
