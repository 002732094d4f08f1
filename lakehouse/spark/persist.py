"""Keeps the rows of a DataFrame in Spark's memory and on its disk, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark import StorageLevel
from pyspark.sql import DataFrame


@contextmanager
def persist_rows(rows: DataFrame) -> Iterator[DataFrame]:
    """Persist rows that are used several times, so that they are computed once; release them after the block."""
    rows.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        yield rows
    finally:
        rows.unpersist()
