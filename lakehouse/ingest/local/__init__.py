"""Compares a snapshot with bronze in the driver, with PyArrow and DuckDB, if Spark would give the same result.

Spark plans and schedules for seconds, and interprets or compiles every expression, before it has compared the first
row; DuckDB takes a fraction of that for any size that one machine holds (docs/decisions/0024-local-compare.md). Entry
point: `compare_in_driver`, in a database of `open_database`. In order:

1. open the files                       csv_file.py, json_file.py, parquet_file.py, local_file.py
2. cast and validate their fields       load.py, with the SQL of sql_casts.py, by the rules of lakehouse/schema/cast.py
3. compare the rows by key              compare.py, by the rules of lakehouse/ingest/diff.py; of many at once: chain.py

Files and types that these do not know are left to Spark (`NeedsSparkError` in errors.py).
"""

from lakehouse.ingest.local.compare import LocalRows, can_compare, compare_in_driver, open_database
from lakehouse.ingest.local.load import PreloadedRows

__all__ = ["LocalRows", "PreloadedRows", "can_compare", "compare_in_driver", "open_database"]
