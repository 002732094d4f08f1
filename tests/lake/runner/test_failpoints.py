"""Commands are broken off at failpoints: a part of `make crash`, and the faults that it found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from crash.cases import Case, choose
from crash.scenarios import SCENARIOS
from crash.warm import Unbroken, break_off, run_unbroken
from pyspark.sql import SparkSession

from lakehouse.failpoints import Interruption, handled_by

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


def test_a_run_killed_while_it_writes_a_file_of_the_ledger_leaves_nothing_that_vacuum_keeps(
    unbroken: Unbroken, tmp_path: Path
) -> None:
    """VACUUM takes a file for hidden whose name begins with a dot, as that of a partial file does."""
    project = unbroken.prepared.copy(tmp_path / "case")

    def end_there(name: str, where: str) -> None:
        if "/raw/ledger/" in where and "-c000" in where:
            raise Interruption(name)

    with handled_by(end_there), pytest.raises(Interruption):
        project.run()
    assert [path.name for path in (project.lake / "raw/ledger").iterdir() if path.name.startswith(".")] == []
    assert [row["sequence"] for row in project.ledger("items")] == [1, 2]
