"""Servers for the whole test run, a bucket for each test that asks, and lakes in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from pyspark.sql import SparkSession
from servers import s3

from lakehouse.storage import s3_lease

_BUCKET_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def patient_leases() -> Iterator[None]:
    """A run that cannot renew its lease ends its process, here the tests' own: not for a minute of a busy machine."""
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
    """Makes a bucket on a server; its name is new, for Spark keeps what it knows of one."""

    def made(url: str) -> str:
        name = f"lake-{next(_BUCKET_NUMBERS)}"
        s3.client(url).create_bucket(Bucket=name)
        return name

    return made


@pytest.fixture(scope="session")
def known_to_spark(spark: SparkSession) -> Callable[[str, str], None]:
    """Tells the session where a bucket is, as a session of its own would be told by the environment."""

    def told(bucket: str, url: str) -> None:
        context = spark.sparkContext
        settings = context._jsc.hadoopConfiguration()  # type: ignore[union-attr]
        for name, value in (("endpoint", url), ("path.style.access", "true"), ("connection.ssl.enabled", "false")):
            settings.set(f"fs.s3a.bucket.{bucket}.{name}", value)

    return told


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has this process, and those it starts, ask the server at an address."""

    def asked(url: str) -> None:
        for name, value in (s3.CREDENTIALS | {"AWS_ENDPOINT_URL": url}).items():
            monkeypatch.setenv(name, value)

    return asked
