"""After SIGKILL at every point of a command, the next one gives the result of an uninterrupted one.

tests/lake interrupts commands at the same points in its own process. Here a process is killed, without any clean-up.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import Project
from pyspark.sql import SparkSession
from shop import INTERRUPTIONS, assert_completed, shop_to_interrupt, uninterrupted_shop, waiting_shop

pytestmark = pytest.mark.usefixtures("spark")

CRASH_POINTS = Path(__file__).parents[1] / "lake" / "crash_points.py"


@pytest.fixture(scope="module")
def waiting(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One snapshot is in every layer, and two more are in the source."""
    return waiting_shop(tmp_path_factory.mktemp("waiting"))


@pytest.fixture(scope="module")
def uninterrupted(waiting: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return uninterrupted_shop(waiting, tmp_path_factory.mktemp("uninterrupted"))


# tests/lake/runner/test_crashes.py kills at "landing-half-copied" and "bronze-merged".
@pytest.mark.parametrize("point", INTERRUPTIONS)
def test_after_a_kill_anywhere_the_next_run_gives_the_same_result(
    waiting: Project, uninterrupted: Project, tmp_path: Path, point: str
) -> None:
    shop = shop_to_interrupt(waiting, tmp_path / "shop", point)
    command = [sys.executable, str(CRASH_POINTS), point, "run", str(shop.pipeline)]
    killed = subprocess.run(command, cwd=shop.folder, text=True, capture_output=True, timeout=200, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert_completed(shop, uninterrupted)
