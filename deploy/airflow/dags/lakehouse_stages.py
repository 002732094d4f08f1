"""Builds the Airflow DAG of a pipeline, with a task per stage: `lakehouse <stage> PIPELINE`.

    pipeline_dag("tesouro", "conf/tesouro", timedelta(minutes=10))

Each stage runs in a process of its own. The stages run in order even if an earlier one failed: a snapshot that is held
(exit code 4) or rejected (5) does not stop the others. Parsing this file needs neither Spark nor the package
`lakehouse`. Environment variables:

    LAKEHOUSE_HOME            the project: its jobs, its pipelines, its .env; default: the one that contains this file
    LAKEHOUSE_SPARK_SUBMIT    the spark-submit that runs jobs/<stage>.py instead, for a cluster; options may follow:
                              `spark-submit --master spark://host:7077`
    LAKEHOUSE_ENGINE          default: on; the stages then use the same JVM, one after the other

Secrets reach a stage through the environment or that .env, never through its arguments, which are in the log and in the
process list.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO, Any

import psutil
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, BaseOperator, TriggerRule
from airflow.sdk.bases.operator import chain
from airflow.sdk.exceptions import AirflowException, AirflowFailException

STAGES = ("extract", "ingest", "bronze", "silver", "gold", "publish")
LAYERS = {"bronze": "bronze", "silver": "silver", "gold": "gold", "publish": "published"}

EXIT_CODES = {
    1: "a bug",
    2: "the command line or the configuration is invalid",
    3: "storage, memory or a server failed",
    4: "a snapshot is held for approval",
    5: "data was rejected, or a check failed",
    6: "another run has locked the lake",
}
PERMANENT = (1, 2, 4, 5)  # a retry would end in the same way; a code that is not in EXIT_CODES means a killed process

STOP_TIMEOUT = 300.0  # seconds that a stage has to end after SIGTERM
_POLL_INTERVAL = 0.2  # seconds between two reads of its output
# Log lines of Spark and of the download of its packages, which are logged as DEBUG and not part of an exception.
_SPARK_NOISE = re.compile(
    r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d INFO |:: |\t"
    r"|WARNING: Using incubator |Ivy |The jars for |\S+#\S+ added as |Using Spark's "
)
_LAST_LINES = 60  # of its output in the exception: the error, or the table of all outcomes


class Stage(BaseOperator):
    """Runs one stage, and fails if it fails.

    If the task is stopped (by a timeout, by being marked as failed, or because Airflow shuts down), it sends SIGTERM to
    the stage, which then ends in order. If Airflow does not wait for that, the stage continues alone: it has a process
    session and an output file of its own, and it has locked the lake, so that the next try ends with exit code 6 and is
    retried.
    """

    def __init__(self, *, stage: str, pipeline: str, **options: Any) -> None:
        super().__init__(task_id=stage, **options)
        self.stage, self.pipeline = stage, pipeline
        self._process: subprocess.Popen[bytes] | None = None

    def execute(self, context: Any) -> None:
        """Run the stage and log its output."""
        arguments = command(self.stage, self.pipeline)
        self.log.info("$ %s", shlex.join(arguments))
        # A file and no pipe, so that the stage does not block if nobody reads it. It is opened for appending, because
        # both Spark's JVM and the Python process below it write to it.
        with tempfile.TemporaryDirectory() as folder, ExitStack() as files:
            written = files.enter_context(Path(folder, "output").open("ab"))
            output = files.enter_context(Path(folder, "output").open("rb"))
            self._process = subprocess.Popen(
                arguments, cwd=home(), env=environment(), stdout=written, stderr=written, start_new_session=True
            )
            try:
                last_lines = self._log_output(output)
            except BaseException:  # also AirflowTaskTimeout
                self.on_kill()
                self._log_output(output)
                raise
        self._raise_if_failed(self._process.returncode, "\n".join(last_lines))

    def on_kill(self) -> None:
        """Send SIGTERM to the stage, and kill it if it has not ended after `STOP_TIMEOUT` seconds."""
        if self._process is None or self._process.poll() is not None:
            return
        self.log.warning("stopping %s", self.stage)
        with suppress(psutil.NoSuchProcess):  # it has just ended
            job_process(self._process.pid, self.stage).send_signal(signal.SIGTERM)
        timer = threading.Timer(STOP_TIMEOUT, self._kill)
        timer.daemon = True
        timer.start()

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def _log_output(self, output: IO[bytes]) -> deque[str]:
        """Log the output of the stage until it ends, Spark's part of it as DEBUG; return its last lines."""
        last: deque[str] = deque(maxlen=_LAST_LINES)
        for line in _output_lines(self._process, output):
            if _SPARK_NOISE.match(line):
                self.log.debug("%s", line)
            else:
                self.log.info("%s", line)
                last.append(line)
        return last

    def _raise_if_failed(self, code: int, last_lines: str) -> None:
        if code == 0:
            return
        meaning = EXIT_CODES.get(code, "it was killed")
        exception = AirflowFailException if code in PERMANENT else AirflowException
        raise exception(f"{self.stage} of {self.pipeline} ended with exit code {code}: {meaning}\n{last_lines}")


