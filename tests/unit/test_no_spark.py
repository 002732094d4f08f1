"""The guard of this folder: neither a test nor a process that it starts can use Spark."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["pyspark.none", "py4j.none", "delta.none"])
def test_importing_spark_fails(module: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=f"must not import {module.partition('.')[0]}"):
        importlib.import_module(module)


def test_a_process_cannot_start_a_jvm() -> None:
    start = "from pyspark.sql import SparkSession; SparkSession.builder.getOrCreate()"
    process = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=False)

    assert process.returncode == 1
    assert "start no JVM" in process.stderr
