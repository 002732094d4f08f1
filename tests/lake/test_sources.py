"""Pipelines that end to end take their snapshots from elsewhere than a folder, as their users run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import Result, lakehouse
from pyspark.sql import SparkSession
from servers.kaggle import KEY, SIGNATURE, Kaggle, kaggle
from test_loyalty import SAMPLES, SECOND, TABLES, Loyalty, assert_gold, assert_silver

REPOSITORY = Path(__file__).parents[2]
FIRST = "20251003_170552"


class Published(Loyalty):
    """conf/loyalty/kaggle.yml, on a lake of the test's own and a Kaggle that publishes the samples."""

    def __init__(self, lake: Path, server: Kaggle) -> None:
        super().__init__(lake, SAMPLES)
        self.server = server

    @property
    def environment(self) -> dict[str, str]:
        return {"LAKE_ROOT": str(self.lake.parent), **self.server.environment}

    def publish(self, stamp: str, time: str) -> None:
        self.server.publish({path.name: path.read_bytes() for path in (SAMPLES / stamp).glob("*.csv")}, time)

    def __call__(self, verb: str, *arguments: str) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return lakehouse(verb, str(REPOSITORY / "conf" / "loyalty" / "kaggle.yml"), *arguments)

    def alone(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A run in a process of its own, which fails if it so much as imports Spark."""
        program = (
            "import sys; from lakehouse.cli import main; code = main(sys.argv[1:]); "
            "assert 'pyspark' not in sys.modules; sys.exit(code)"
        )
        return subprocess.run(
            [sys.executable, "-c", program, *arguments, str(REPOSITORY / "conf" / "loyalty" / "kaggle.yml")],
            env=os.environ | self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    with kaggle() as server:
        one = Published(tmp_path_factory.mktemp("kaggle") / "loyalty-kaggle", server)
        one.publish(FIRST, "2025-10-03T17:05:52.513Z")
        one.done = one("run")
        assert one.done.code == 0, one.done.stderr
        yield one


def test_a_version_on_kaggle_becomes_gold_in_one_run(published: Published) -> None:
    assert published.server.routes.count("archive") == 1
    for table in TABLES:
        (entry,) = published.ledger(table)
        assert (entry["status"], f"{entry['snapshot_time']:%Y%m%d_%H%M%S}") == ("accepted", FIRST)
    assert_silver(published, SAMPLES / FIRST)
    assert_gold(published, SAMPLES / FIRST)


def test_the_same_version_starts_no_jvm_and_downloads_nothing(published: Published) -> None:
    before = published.versions()
    published.server.asked.clear()

    done = published.alone("run")

    assert done.returncode == 0, done.stderr
    assert "nothing new" in done.stdout
    assert published.server.routes == ["GetDataset"]
    assert published.versions() == before


def test_a_diff_shows_what_a_new_version_would_change_and_lands_nothing(published: Published) -> None:
    published.publish(SECOND, "2025-10-04T09:56:45.120Z")
    try:
        done = published("diff", "clientes")
    finally:
        published.server.versions.pop()

    (table,) = done.document["tables"]
    assert (table["from"], table["to"], table["verdict"]) == (FIRST, SECOND, "accepted")
    assert table["counts"]["updated"] > 0
    assert [path.name for path in (published.lake / "landing" / "clientes").iterdir()] == [FIRST]


def test_no_secret_is_in_the_lake_or_in_what_was_said(published: Published) -> None:
    assert published.done is not None
    secrets = [secret.encode() for secret in (KEY, SIGNATURE)]
    files = [path for path in published.lake.rglob("*") if path.is_file()]
    said = (published.done.stderr + str(published.done.document)).encode()
    assert not [path for path in files for secret in secrets if secret in path.read_bytes()]
    assert not [secret for secret in secrets if secret in said]
