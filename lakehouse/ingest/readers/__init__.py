"""Reads landed files by the declared schema.

Entry point: `snapshot_reader.read`. In order:

1. parse each file into fields, as text or as the file types them   csv_reader.py, json_reader.py, parquet_reader.py
2. validate the rows: problems, key state, the row as received      snapshot_reader.py

`json_fields.py` splits JSON without changing it; `parsed_file.py` defines inputs and results of the parsers. Text is
converted by `lakehouse/schema/cast.py`. `lakehouse forget` finds and removes records with the same parsers.
"""
