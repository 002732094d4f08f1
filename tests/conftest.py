"""One Spark for the whole test run; whoever uses the fixture needs a JVM, whoever does not runs without.

The session is the product's own local one for a lake on S3, which serves lakes on the disk as well: `lakehouse` picks
it up as the active session. A bucket's endpoint is set when the bucket is made (tests/live).
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

# How long an example takes says something of the machine, and of who else is at work on it.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    os.environ |= CREDENTIALS  # a JVM's environment is that of its start
    # At first use Delta's packages are fetched, which two processes at once would do into one another.
    with (Path(tempfile.gettempdir()) / "lakehouse-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # As for much data: this JVM works for half an hour, and is worth compiling well.
        own = session.get_session(Lake("s3a://tests/lake"), "tests", data_bytes=session.SMALL_DATA_BYTES)
    yield own
    own.stop()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL for the whole test run; its superuser is `tests`."""
    with postgres() as server:
        yield server


@pytest.fixture
def database(postgres_server: Server) -> Iterator[Server]:
    """An empty database of the test's own."""
    own = postgres_server.new_database(f"test_{uuid.uuid4().hex[:12]}")
    yield own
    own.drop()
