"""Reads tables of a PostgreSQL database as a source; the entry point is `source.open_snapshots`.

source.py     the tables as one snapshot without a time, and the address of the database
reader.py     the reading of all tables at one instant, over several connections
queries.py    the queries for one table
types.py      how each column is read and written to Parquet
"""
