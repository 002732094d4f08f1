"""Runs an Airflow for tests, installed from its lock file into an environment of its own, with SQLite.

airflow_bin()                            # .venv-airflow/bin, created at first use in half a minute
settings(tmp_path, dags)                 # the environment variables of an Airflow process
with standalone(tmp_path, dags) as url:  # all its parts, with the web interface; every user is admin
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.ports import free_port

REPOSITORY = Path(__file__).parents[2]
DAGS = REPOSITORY / "deploy/airflow/dags"
LOCK = REPOSITORY / "deploy/airflow/requirements.lock"
VENV = REPOSITORY / ".venv-airflow"
_START_TIMEOUT = 180.0  # seconds


def airflow_bin() -> Path:
    """Return the folder with Airflow's `python` and `airflow`; it is rebuilt if the lock file has changed."""
    lock_hash, ready = hashlib.sha256(LOCK.read_bytes()).hexdigest(), VENV / ".ready"
    with (REPOSITORY / ".venv-airflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists() or ready.read_text() != lock_hash:
            subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
            subprocess.run([VENV / "bin/pip", "install", "-q", "--disable-pip-version-check", "uv"], check=True)
            install = [VENV / "bin/uv", "pip", "install", "-q", "--python", VENV / "bin/python"]
            subprocess.run([*install, "--require-hashes", "-r", LOCK], check=True)
            ready.write_text(lock_hash)
    return VENV / "bin"


def settings(home: Path, dags: Path = DAGS) -> dict[str, str]:
    """Return the environment of an Airflow that has its files and its database below `home`."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "SPARK_", "PYSPARK_"))}
    return inherited | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__PARALLELISM": "2",  # by default 32 processes
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "true",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "false",
        "PATH": f"{VENV / 'bin'}{os.pathsep}{inherited['PATH']}",
    }


def migrate_database(environ: dict[str, str]) -> None:
    """Create Airflow's database."""
    done = subprocess.run([VENV / "bin/airflow", "db", "migrate"], env=environ, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]


@contextmanager
def standalone(home: Path, dags: Path = DAGS, **more: str) -> Iterator[str]:
    """Run scheduler, DAG processor and API server on a free port of the loopback; yield the address.

    Args:
        home: The folder with Airflow's files.
        dags: The folder of the DAGs.
        more: Further environment variables, also for the tasks.
    """
    airflow_bin()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environ = settings(home, dags) | more
    environ |= {"AIRFLOW__API__PORT": str(port), "AIRFLOW__API__HOST": "127.0.0.1", "AIRFLOW__API__BASE_URL": url}
    environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"{url}/execution/"
    home.mkdir(parents=True, exist_ok=True)
    log = home / "standalone.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [VENV / "bin/airflow", "standalone"], env=environ, stdout=out, stderr=out, start_new_session=True
        )
    try:
        _wait_until_answering(f"{url}/api/v2/version", process, log)
        yield url
    finally:
        _end_process_group(process)


def _end_process_group(process: subprocess.Popen[bytes]) -> None:
    """End the process group, because standalone does not always end its own children."""
    for each in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, each)
            process.wait(20)
            time.sleep(1)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def _wait_until_answering(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (OSError, urllib.error.HTTPError):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")[-5000:]
            time.sleep(0.5)
