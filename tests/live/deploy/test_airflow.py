"""Runs the DAGs of deploy/airflow with Airflow's `dag.test()`, with the real stages: commands, and a spark-submit.

Airflow takes ten seconds to start, and a stage with its JVM as long, so one process runs as much as possible.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import Project
from servers import airflow
from shop import FIRST, MODELS, SECOND, SNAPSHOTS

from lakehouse.config import load
from lakehouse.errors import ExitCode
from lakehouse.runner.stages import STAGES

REPOSITORY = Path(__file__).parents[3]
SECRET = "canary-of-the-task-4711"
# These options make the JVM start quickly, which dominates such small work.
SUBMIT = (
    f"{REPOSITORY}/.venv/bin/spark-submit --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2"
    " --driver-java-options '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m -Xss4m'"
)
# A stand-in for spark-submit: exits with the code that is the pipeline's name, or `slow`ly after SIGTERM.
SUBMIT_STAND_IN = """#!/bin/bash
echo "found:    what was found"
trap 'echo "came to its end"; exit 0' TERM
while [ "$2" = slow ]; do sleep 0.1; done
exit "$2"
"""
DAGS = """
from datetime import timedelta
from lakehouse_stages import STAGES, pipeline_dag  # Airflow looks for DAGs in files with this word

def dag(name, pipeline, *stages, **options):
    return pipeline_dag(name, pipeline, timedelta(hours=1), stages=stages, **options)

