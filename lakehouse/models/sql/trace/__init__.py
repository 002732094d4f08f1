"""Finds the rows of a model's inputs that made given rows of it, for `lakehouse why`. Uses no Spark.

Entry point: `Tracer`, which needs a `BlockSql` to run its SQL: `DuckdbBlocks`, or Spark (lakehouse/inspect/why).

    block_sql.py      what is needed of Spark or DuckDB
    tracer.py         follows the wanted rows from the model's own SELECT through its CTEs to its inputs
    reach.py          finds how far the windows of a SELECT reach
    duckdb_blocks.py  runs the SQL in the driver, if DuckDB gives the same result
    translate.py      writes expressions for DuckDB
"""

from lakehouse.models.sql.trace.block_sql import BlockSql
from lakehouse.models.sql.trace.duckdb_blocks import DuckdbBlocks
from lakehouse.models.sql.trace.tracer import NUMBER, RANK, TOTAL, Tracer
from lakehouse.models.sql.trace.translate import NotInDuckdbError

__all__ = ["NUMBER", "RANK", "TOTAL", "BlockSql", "DuckdbBlocks", "NotInDuckdbError", "Tracer"]
