"""Provides servers for all live tests, and a bucket for each test that needs one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from pyspark.sql import SparkSession
from servers import s3
from servers.fixtures import database, postgres_server
from shared_session import spark

from lakehouse.storage import s3_lease

__all__ = ["database", "postgres_server", "spark"]

_BUCKET_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def patient_leases() -> Iterator[None]:
    """Use long leases: a run that cannot renew its lease kills its process, which here is that of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(s3_lease.LEASE_SECONDS_VARIABLE, "600")
        yield


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3.moto(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture(scope="session")
def s3proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3.s3proxy(tmp_path_factory.mktemp("s3proxy")) as url:
        yield url


@pytest.fixture(scope="session")
def new_bucket() -> Callable[[str], str]:
    """Return a function that creates a bucket on a server, each with a new name, because Spark caches its settings."""

    def create(url: str) -> str:
        name = f"lake-{next(_BUCKET_NUMBERS)}"
        s3.client(url).create_bucket(Bucket=name)
        return name

    return create


@pytest.fixture(scope="session")
def known_to_spark(spark: SparkSession) -> Callable[[str, str], None]:
    """Return a function that sets the endpoint of a bucket in the session, which has its settings from its start."""

    def set_endpoint(bucket: str, url: str) -> None:
        context = spark.sparkContext
        settings = context._jsc.hadoopConfiguration()  # type: ignore[union-attr]
        for name, value in (("endpoint", url), ("path.style.access", "true"), ("connection.ssl.enabled", "false")):
            settings.set(f"fs.s3a.bucket.{bucket}.{name}", value)

    return set_endpoint


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that directs the S3 clients of this process and its children to a server."""

    def use_server(url: str) -> None:
        for name, value in (s3.CREDENTIALS | {"AWS_ENDPOINT_URL": url}).items():
            monkeypatch.setenv(name, value)

    return use_server
