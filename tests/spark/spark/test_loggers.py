"""Errors of Spark are reported once, by us: pyspark's own loggers would write complete Java stacks to stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from pyspark.errors import AnalysisException, PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession
from pyspark.sql import functions as F


class Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Records pyspark's log messages about failed queries, of SQL text and of DataFrames."""
    recorder = Recorder()
    loggers = [PySparkLogger.getLogger(name) for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger")]
    for logger in loggers:
        logger.addHandler(recorder)
    yield recorder
    for logger in loggers:
        logger.removeHandler(recorder)


def test_a_failed_query_writes_no_java_stack_to_stderr(spark: SparkSession, recorder: Recorder) -> None:
    rows = spark.createDataFrame([("a",)], "id STRING")

    with pytest.raises(AnalysisException):
        spark.sql("SELECT id FROM VALUES (1)")
    with pytest.raises(AnalysisException):
        rows.select(F.col("nothing"))
    with pytest.raises(PySparkException):
        rows.select(F.col("id").cast("int")).collect()

    assert recorder.messages == []
