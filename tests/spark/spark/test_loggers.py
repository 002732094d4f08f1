"""What goes wrong in Spark is told by us, in one block: pyspark's own loggers put whole Java stacks on stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from pyspark.errors import AnalysisException, PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession
from pyspark.sql import functions as F


class Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


@pytest.fixture
def ear() -> Iterator[Ear]:
    """Hears what pyspark logs about failed queries, of SQL text and of DataFrames."""
    ear = Ear()
    loggers = [PySparkLogger.getLogger(name) for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger")]
    for logger in loggers:
        logger.addHandler(ear)
    yield ear
    for logger in loggers:
        logger.removeHandler(ear)


def test_a_query_that_fails_puts_no_java_stack_on_stderr(spark: SparkSession, ear: Ear) -> None:
    rows = spark.createDataFrame([("a",)], "id STRING")

    with pytest.raises(AnalysisException):
        spark.sql("SELECT id FROM VALUES (1)")
    with pytest.raises(AnalysisException):
        rows.select(F.col("nothing"))
    with pytest.raises(PySparkException):
        rows.select(F.col("id").cast("int")).collect()

    assert ear.heard == []