whole = dag("whole", "{folder}/shop/pipeline", *STAGES[:-1])
held = dag("held", "{folder}/held/pipeline", "ingest", "extract")
rejected = dag("rejected", "{folder}/rejected/pipeline", "ingest")
broken = dag("broken", "{folder}/broken/pipeline", "extract")
broken.get_task("extract").retries = 1
stopped = dag("stopped", "{folder}/shop/pipeline", "run")
"""
CODES = (1, 2, 6, 137)
SLOW_DAG = "slow = dag('slow', 'slow', 'gold', timeout=timedelta(seconds=1))\nslow.get_task('gold').retries = 0\n"
ENDING_DAG = "ends_{0} = dag('ends_{0}', '{0}', 'gold')\nends_{0}.get_task('gold').retries = 1\n"


@dataclass(frozen=True)
class Airflow:
    """Airflow with a folder of DAGs, and the environment of its processes."""

    folder: Path
    environ: dict[str, str]

    def start(self, name: str, *dags: str, **more: str) -> subprocess.Popen[bytes]:
        words = [airflow.VENV / "bin/python", Path(__file__).parents[1] / "dag_runner.py", self.folder / f"{name}.json"]
        with (self.folder / f"{name}.log").open("wb") as log:
            trials = [f"trials:{dag}" for dag in dags]
            return subprocess.Popen([*words, *trials], env=self.environ | more, stdout=log, stderr=log)

    def wait_for_dags(self, name: str, process: subprocess.Popen[bytes]) -> dict[str, dict[str, Any]]:
        """Wait for the process and return the results of the DAGs by name."""
        assert process.wait() == 0, self.log(name)[-5000:]
        found = json.loads((self.folder / f"{name}.json").read_text())
        return {dag.partition(":")[2]: each for dag, each in found.items()}

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def dag_log(self, name: str, dag: str) -> str:
        """Return the log of one DAG's tasks, without Airflow's prefix of each line."""
        _, _, after = self.log(name).partition(f"<TaskInstance: {dag}.")
        return re.sub(r"^\S+ \[\w+ *\] ", "", after.partition("Created dag run.")[0], flags=re.MULTILINE)


@pytest.fixture(scope="module")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Prepare Airflow with the DAGs of the repository and those of the tests."""
    folder = tmp_path_factory.mktemp("airflow")
    shutil.copytree(airflow.DAGS, folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    text = DAGS.format(folder=folder) + SLOW_DAG + "".join(ENDING_DAG.format(code) for code in CODES)
    (folder / "dags/trials.py").write_text(text)
    (folder / "ends").write_text(SUBMIT_STAND_IN)
    (folder / "ends").chmod(0o755)
    airflow.airflow_bin()
    environ = airflow.settings(folder / "home", folder / "dags")
    environ |= {"LAKEHOUSE_HOME": str(REPOSITORY), "SHOP_PASSWORD": SECRET, "XDG_CACHE_HOME": str(folder / "cache")}
    environ.pop("LAKEHOUSE_ENGINE", None)
    airflow.migrate_database(environ)
    yield Airflow(folder, environ)
    subprocess.run([sys.executable, "-m", "lakehouse", "engine", "stop", "--force"], env=environ, check=True)


@pytest.fixture(scope="module")
def shop(airflow_home: Airflow) -> Project:
    project = Project(airflow_home.folder / "shop", models=MODELS)
    project.snapshot(FIRST, items=SNAPSHOTS[FIRST])
    return project


@pytest.fixture(scope="module")
def trials(airflow_home: Airflow, shop: Project) -> dict[str, dict[str, Any]]:
    """Return the results of a run over all stages, and of three runs that must fail."""
    for name, content in (("held", "id,qty,note\n"), ("rejected", 'id,qty,note\na,1,"x\n')):
        project = Project(airflow_home.folder / name)
        project.snapshot(FIRST, items=content)
        assert project("extract").code == 0
    broken = Project(airflow_home.folder / "broken", source_settings={"type": "files", "path": "/proc/self"})
    broken.configure(file="mem")  # a file that cannot be read
    return airflow_home.wait_for_dags("trials", airflow_home.start("trials", "whole", "held", "rejected", "broken"))


def test_every_stage_is_run_and_its_output_is_in_the_task_log(
    airflow_home: Airflow, shop: Project, trials: dict[str, dict[str, Any]]
) -> None:
    whole = trials["whole"]
    assert whole["state"] == "success"
    assert {stage: whole["tasks"][stage] for stage in STAGES} == {stage: ["success", 1] for stage in STAGES}
    assert whole["events"] == [f"lakehouse://whole/{layer}" for layer in ("bronze", "silver", "gold")]
    assert shop.rows("gold/notes") == [{"note": "x", "qty": 3}, {"note": "y", "qty": 7}, {"note": "z", "qty": 5}]
    output = airflow_home.dag_log("trials", "whole")
    for stage, name in (("extract", "items"), ("ingest", "items"), ("bronze", "items"), ("gold", "gold.notes")):
        assert re.search(rf"^{stage} +{name} .* 0*\d+\.\d s", output, re.MULTILINE), stage  # its progress line
    assert "INFO SparkContext" not in output


def test_all_stages_use_one_jvm_after_the_other(airflow_home: Airflow, trials: dict[str, dict[str, Any]]) -> None:
    output = airflow_home.dag_log("trials", "whole")

    assert output.count("started a Spark engine for later commands") == 1


@pytest.mark.parametrize(
    ("dag", "words", "detail"),
    [
        ("held", "ended with exit code 4: a snapshot is held for approval", "min_rows"),
        ("rejected", "ended with exit code 5: data was rejected, or a check failed", "quote"),
    ],
)
def test_a_failure_that_needs_a_decision_is_not_retried_and_has_its_message(
    airflow_home: Airflow, trials: dict[str, dict[str, Any]], dag: str, words: str, detail: str
) -> None:
    assert (trials[dag]["state"], trials[dag]["tasks"]["ingest"]) == ("failed", ["failed", 1])
    raised = airflow_home.dag_log("trials", dag).partition("AirflowFailException: ")[2]
    assert words in raised and detail in raised


def test_later_stages_run_after_a_failed_stage_and_the_run_fails(trials: dict[str, dict[str, Any]]) -> None:
    tasks = {name: state for name, (state, _) in trials["held"]["tasks"].items()}

    assert tasks == {"ingest": "failed", "extract": "success", "verdict": "upstream_failed"}
    assert trials["held"]["state"] == "failed"


def test_a_transient_failure_is_retried(airflow_home: Airflow, trials: dict[str, dict[str, Any]]) -> None:
    assert (trials["broken"]["state"], trials["broken"]["tasks"]["extract"]) == ("failed", ["failed", 2])
    output = airflow_home.dag_log("trials", "broken")
    assert output.count("ended with exit code 3: storage, memory or a server failed") >= 2
    assert "Input/output error" in output.partition("AirflowException: ")[2]


@pytest.fixture(scope="module")
def endings(airflow_home: Airflow) -> dict[str, dict[str, Any]]:
    """Return the results of stages that a stand-in for spark-submit ran."""
    names = [f"ends_{code}" for code in CODES]
    given = {"LAKEHOUSE_SPARK_SUBMIT": str(airflow_home.folder / "ends")}
    return airflow_home.wait_for_dags("endings", airflow_home.start("endings", "slow", *names, **given))


def test_only_exit_codes_of_transient_failures_are_retried(
    airflow_home: Airflow, endings: dict[str, dict[str, Any]]
) -> None:
    assert {name: each["tasks"]["gold"] for name, each in endings.items() if name != "slow"} == {
        "ends_1": ["failed", 1],
        "ends_2": ["failed", 1],
        "ends_6": ["failed", 2],
        "ends_137": ["failed", 2],
    }
    assert "ended with exit code 137: it was killed" in airflow_home.log("endings")
    assert not any(each["events"] for each in endings.values())


def test_a_stage_that_times_out_is_asked_to_stop_and_its_last_output_is_logged(
    airflow_home: Airflow, endings: dict[str, dict[str, Any]]
) -> None:
    output = airflow_home.dag_log("endings", "slow")

    assert endings["slow"]["tasks"]["gold"] == ["failed", 1]
    asked, ended, raised = (output.index(words) for words in ("stopping gold", "came to its end", "AirflowTaskTimeout"))
    assert asked < ended < raised


def test_a_stopped_task_lets_its_stage_end_in_order(
    airflow_home: Airflow, shop: Project, trials: dict[str, dict[str, Any]]
) -> None:
    """Under spark-submit the signal must reach the Python process and not the JVM above it."""
    records = shop.lake / "_state/runs"
    before = set(records.iterdir())
    shop.snapshot(SECOND, items=SNAPSHOTS[SECOND])
    process = airflow_home.start("stopped", "stopped", LAKEHOUSE_SPARK_SUBMIT=SUBMIT)
    while not set(records.iterdir()) - before:  # written when the stage has started
        assert process.poll() is None, airflow_home.log("stopped")[-5000:]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)

    assert airflow_home.wait_for_dags("stopped", process)["stopped"]["tasks"]["run"] == ["success", 1]
    output = airflow_home.dag_log("stopped", "stopped")
    assert "stopping run" in output
    assert re.search(r"exit code 0, stopped before \w+", output)


