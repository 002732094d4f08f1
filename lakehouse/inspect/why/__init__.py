"""Explains a row of a table or model: `lakehouse why`. Entry point: `why`. In order:

1. find the row by its key                                                       find_row.py
2. find the rows of its inputs that made it, and of theirs, down to bronze       explanation.py, models/sql/trace
   in the driver if DuckDB gives the same result, else with Spark                spark_blocks.py
3. of rows of bronze: the snapshot, its changes, the landed file and line        landed.py

`bearing.py` limits all this to what one column is computed from. With `--between`, the entry point is
`why_between`, whose steps are in `between.py`.
"""

from lakehouse.inspect.why.bearing import bearing_columns
from lakehouse.inspect.why.between import why_between
from lakehouse.inspect.why.explanation import why, why_rows

__all__ = ["bearing_columns", "why", "why_between", "why_rows"]
