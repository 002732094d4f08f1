"""The DAGs of deploy/airflow, run by Airflow itself: `dag.test()`, with the real stages under a real spark-submit.

Airflow's start alone takes ten seconds, and a stage's JVM and Spark as long: one process runs what can be run together.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
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
# Of small work a JVM's start is most: this one is quick to start.
SUBMIT = (
    f"{REPOSITORY}/.venv/bin/spark-submit --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2"
    " --driver-java-options '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m -Xss4m'"
)
# Ends with the code that the pipeline is called by, as spark-submit does with that of a job; or when it is asked to.
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
refused = dag("refused", "{folder}/refused/pipeline", "ingest")
broken = dag("broken", "{folder}/broken/pipeline", "extract")
broken.get_task("extract").retries = 1
stopped = dag("stopped", "{folder}/shop/pipeline", "run")
"""
CODES = (1, 2, 6, 137)
SLOW_DAG = "slow = dag('slow', 'slow', 'gold', timeout=timedelta(seconds=1))\nslow.get_task('gold').retries = 0\n"
ENDING_DAG = "ends_{0} = dag('ends_{0}', '{0}', 'gold')\nends_{0}.get_task('gold').retries = 1\n"


@dataclass(frozen=True)
class Airflow:
    """Airflow with a folder of DAGs, and what its processes get told."""

    folder: Path
    environ: dict[str, str]

    def start(self, name: str, *dags: str, **more: str) -> subprocess.Popen[bytes]:
        words = [airflow.VENV / "bin/python", Path(__file__).parents[1] / "dag_runner.py", self.folder / f"{name}.json"]
        with (self.folder / f"{name}.log").open("wb") as log:
            trials = [f"trials:{dag}" for dag in dags]
            return subprocess.Popen([*words, *trials], env=self.environ | more, stdout=log, stderr=log)

    def wait_for_dags(self, name: str, process: subprocess.Popen[bytes]) -> dict[str, dict[str, Any]]:
        """What became of the DAGs, by name; and what the log has of each."""
        assert process.wait() == 0, self.log(name)[-5000:]
        found = json.loads((self.folder / f"{name}.json").read_text())
        return {dag.partition(":")[2]: each for dag, each in found.items()}

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def dag_log(self, name: str, dag: str) -> str:
        """What a log has of one DAG's tasks, without what Airflow puts before each line."""
        _, _, after = self.log(name).partition(f"<TaskInstance: {dag}.")
        return re.sub(r"^\S+ \[\w+ *\] ", "", after.partition("Created dag run.")[0], flags=re.MULTILINE)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """Airflow, with the DAGs that the repository has and those of the tests."""
    folder = tmp_path_factory.mktemp("airflow")
    shutil.copytree(airflow.DAGS, folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    text = DAGS.format(folder=folder) + SLOW_DAG + "".join(ENDING_DAG.format(code) for code in CODES)
    (folder / "dags/trials.py").write_text(text)
    (folder / "ends").write_text(SUBMIT_STAND_IN)
    (folder / "ends").chmod(0o755)
    airflow.airflow_bin()
    environ = airflow.settings(folder / "home", folder / "dags")
    environ |= {"LAKEHOUSE_HOME": str(REPOSITORY), "LAKEHOUSE_SPARK_SUBMIT": SUBMIT, "SHOP_PASSWORD": SECRET}
    airflow.migrate_database(environ)
    return Airflow(folder, environ)


@pytest.fixture(scope="module")
def shop(own: Airflow) -> Project:
    project = Project(own.folder / "shop", models=MODELS)
    project.snapshot(FIRST, items=SNAPSHOTS[FIRST])
    return project


@pytest.fixture(scope="module")
def trials(own: Airflow, shop: Project) -> dict[str, dict[str, Any]]:
    """What became of a run over all stages, and of three that cannot end well."""
    for name, content in (("held", "id,qty,note\n"), ("refused", 'id,qty,note\na,1,"x\n')):
        project = Project(own.folder / name)
        project.snapshot(FIRST, items=content)
        assert project("extract").code == 0
    broken = Project(own.folder / "broken", source_settings={"type": "files", "path": "/proc/self"})
    broken.configure(file="mem")  # a file that the system fails to read
    return own.wait_for_dags("trials", own.start("trials", "whole", "held", "refused", "broken"))


def test_every_stage_is_run_and_tells_in_the_tasks_log_what_it_did(
    own: Airflow, shop: Project, trials: dict[str, dict[str, Any]]
) -> None:
    whole = trials["whole"]
    assert whole["state"] == "success"
    assert {stage: whole["tasks"][stage] for stage in STAGES} == {stage: ["success", 1] for stage in STAGES}
    assert whole["events"] == [f"lakehouse://whole/{layer}" for layer in ("bronze", "silver", "gold")]
    assert shop.rows("gold/notes") == [{"note": "x", "qty": 3}, {"note": "y", "qty": 7}, {"note": "z", "qty": 5}]
    said = own.dag_log("trials", "whole")
    for stage, name in (("extract", "items"), ("ingest", "items"), ("bronze", "items"), ("gold", "gold.notes")):
        assert re.search(rf"^{stage} +{name} .* 0*\d+\.\d s", said, re.MULTILINE), stage  # its line of progress
    assert "INFO SparkContext" not in said


@pytest.mark.parametrize(
    ("dag", "words", "detail"),
    [
        ("held", "ended with exit code 4: a snapshot is held for approval", "min_rows"),
        ("refused", "ended with exit code 5: data was refused, or a check failed", "quote"),
    ],
)
def test_what_asks_for_a_person_fails_at_once_with_its_words(
    own: Airflow, trials: dict[str, dict[str, Any]], dag: str, words: str, detail: str
) -> None:
    assert (trials[dag]["state"], trials[dag]["tasks"]["ingest"]) == ("failed", ["failed", 1])
    raised = own.dag_log("trials", dag).partition("AirflowFailException: ")[2]
    assert words in raised and detail in raised


def test_after_a_stage_that_failed_the_others_are_run_and_the_run_fails(trials: dict[str, dict[str, Any]]) -> None:
    tasks = {name: state for name, (state, _) in trials["held"]["tasks"].items()}

    assert tasks == {"ingest": "failed", "extract": "success", "verdict": "upstream_failed"}
    assert trials["held"]["state"] == "failed"


def test_what_may_be_well_in_a_moment_is_tried_again(own: Airflow, trials: dict[str, dict[str, Any]]) -> None:
    assert (trials["broken"]["state"], trials["broken"]["tasks"]["extract"]) == ("failed", ["failed", 2])
    said = own.dag_log("trials", "broken")
    assert said.count("ended with exit code 3: storage, memory or a server failed") >= 2
    assert "Input/output error" in said.partition("AirflowException: ")[2]


@pytest.fixture(scope="module")
def endings(own: Airflow) -> dict[str, dict[str, Any]]:
    """What became of stages that a stand-in for spark-submit ended."""
    names = [f"ends_{code}" for code in CODES]
    given = {"LAKEHOUSE_SPARK_SUBMIT": str(own.folder / "ends")}
    return own.wait_for_dags("endings", own.start("endings", "slow", *names, **given))


def test_every_other_exit_code_is_tried_again_where_that_may_help(
    own: Airflow, endings: dict[str, dict[str, Any]]
) -> None:
    assert {name: each["tasks"]["gold"] for name, each in endings.items() if name != "slow"} == {
        "ends_1": ["failed", 1],
        "ends_2": ["failed", 1],
        "ends_6": ["failed", 2],
        "ends_137": ["failed", 2],
    }
    assert "ended with exit code 137: it was killed" in own.log("endings")
    assert not any(each["events"] for each in endings.values())


def test_a_stage_that_takes_too_long_is_asked_to_end_and_its_last_words_are_heard(
    own: Airflow, endings: dict[str, dict[str, Any]]
) -> None:
    said = own.dag_log("endings", "slow")

    assert endings["slow"]["tasks"]["gold"] == ["failed", 1]
    asked, ended, raised = (
        said.index(words) for words in ("asking gold to end", "came to its end", "AirflowTaskTimeout")
    )
    assert asked < ended < raised


def test_a_task_that_is_told_to_stop_lets_its_stage_come_to_an_end(
    own: Airflow, shop: Project, trials: dict[str, dict[str, Any]]
) -> None:
    records = shop.lake / "_state/runs"
    before = set(records.iterdir())
    shop.snapshot(SECOND, items=SNAPSHOTS[SECOND])
    process = own.start("stopped", "stopped")
    while not set(records.iterdir()) - before:  # the stage's record, when it has begun
        assert process.poll() is None, own.log("stopped")[-5000:]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)

    assert own.wait_for_dags("stopped", process)["stopped"]["tasks"]["run"] == ["success", 1]
    said = own.dag_log("stopped", "stopped")
    assert "asking run to end" in said
    assert re.search(r"exit code 0, stopped before \w+", said)


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
    "ended": {str(code): words for code, words in lakehouse_stages.ENDED.items()},
    "every": {name: dag.schedule.total_seconds() for name, dag in bag.dags.items()},
    "alone": [dag.catchup is False and dag.max_active_runs == 1 for dag in bag.dags.values()],
    "patience": [[t.retries, t.retry_exponential_backoff, t.execution_timeout.total_seconds()]
                 for t in bag.dags["tesouro"].tasks],
}))
"""


def test_the_repositorys_dags_are_found_need_no_spark_and_keep_airflows_secrets_to_it(
    own: Airflow, trials: dict[str, dict[str, Any]]
) -> None:
    command = [airflow.VENV / "bin/python", "-c", PARSE_PROGRAM, airflow.DAGS]
    done = subprocess.run(command, env=own.environ, capture_output=True, text=True, check=True)
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
    assert SECRET not in "".join(log.read_text(errors="replace") for log in own.folder.glob("*.log"))
