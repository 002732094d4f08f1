"""Derives the schema of a table from pipeline.yml, and converts values to the declared types.

table_schema.py    the schema as declared, and as stored in the lake
mismatch.py        the difference between two schemas
cast.py            text to a declared type, with dates.py and numbers.py
pii.py             the protection of personal columns
"""