PARSE_PROGRAM = """
import json, os, sys
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag
folder = Path(sys.argv[1])
bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="repository")
import lakehouse_stages
os.environ["AIRFLOW__CORE__FERNET_KEY"] = os.environ["_AIRFLOW_X"] = "x"
print(json.dumps({
    "dags": {name: [task.task_id for task in dag.tasks] for name, dag in bag.dags.items()},
    "errors": bag.import_errors,
    "heavy": [name for name in ("pyspark", "lakehouse", "pandas") if name in sys.modules],
    "environment": sorted(lakehouse_stages.environment()),
    "ended": {str(code): words for code, words in lakehouse_stages.EXIT_CODES.items()},
    "every": {name: dag.schedule.total_seconds() for name, dag in bag.dags.items()},
    "alone": [dag.catchup is False and dag.max_active_runs == 1 for dag in bag.dags.values()],
    "patience": [[t.retries, t.retry_exponential_backoff, t.execution_timeout.total_seconds()]
                 for t in bag.dags["tesouro"].tasks],
}))
"""


def test_the_shipped_dags_load_without_spark_and_keep_airflows_secrets_from_stages(
    airflow_home: Airflow, trials: dict[str, dict[str, Any]]
) -> None:
    command = [airflow.VENV / "bin/python", "-c", PARSE_PROGRAM, airflow.DAGS]
    done = subprocess.run(command, env=airflow_home.environ, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])

    assert (found["errors"], found["heavy"], found["alone"]) == ({}, [], [True, True])
    assert found["dags"] == {
        "loyalty": [*STAGES, "verdict"],
        "tesouro": [*STAGES, "publish", "verdict"],
    }
    assert found["every"] == {"loyalty": 6 * 3600, "tesouro": 600}
    for file in (REPOSITORY / "conf").glob("*/pipeline.yml"):
        every = load(file, {"PG_URL": "postgresql://host/tesouro"}).schedule.every
        assert found["every"][file.parent.name] == every.total_seconds()
    assert found["patience"][0] == [3, 2, 3600]
    assert set(found["ended"]) == {str(int(code)) for code in ExitCode if code}
    assert "SHOP_PASSWORD" in found["environment"] and not [n for n in found["environment"] if "AIRFLOW" in n]
    assert SECRET not in "".join(log.read_text(errors="replace") for log in airflow_home.folder.glob("*.log"))
