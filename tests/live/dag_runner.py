"""Runs DAGs with `dag.test()`, one after another, under Airflow's own Python, and writes the results as JSON.

    dag_runner.py OUTPUT FILE:DAG...

FILE is a module in the folder of the DAGs, DAG a variable in it. Retries are one second apart.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path

from airflow.configuration import conf

sys.path.append(conf.get("core", "dags_folder"))


def run_dag(dag) -> dict:
    from airflow.models.asset import AssetEvent
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    for task in dag.tasks:
        task.retry_delay = timedelta(seconds=1)
        task.retry_exponential_backoff = 0
    run = dag.test()
    with create_session() as session:
        tasks = session.scalars(select(TaskInstance).where(TaskInstance.run_id == run.run_id)).all()
        events = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == run.run_id)).all()
        return {
            "state": str(run.state),
            "tasks": {t.task_id: [str(t.state), t.try_number] for t in tasks},
            "events": [e.asset.uri for e in events],
        }


def main(output: str, *names: str) -> None:
    results = {}
    for name in names:
        file, _, dag = name.partition(":")
        results[name] = run_dag(getattr(import_module(file), dag))
    Path(output).write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
