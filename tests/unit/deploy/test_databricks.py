"""Compares the Databricks bundle with Databricks' own classes and with the commands of this project.

The bundle has never been run: docs/guide/cluster.md reports that.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from databricks.bundles.jobs import Job

from lakehouse.cli.app import app
from lakehouse.config import load
from lakehouse.runner.stages import STAGES

REPOSITORY = Path(__file__).parents[3]
FILE = REPOSITORY / "deploy/databricks/databricks.yml"
BUNDLE: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
JOB: dict[str, Any] = BUNDLE["resources"]["jobs"]["loyalty"]
TASKS: dict[str, dict[str, Any]] = {task["task_key"]: task for task in JOB["tasks"]}
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def filled_in(text: str) -> str:
    """Replace the variables of the bundle by their defaults, on a workspace whose files are this repository."""
    known = {f"var.{name}": str(each.get("default", "given")) for name, each in BUNDLE["variables"].items()}
    known |= {"workspace.file_path": str(REPOSITORY), "bundle.target": "dev", "bundle.name": "lakehouse"}
    return re.sub(r"\$\{([\w.]+)\}", lambda match: known[match[1]], text)


def test_databricks_knows_every_field_of_the_job() -> None:
    job = Job.from_dict(yaml.safe_load(filled_in(yaml.safe_dump(JOB))))

    assert [task.task_key for task in job.tasks] == [*STAGES, "run"]


def test_every_stage_is_a_task_after_the_one_before_it() -> None:
    assert [[each["task_key"] for each in TASKS[stage].get("depends_on", [])] for stage in STAGES] == [
        [],
        *([stage] for stage in STAGES[:-1]),
    ]
    # The state of a job is that of its last task, which depends on all others.
    assert ([each["task_key"] for each in TASKS["run"]["depends_on"]], "run_if" in TASKS["run"]) == ([*STAGES], False)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_runs_a_job_with_arguments_that_its_command_accepts(name: str) -> None:
    python = TASKS[name]["spark_python_task"]
    file = (FILE.parent / python["python_file"]).resolve()
    assert file == REPOSITORY / "jobs" / f"{name}.py"
    assert f'main(["{name}", *sys.argv[1:]])' in file.read_text()

    words = [filled_in(word) for word in python["parameters"]]

    assert COMMANDS[name].make_context(name, words).params["pipeline"] == str(REPOSITORY / "conf/loyalty")


def test_the_job_has_the_schedule_of_the_pipeline() -> None:
    every = load(REPOSITORY / "conf/loyalty", {}).schedule.every
    hours = int(every.total_seconds() // 3600)

    assert JOB["schedule"]["quartz_cron_expression"] == f"0 0 0/{hours} * * ?"


def test_the_bundle_installs_every_dependency_except_spark() -> None:
    assert {(FILE.parent / path).resolve() for path in BUNDLE["sync"]["paths"]} == {
        REPOSITORY / name for name in ("lakehouse", "jobs", "conf")
    }
    text = (REPOSITORY / "setup.py").read_text()
    required = re.findall(r'^ {8}"([a-z-]+[<>=.,\d]+)",', text.partition("extras_require")[0], re.MULTILINE)
    in_runtime = ("pyspark", "delta-spark", "pandas", "pyarrow")
    wanted = {each for each in required if not each.startswith(in_runtime)}
    for name, task in TASKS.items():
        assert {library["pypi"]["package"] for library in task["libraries"]} == wanted, name


def test_secrets_come_from_a_secret_scope() -> None:
    variables = JOB["job_clusters"][0]["new_cluster"]["spark_env_vars"]
    secret = {name: value for name, value in variables.items() if name.startswith("KAGGLE_")}

    assert secret
    assert all(value.startswith("{{secrets/${var.secret_scope}/") for value in secret.values())


def test_every_variable_is_declared_and_used() -> None:
    used = set(re.findall(r"\$\{var\.(\w+)\}", FILE.read_text(encoding="utf-8")))

    assert used == BUNDLE["variables"].keys()
    assert {name: target.get("mode") for name, target in BUNDLE["targets"].items()} == {
        "dev": "development",
        "prod": "production",
    }
