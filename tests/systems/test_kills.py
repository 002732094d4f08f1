"""Commands in processes of their own: killed, stopped, and two at once.

After SIGKILL anywhere, the next run gives the result of an uninterrupted one.
tests/lake interrupts commands at other points, in its own process, and `make crash` at all of them, with more kills.
Here a process is killed, without any clean-up.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import Project
from pyspark.sql import SparkSession
from shop import assert_completed, lake_content, shop_to_interrupt, uninterrupted_shop, waiting_shop

pytestmark = pytest.mark.usefixtures("spark")

CRASH_POINTS = Path(__file__).parents[1] / "lake" / "crash_points.py"
TOO_LARGE = (
    "SELECT i.note AS note, hex(count_min_sketch(i.qty, 1e-300D, 0.99D, 1)) AS sketch FROM silver.items AS i "
    "GROUP BY i.note"
)


@pytest.fixture(scope="module")
def waiting(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One snapshot is in every layer, and two more are in the source."""
    return waiting_shop(tmp_path_factory.mktemp("waiting"))


@pytest.fixture(scope="module")
def uninterrupted(waiting: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return uninterrupted_shop(waiting, tmp_path_factory.mktemp("uninterrupted"))


def start(point: str, project: Project, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(CRASH_POINTS), point, "run", str(project.pipeline), *arguments]
    return subprocess.Popen(command, cwd=project.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("point", ["landing-half-copied", "bronze-merged"])
def test_after_a_kill_anywhere_the_next_run_gives_the_same_result(
    waiting: Project, uninterrupted: Project, tmp_path: Path, point: str
) -> None:
    shop = shop_to_interrupt(waiting, tmp_path / "shop", point)
    killed = start(point, shop)
    _, stderr = killed.communicate(timeout=200)
    assert killed.returncode == -signal.SIGKILL, stderr
    assert_completed(shop, uninterrupted)


def test_a_command_whose_jvm_runs_out_of_memory_ends_with_3_and_the_next_run_completes(
    waiting: Project, uninterrupted: Project, tmp_path: Path
) -> None:
    """An error of almost nothing makes a sketch larger than any memory: the JVM itself throws OutOfMemoryError."""
    shop = waiting.copy(tmp_path / "shop")
    shop.models = {**shop.models, "gold.sketch": (TOO_LARGE, {})}
    shop.configure()
    command = [sys.executable, "-m", "lakehouse", "run", str(shop.pipeline), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)

    assert ended.returncode == 3, ended
    assert "give Spark more memory (spark.driver.memory)" in ended.stdout + ended.stderr
    (shop.pipeline / "gold/sketch.sql").unlink()
    shop.models = {name: model for name, model in shop.models.items() if name != "gold.sketch"}
    shop.configure()
    assert shop.run().code == 0
    assert lake_content(shop) == lake_content(uninterrupted)


def test_a_stop_request_lets_the_stage_finish_and_the_next_run_does_the_rest(
    waiting: Project, uninterrupted: Project, tmp_path: Path
) -> None:
    """PySpark handles Ctrl-C itself when a session starts; the run handles it again afterwards."""
    shop = waiting.copy(tmp_path / "shop")
    ended = start("stop-by-SIGINT", shop, "--json")
    out, stderr = ended.communicate(timeout=200)

    assert ended.returncode == 0, stderr
    document = json.loads(out)
    assert document["stopped_before"] == "bronze"
    # The request came during the second snapshot; the third one was ingested too, so the stage finished.
    assert [(o["stage"], o["status"]) for o in document["outcomes"]] == [
        ("extract", "landed"),
        ("ingest", "accepted"),
        ("ingest", "accepted"),
    ]
    assert "stopped, as asked" in stderr
    assert not (shop.lake / "_state/clean.json").exists()
    assert shop.run().code == 0
    assert lake_content(shop) == lake_content(uninterrupted)


def test_a_second_run_ends_at_once_and_names_the_first(uninterrupted: Project, tmp_path: Path) -> None:
    shop = uninterrupted.copy(tmp_path / "shop")
    (shop.lake / "_state/clean.json").unlink()
    first = start("holding", shop)
    try:
        assert first.stdout and first.stdout.readline() == "holding\n"
        before = shop.versions()
        for verb in (("run",), ("ingest",), ("approve", "items", "20250104_000000")):
            refused = shop(*verb)
            assert refused.code == 6
            assert f"process {first.pid} (run, " in refused.error["found"]
        assert shop.versions() == before
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate(timeout=60)
    assert shop.run().code == 0  # a dead run has no lock
