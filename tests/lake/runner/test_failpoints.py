"""Commands are broken off at failpoints: a part of `make crash`, and the faults that it found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from crash.cases import Case, choose
from crash.scenarios import SCENARIOS
from crash.warm import Unbroken, break_off, run_unbroken
from pyspark.sql import SparkSession

SEED = int(os.environ.get("LAKEHOUSE_SEED", "1"))
CASES = 6


@pytest.fixture(scope="module")
def unbroken(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    return run_unbroken(SCENARIOS["run"], tmp_path_factory.mktemp("run"))


@pytest.mark.timeout(900)  # a dozen runs
def test_a_run_broken_off_at_points_by_chance_is_completed_by_the_next_one(unbroken: Unbroken, tmp_path: Path) -> None:
    every = unbroken.trace.cases("run")
    one_of_each = [case for case in choose(every, 0, SEED) if case.name != "before_rule_results"]
    chosen = choose(one_of_each[SEED % 3 :: 3], 0, SEED)[:CASES]
    faults = {str(case): break_off(unbroken, case, tmp_path / "case").faults for case in chosen}
    assert {case: found for case, found in faults.items() if found} == {}


def test_results_of_rules_that_a_killed_run_did_not_record_are_recorded_by_the_next_one(
    unbroken: Unbroken, tmp_path: Path
) -> None:
    """The models are current then, so that no rule is evaluated; the commits of the models have the results."""
    done = break_off(unbroken, Case("run", "before_rule_results", ""), tmp_path / "case")
    assert done.faults == []
