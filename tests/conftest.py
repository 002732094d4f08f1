"""Shares one Spark session between all tests. A test that uses the fixture `spark` needs a JVM; others run without.

The session is the product's own local session for a lake on S3, which also works for lakes on the disk: `lakehouse`
finds it as the active session. The endpoint of a bucket is set when the bucket is created (tests/live).
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from pyspark.sql import SparkSession
from servers.postgres import Server, postgres
from servers.s3 import CREDENTIALS

from lakehouse.spark import session
from lakehouse.storage.paths import Lake

# The duration of an example depends on the machine and its load.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    os.environ |= CREDENTIALS  # a JVM's environment is that of its start
    # The first session downloads Delta's packages; two processes must not do so at the same time.
    with (Path(tempfile.gettempdir()) / "lakehouse-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # With the settings for large data: this JVM runs for half an hour, so full compilation pays.
        shared = session.get_session(Lake("s3a://tests/lake"), "tests", data_bytes=session.SMALL_DATA_BYTES)
    yield shared
    shared.stop()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """Start one PostgreSQL for all tests; its superuser is `tests`."""
    with postgres() as server:
        yield server


@pytest.fixture
def database(postgres_server: Server) -> Iterator[Server]:
    """Create an empty database for one test."""
    database = postgres_server.new_database(f"test_{uuid.uuid4().hex[:12]}")
    yield database
    database.drop()