def pipeline_dag(
    name: str, pipeline: str, every: timedelta, stages: Sequence[str] = STAGES, timeout: timedelta = timedelta(hours=1)
) -> DAG:
    """Return the DAG of a pipeline: its stages in order, then `verdict`, which fails the run if a stage failed.

    Args:
        name: The name of the DAG.
        pipeline: The folder or file of the pipeline, below LAKEHOUSE_HOME.
        every: The interval, as `schedule.every` in its pipeline.yml. If a run takes longer, one run follows it.
        stages: The stages; without `publish` if the pipeline publishes nothing.
        timeout: The limit of a stage, after which it is stopped and retried.
    """
    with DAG(
        name,
        schedule=every,
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        catchup=False,
        max_active_runs=1,
        tags=["lakehouse"],
        doc_md=f"`{pipeline}`: docs/guide/airflow.md explains the exit codes and what to do.",
        default_args={
            "retries": 3,
            "retry_delay": timedelta(seconds=30),
            "retry_exponential_backoff": 2,
            "max_retry_delay": timedelta(minutes=10),
            "execution_timeout": timeout,
            "trigger_rule": TriggerRule.ALL_DONE,
        },
    ) as dag:
        tasks = [
            Stage(stage=s, pipeline=pipeline, outlets=[layer_asset(name, s)] if s in LAYERS else []) for s in stages
        ]
        chain(*tasks)
        # The state of a run is that of its last task. This one depends on all others and runs on no worker.
        tasks >> EmptyOperator(task_id="verdict", trigger_rule=TriggerRule.ALL_SUCCESS)
    return dag


def layer_asset(name: str, stage: str) -> Asset:
    """Return the asset that a stage updates, for DAGs that depend on it.

    An event means that the asset is up to date, not that it has changed.
    """
    return Asset(f"lakehouse://{name}/{LAYERS[stage]}")


def home() -> Path:
    """Return the folder of the project."""
    return Path(os.environ.get("LAKEHOUSE_HOME") or Path(__file__).resolve().parents[3])


def command(stage: str, pipeline: str) -> list[str]:
    """Return the command line of a stage."""
    if submit := os.environ.get("LAKEHOUSE_SPARK_SUBMIT"):
        return [*shlex.split(submit), str(home() / "jobs" / f"{stage}.py"), pipeline]
    return [str(home() / ".venv/bin/lakehouse"), stage, pipeline]


def environment() -> dict[str, str]:
    """Return the environment of a stage: the task's, without Airflow's variables, which contain its secrets.

    Stages leave a warm engine for the next one (docs/guide/engine.md) unless the task's environment says otherwise.
    """
    own = {name: value for name, value in os.environ.items() if not name.lstrip("_").startswith("AIRFLOW")}
    return {"LAKEHOUSE_ENGINE": "on"} | own


def job_process(submit_pid: int, stage: str) -> psutil.Process:
    """Return the process that handles SIGTERM: the stage, or the Python process below spark-submit."""
    submit = psutil.Process(submit_pid)
    job = str(home() / "jobs" / f"{stage}.py")
    return next((p for p in submit.children(recursive=True) if _argv(p)[1:2] == [job]), submit)


def _argv(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended
        return []


def _output_lines(process: subprocess.Popen[bytes] | None, output: IO[bytes]) -> Iterator[str]:
    """Yield the lines that a process writes to a file, until it has ended."""
    assert process is not None
    rest = b""
    while True:
        ended = _has_ended(process)
        *lines, rest = (rest + output.read()).split(b"\n")
        yield from (line.decode(errors="replace").rstrip() for line in lines)
        if ended:
            break
    if rest:
        yield rest.decode(errors="replace")


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_POLL_INTERVAL)
    except subprocess.TimeoutExpired:
        return False
    return True
