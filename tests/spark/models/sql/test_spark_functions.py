"""The committed list of Spark's functions is that of the installed Spark: a sample here, all by `make test-random`."""

from __future__ import annotations

import logging
import os
from importlib import resources

import pytest
from pyspark.sql import SparkSession
from spark_functions import disagreements


def test_the_list_of_functions_is_that_of_the_installed_spark(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)  # each refused call would be logged
    committed = (resources.files("lakehouse") / "models" / "sql" / "spark_functions.txt").read_text("utf-8")

    assert disagreements(spark, committed, every=1 if "LAKEHOUSE_SEED" in os.environ else 40) == []
