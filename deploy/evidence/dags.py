"""Runs a DAG of deploy/airflow under a real Airflow on a free port, and reports on its runs.

with running_airflow("tesouro", folder, "a first snapshot", PG_URL=...) as dag:
    dag.wait_for_runs()                # waits for the end of the scheduled run, and of any other
    dag.trigger("a second snapshot")
    dag.wait_for_runs()
    dag.summary(), dag.log(), dag.take_picture(to)
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pages import REPOSITORY, markdown_table
from servers import airflow

_POLL_INTERVAL, _TIMEOUT = 1.0, 1800.0  # seconds between two requests, and for all runs
# Log lines of Spark before a stage starts, and of the download of its packages.
_SPARK_NOISE = re.compile(r"WARNING: |Ivy |The jars |\S+#\S+ added|\t|Using Spark|\d\d/\d\d/\d\d ")
# These options make the JVM start quickly, which dominates such small work.
SUBMIT = (
    f"{REPOSITORY}/.venv/bin/spark-submit --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2"
    " --driver-java-options '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m -Xss4m'"
)


@contextmanager
def running_airflow(name: str, folder: Path, about: str, **environ: str) -> Iterator[Dag]:
    """Run Airflow with this DAG only, which is scheduled immediately.

    Args:
        name: The name of the DAG.
        folder: A folder for Airflow's files.
        about: The title of the first run.
        environ: The environment of the stages.
    """
    dags = folder / "dags"
    dags.mkdir()
    for file in ("lakehouse_stages.py", f"{name}.py"):
        shutil.copy(airflow.DAGS / file, dags)
    given = {"LAKEHOUSE_HOME": str(REPOSITORY), "LAKEHOUSE_SPARK_SUBMIT": SUBMIT, **environ}
    given["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] = "false"
    with airflow.standalone(folder / "airflow", dags, **given) as url:
        yield Dag(name, url, about)


class Dag:
    """A DAG in Airflow, through its REST API."""

    def __init__(self, name: str, url: str, about: str) -> None:
        self.name, self.url, self._first_title = name, url, about
        self._titles: dict[str, str] = {}  # of triggered runs
        self._headers = {"Content-Type": "application/json"}
        self._headers["Authorization"] = f"Bearer {self._call('auth/token')['access_token']}"

    def trigger(self, about: str) -> None:
        """Trigger a run with this title."""
        run = self._call(f"api/v2/dags/{self.name}/dagRuns", {"logical_date": None})
        self._titles[run["dag_run_id"]] = about

    def wait_for_runs(self) -> None:
        """Wait until there is a run and all runs have ended."""
        deadline = time.monotonic() + _TIMEOUT
        while not (runs := self._runs()) or any(run["state"] in ("queued", "running") for run in runs):
            if time.monotonic() > deadline:
                raise SystemExit(f"the runs of {self.name} have not ended: {[run['state'] for run in runs]}")
            time.sleep(_POLL_INTERVAL)
        print(f"{self.name}: {', '.join(run['state'] for run in runs)}", flush=True)

    def summary(self) -> str:
        """Return the state of each task of each run."""
        parts = []
        for run in self._runs():
            lines = [(t["task_id"], t["state"], t["try_number"], f"{t['duration'] or 0:.1f}") for t in self._tasks(run)]
            parts.append(f"## {self._title(run)}: {run['state']}")
            parts.append(markdown_table(("task", "state", "try", "seconds"), lines))
        return "\n\n".join(parts)

    def log(self) -> str:
        """Return the output of the stages from the tasks' logs in Airflow."""
        parts = []
        for run in self._runs():
            parts.append(f"## {self._title(run)}")
            for task in self._tasks(run):
                if task["state"] in ("success", "failed") and task["task_id"] != "verdict":
                    place = f"{run['dag_run_id']}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
                    response = self._call(f"api/v2/dags/{self.name}/dagRuns/{place}?full_content=true")
                    output = "\n".join(_log_lines(response["content"]))
                    parts.append(f"### {task['task_id']}: {task['state']}\n\n```\n{output}\n```")
        return "\n\n".join(parts)

    def take_picture(self, to: Path) -> None:
        """Take a picture of the DAG's grid in a browser."""
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if chromium is None:
            raise SystemExit("chromium, which takes the picture, was not found (Debian package: chromium)")
        with tempfile.TemporaryDirectory() as profile:
            options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1500,900"]
            options += [f"--user-data-dir={profile}", "--virtual-time-budget=20000", f"--screenshot={to}"]
            command = [chromium, *options, f"{self.url}/dags/{self.name}"]
            subprocess.run(command, check=True, capture_output=True, timeout=180)

    def _runs(self) -> list[dict[str, Any]]:
        """Return the runs, the earliest first; none before Airflow has loaded the DAG."""
        if self.name not in [dag["dag_id"] for dag in self._call("api/v2/dags")["dags"]]:
            return []
        runs = self._call(f"api/v2/dags/{self.name}/dagRuns")["dag_runs"]
        return sorted(runs, key=lambda run: run["run_after"])

    def _tasks(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        tasks = self._call(f"api/v2/dags/{self.name}/dagRuns/{run['dag_run_id']}/taskInstances")["task_instances"]
        return sorted(tasks, key=lambda task: (task["start_date"] is None, task["start_date"]))

    def _title(self, run: dict[str, Any]) -> str:
        if about := self._titles.get(run["dag_run_id"]):
            return f"{about.capitalize()}, by hand"
        is_first = run["dag_run_id"] == self._runs()[0]["dag_run_id"]
        return f"{self._first_title.capitalize() if is_first else 'Unchanged source'}, by the schedule"

    def _call(self, path: str, document: Any = None) -> Any:
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"{self.url}/{path}", body, self._headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def _log_lines(content: Iterable[dict[str, Any]]) -> Iterator[str]:
    for line in content:
        if "lakehouse_stages" in (line.get("logger") or "") and not _SPARK_NOISE.match(line["event"]):
            yield line["event"]
        for error in line.get("error_detail") or ():
            words = f"{error['exc_type']}: {error['exc_value']}".splitlines()
            yield from (word for word in words if not _SPARK_NOISE.match(word))
