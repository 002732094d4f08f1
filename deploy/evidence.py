"""`make evidence`: the loyalty pipeline under a real Airflow, in two runs, and what it showed in docs/evidence/.

    the source's first snapshot, then its second with one table cut to its header: that one is held, the others go on
    -> README.md    when, with which versions, and what became of each task
       rows.md      rows in each layer's tables
       sql.md       the models' SQL, and how each is kept up to date
       log.md       what the tasks said
       airflow.png  Airflow's grid

Airflow runs on this machine, on a free port, and ends with this. What is written names no machine and no folder of it.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse import plans
from lakehouse.config import load

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.append(str(REPOSITORY / "tests"))

from servers import airflow  # noqa: E402 - tests is no package that is installed

DAG, PIPELINE = "loyalty", REPOSITORY / "conf/loyalty"
SAMPLES = REPOSITORY / "samples/loyalty"
TO = REPOSITORY / "docs/evidence"
CUT = "clientes.csv"
_SOON, _LONG = 1.0, 1800.0  # seconds between two looks at a run, and for all of it
# What Spark says before a stage begins, and where it has its packages.
_PACKAGES = re.compile(r"WARNING: |Ivy |The jars |\S+#\S+ added|\t|Using Spark|\d\d/\d\d/\d\d ")
# Of so little work a JVM's start is most: this one is quick to start.
SUBMIT = (
    f"{REPOSITORY}/.venv/bin/spark-submit --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2"
    " --driver-java-options '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m -Xss4m'"
)


class Api:
    """Airflow's REST API, as whoever runs it."""

    def __init__(self, url: str) -> None:
        self.url, self._headers = url, {"Content-Type": "application/json"}
        token = self._asked(f"{url}/auth/token")["access_token"]
        self._headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str) -> Any:
        return self._asked(f"{self.url}/api/v2/{path}")

    def send(self, method: str, path: str, **document: Any) -> Any:
        return self._asked(f"{self.url}/api/v2/{path}", method, json.dumps(document).encode())

    def _asked(self, url: str, method: str = "GET", body: bytes | None = None) -> Any:
        request = urllib.request.Request(url, body, self._headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Airflow ends with this, whatever ends it
    with tempfile.TemporaryDirectory(prefix="evidence-") as name:
        folder = Path(name)
        source, lake, dags = folder / "source", folder / "lake", folder / "dags"
        dags.mkdir()
        for file in ("lakehouse_stages.py", f"{DAG}.py"):
            shutil.copy(airflow.DAGS / file, dags)
        first, second = sorted(SAMPLES.iterdir())
        shutil.copytree(first, source / first.name)
        given = {"LAKEHOUSE_HOME": str(REPOSITORY), "LAKEHOUSE_SPARK_SUBMIT": SUBMIT}
        given |= {"LAKE_ROOT": str(lake), "LOYALTY_SOURCE": str(source)}
        given["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] = "false"
        with airflow.standalone(folder / "airflow", dags, **given) as url:
            api = Api(url)
            runs = [finished(api, scheduled(api), "a first snapshot, by the schedule")]
            shutil.copytree(second, source / second.name)
            header, _, _ = (source / second.name / CUT).read_text(encoding="utf-8").partition("\n")
            (source / second.name / CUT).write_text(f"{header}\n", encoding="utf-8")
            about = f"a second one, {CUT} cut to its header, by hand"
            runs.append(finished(api, api.send("POST", f"dags/{DAG}/dagRuns", logical_date=None)["dag_run_id"], about))
            TO.mkdir(exist_ok=True)
            picture(f"{url}/dags/{DAG}", TO / "airflow.png")
            texts = {"README.md": summary(runs), "log.md": logs(api, runs)}
        texts |= {"rows.md": rows(lake / DAG), "sql.md": models()}
        for page, text in texts.items():
            (TO / page).write_text(nameless(text, folder), encoding="utf-8")


def scheduled(api: Api) -> str:
    """The run that Airflow begins as soon as it has found the DAG."""
    deadline = time.monotonic() + _LONG
    while time.monotonic() < deadline:
        if DAG in [dag["dag_id"] for dag in api.get("dags")["dags"]] and (
            found := api.get(f"dags/{DAG}/dagRuns")["dag_runs"]
        ):
            return str(found[0]["dag_run_id"])
        time.sleep(_SOON)
    raise SystemExit("Airflow has begun no run")


def finished(api: Api, run: str, about: str) -> dict[str, Any]:
    """Wait for the end of a run: its state, and its tasks in order."""
    print(f"a run of {DAG}: {about}", flush=True)
    deadline = time.monotonic() + _LONG
    while (found := api.get(f"dags/{DAG}/dagRuns/{run}"))["state"] in ("queued", "running"):
        if time.monotonic() > deadline:
            raise SystemExit(f"{run} has not ended")
        time.sleep(_SOON)
    tasks = api.get(f"dags/{DAG}/dagRuns/{run}/taskInstances")["task_instances"]
    tasks.sort(key=lambda task: (task["start_date"] is None, task["start_date"]))
    return {"run": run, "about": about, "state": found["state"], "tasks": tasks}


def picture(url: str, to: Path) -> None:
    """What a browser shows of a page."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("there is no chromium to take the picture with (Debian: chromium)")
    with tempfile.TemporaryDirectory() as profile:
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1500,900"]
        words += [f"--user-data-dir={profile}", "--virtual-time-budget=20000", f"--screenshot={to}", url]
        subprocess.run([chromium, *words], check=True, capture_output=True, timeout=180)


# --- the pages --------------------------------------------------------------------------------------------------


def summary(runs: list[dict[str, Any]]) -> str:
    versions = {name: version(name) for name in ("pyspark", "delta-spark")}
    versions["apache-airflow"] = re.findall(r"^apache-airflow==(\S+)", airflow.LOCK.read_text(), re.MULTILINE)[0]
    told = ", ".join(f"{name} {each}" for name, each in versions.items())
    parts = [
        "# What was seen",
        f"Written by `make evidence` on {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC; {told}.",
        "[rows in each layer](rows.md) · [the models' SQL](sql.md) · [what the tasks said](log.md)",
        f"![Airflow's grid](airflow.png)\n\nThe DAG `{DAG}` in Airflow after both runs.",
    ]
    for run in runs:
        lines = [(t["task_id"], t["state"], t["try_number"], f"{t['duration'] or 0:.1f}") for t in run["tasks"]]
        parts.append(f"## {run['about'].capitalize()}: {run['state']}")
        parts.append(table(("task", "state", "try", "seconds"), lines))
    return "\n\n".join(parts) + "\n"


def rows(lake: Path) -> str:
    """How many rows every table and model has."""
    counted = []
    for layer in ("bronze", "silver", "gold", "quarantine"):
        for place in sorted((lake / layer).glob("*")):
            counted.append((layer, place.name, pl.scan_delta(str(place)).select(pl.len()).collect().item()))
    return f"# Rows in each layer\n\n{table(('layer', 'table', 'rows'), counted)}\n"


def models() -> str:
    parts = ["# The models' SQL\n\nWhat keeps silver and gold up to date; `lakehouse explain` says how and why."]
    for name, plan in plans.plans(load(PIPELINE)).items():
        layer, _, short = name.partition(".")
        sql = (PIPELINE / layer / f"{short}.sql").read_text(encoding="utf-8").strip()
        parts.append(f"## {name}: {plan.strategy}\n\n{plan.reason}\n\n```sql\n{sql}\n```")
    return "\n\n".join(parts) + "\n"


def logs(api: Api, runs: list[dict[str, Any]]) -> str:
    """What the stages said, of the tasks' logs in Airflow."""
    parts = [
        "# What the tasks said\n\nOf their logs in Airflow, without what Airflow itself and Spark's packages say there."
    ]
    for run in runs:
        parts.append(f"## {run['about'].capitalize()}")
        for task in run["tasks"]:
            if task["state"] in ("success", "failed") and task["task_id"] != "verdict":
                place = f"dags/{DAG}/dagRuns/{run['run']}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
                said = "\n".join(_said(api.get(f"{place}?full_content=true")["content"]))
                parts.append(f"### {task['task_id']}: {task['state']}\n\n```\n{said}\n```")
    return "\n\n".join(parts) + "\n"


def _said(content: Iterable[dict[str, Any]]) -> Iterator[str]:
    for line in content:
        if "lakehouse_stages" in (line.get("logger") or "") and not _PACKAGES.match(line["event"]):
            yield line["event"]
        for error in line.get("error_detail") or ():
            words = f"{error['exc_type']}: {error['exc_value']}".splitlines()
            yield from (word for word in words if not _PACKAGES.match(word))


def table(head: Iterable[str], lines: Iterable[Iterable[object]]) -> str:
    rows = [list(map(str, head))]
    rows += [["---"] * len(rows[0]), *([str(cell) for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def nameless(text: str, folder: Path) -> str:
    """Without the folders of this machine; a page that still names it is not written."""
    text = text.replace(str(folder), "/srv").replace(f"{REPOSITORY}/", "").replace(str(REPOSITORY), ".")
    for name in (str(Path.home()), socket.gethostname()):
        if found := re.search(rf"^.*(?<!\w){re.escape(name)}(?!\w).*$", text, re.MULTILINE):
            raise SystemExit(f"not written, for it names this machine: {found[0]}")
    return text


if __name__ == "__main__":
    main()
