"""Runs the second system from end to end with conf/tesouro: JSON to the lake, to PostgreSQL, to Kafka, to S3.

There are three micro-batches, with new, revised and withdrawn quotes and invalid rows; in one of them the publisher is
killed. After each, `verify` compares every layer with the previous one, PostgreSQL with gold, and S3 with PostgreSQL.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chain import BUCKET, Chain
from generate_tesouro import Snapshot, generate
from helpers import lakehouse
from pyspark.sql import SparkSession
from servers import s3

from lakehouse.verify import s3_objects

REPOSITORY = Path(__file__).parents[3]
SHARED = "../../deploy/connect/"
CHECKS = 8  # of I6: six tables in PostgreSQL, two topics on S3
PUBLISHED = [f"dadostesouro{group}{layer}" for group in ("ipca", "pre") for layer in ("", "_silver", "_gold")]


class System:
    """The shipped pipeline with the servers of the test. `next_snapshots` are not in the source yet."""

    def __init__(self, folder: Path, chain: Chain) -> None:
        self.chain, self.source, self.pipeline = chain, folder / "source", folder / "conf" / "tesouro"
        self.source.mkdir()
        shutil.copytree(REPOSITORY / "conf" / "tesouro", self.pipeline)
        text = (self.pipeline / "pipeline.yml").read_text()
        assert text.count(SHARED) == 2
        # The same connectors, but the sink writes every second, so that a test need not wait for a minute.
        (self.pipeline / "pipeline.yml").write_text(text.replace(SHARED, f"{chain.folder}/"))
        self.next_snapshots: list[Snapshot] = generate(folder / "made", seed=3, days=15, snapshots=3)

    def __call__(self, verb: str, *arguments: str) -> Any:
        return lakehouse(verb, *arguments, str(self.pipeline))

    def add_next_snapshot(self) -> None:
        snapshot = self.next_snapshots.pop(0)
        snapshot.folder.rename(self.source / snapshot.folder.name)

    def run(self) -> None:
        done = self("run")
        assert done.code == 0, done.document

    def passed_checks(self) -> dict[str, int]:
        """Assert that no check of `verify` fails; return the number of checks of each invariant."""
        result = self("verify")
        failed = [check for check in result.document["checks"] if check["result"] == "failed"]
        assert failed == [], failed
        assert result.code == 0, result.document
        made = [check["invariant"] for check in result.document["checks"] if check["result"] == "holds"]
        return {invariant: made.count(invariant) for invariant in made}

    def counts(self) -> dict[str, int]:
        return {table: self.chain.database.execute(f"SELECT count(*) FROM {table}")[0][0] for table in PUBLISHED}


@pytest.fixture(scope="module")
def system(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("system")
    chain = Chain(folder)
    chain.write_connector_files()
    own = System(folder, chain)

    def first() -> None:
        patch.setenv("PG_URL", chain.database.url)
        own.add_next_snapshot()
        own.run()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_objects, "_POLL_SECONDS", 0.5)
        places = {"LAKE_ROOT": str(folder / "lake"), "TESOURO_SOURCE": str(own.source), "S3_BUCKET": BUCKET}
        for name, value in places.items():
            patch.setenv(name, value)
        try:
            chain.start(first)
            for name, value in (
                s3.CREDENTIALS | {"AWS_ENDPOINT_URL": chain.s3, "CONNECT_URL": chain.connect.address}
            ).items():
                patch.setenv(name, value)
            yield own
        finally:
            chain.stop()


def test_the_first_snapshot_reaches_every_layer_postgresql_and_s3(system: System) -> None:
    applied = system("connect", "apply")
    assert applied.code == 0, applied.document
    assert system.passed_checks()["I6"] == CHECKS
    counts = system.counts()
    assert all(counts.values()), counts
    assert counts["dadostesouroipca_silver"] > counts["dadostesouroipca_gold"]


def test_new_revised_and_withdrawn_quotes_arrive_as_changes(system: System) -> None:
    before = len(system.chain.lines("dadostesouroipca_gold"))
    system.add_next_snapshot()
    system.run()
    assert system.passed_checks()["I6"] == CHECKS
    added = len(system.chain.lines("dadostesouroipca_gold")) - before
    assert 0 < added < before, "the changes, not all rows again"


def test_the_next_run_repairs_a_publish_that_was_killed(system: System) -> None:
    system.add_next_snapshot()
    for stage in ("extract", "ingest", "bronze", "silver", "gold"):
        assert system(stage).code == 0
    command = [sys.executable, REPOSITORY / "tests/lake/crash_points.py", "published-half", "publish", system.pipeline]
    killed = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    system.run()
    assert system.passed_checks()["I6"] == CHECKS
    assert system("run").document["nothing_new"]
