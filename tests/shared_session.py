"""The Spark session that all tests of a process share: `conftest.py` of each folder whose tests use Spark imports it.

It is the product's own local session for a lake on S3, which also works for lakes on the disk: `lakehouse` finds it as
the active session. The endpoint of a bucket is set when the bucket is created (tests/live).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession
from servers.s3 import CREDENTIALS

from lakehouse.spark.class_archive import SWITCH
from lakehouse.spark.session import SMALL_DATA_BYTES, get_session
from lakehouse.storage.paths import Lake


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """Return the session; the first test that uses it starts its JVM."""
    yield _start()
    _start().stop()


@functools.cache  # each conftest that imports the fixture has one of its own
def _start() -> SparkSession:
    os.environ |= CREDENTIALS  # a JVM's environment is that of its start
    # With the settings for large data: this JVM runs for many minutes, so full compilation pays. An archive of
    # classes for S3 would serve this session alone.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWITCH, "off")
        return get_session(Lake("s3a://tests/lake"), "tests", data_bytes=SMALL_DATA_BYTES)
