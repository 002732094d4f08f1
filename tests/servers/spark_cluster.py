"""A standalone Spark cluster on this machine, from the pip package: a master and two workers with one core each."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyspark
from servers import s3
from servers.ports import free_port

SPARK = Path(pyspark.__file__).parent
LOCAL = "127.0.0.1"


@dataclass(frozen=True)
class Cluster:
    """A standalone cluster of two workers with one core each."""

    folder: Path
    url: str
    web: str

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.web}/json/", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def worked(self) -> list[str]:
        """The workers that ran an executor."""
        return sorted({p.parents[2].name for p in self.folder.glob("worker-*/app-*/*/stderr")})


@contextmanager
def daemon(name: str, folder: Path, *arguments: str) -> Iterator[None]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "PYSPARK_"))}
    environment |= {"SPARK_HOME": str(SPARK), "SPARK_DAEMON_MEMORY": "256m", "SPARK_LOCAL_IP": LOCAL, **s3.CREDENTIALS}
    command = [str(SPARK / "bin/spark-class"), f"org.apache.spark.deploy.{name}", *arguments]
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def start(folder: Path, memory: str = "1g") -> Iterator[Cluster]:
    """Start a master and two workers, which use free ports and end with the block.

    Args:
        folder: A folder for their logs, which is created.
        memory: What each worker has for executors.
    """
    folder.mkdir(parents=True)
    port, web = free_port(), free_port()
    found = Cluster(folder, f"spark://{LOCAL}:{port}", f"http://{LOCAL}:{web}")
    with ExitStack() as running:
        at = ["--host", LOCAL, "--port", str(port), "--webui-port", str(web)]
        running.enter_context(daemon("master.Master", folder, *at))
        _until(lambda: found.state()["status"] == "ALIVE")
        for name in ("worker-1", "worker-2"):
            own = ["--host", LOCAL, "--webui-port", "0", "--cores", "1", "--memory", memory]
            work = ["--work-dir", str(folder / name)]
            running.enter_context(daemon("worker.Worker", folder, *own, *work, found.url))
        _until(lambda: found.state()["aliveworkers"] == 2)
        yield found


def _until(so: Any, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if so():
                return
        except (OSError, ValueError):  # not yet listening, or a page that says the master is starting
            pass
        assert time.monotonic() < deadline, "the cluster did not come up"
        time.sleep(0.2)
