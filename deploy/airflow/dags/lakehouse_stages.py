"""A pipeline as an Airflow DAG, a task a stage: `spark-submit jobs/<stage>.py PIPELINE`, in a process of its own.

    pipeline_dag("tesouro", "conf/tesouro", timedelta(minutes=10))

Stages are attempted in order, whatever became of those before them: a snapshot that is held (4) or refused (5) keeps
nothing else from being done. Parsing this needs neither Spark nor the package `lakehouse`. From the environment:

    LAKEHOUSE_HOME            the project: its jobs, its pipelines, its .env; default: the one this file is part of
    LAKEHOUSE_SPARK_SUBMIT    default: .venv/bin/spark-submit there; options may follow: `--master spark://host:7077`

Secrets reach a stage by the environment or that .env, never by its words: those are in the log, and in argv.
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
    2: "the command line or the configuration cannot be used",
    3: "storage, memory or a server failed",
    4: "a snapshot is held for approval",
    5: "data was refused, or a check failed",
    6: "another run holds the lake",
}
PERMANENT = (1, 2, 4, 5)  # another try would end in the same way; what is not in ENDED was killed: worth one

STOP_TIMEOUT = 300.0  # seconds that a stage has to come to its end, once it was asked to
_POLL_INTERVAL = 0.2  # seconds between two looks at what it says
# Of Spark, and of what fetches its packages: an exception has no room for it, nor any use for names of folders.
_SPARK_NOISE = re.compile(
    r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d INFO |:: |\t"
    r"|WARNING: Using incubator |Ivy |The jars for |\S+#\S+ added as |Using Spark's "
)
_LAST_LINES = 60  # of its last words in the exception: an error's block, or the table of what became of everything


class Stage(BaseOperator):
    """Run one stage and end as it ended.

    Asked to stop (a timeout, the task marked as failed, Airflow going down), it asks the stage, which ends in order.
    Where Airflow does not wait for that, the stage goes on alone: it has a session and an output of its own, and holds
    the lake meanwhile, so that a next try finds it busy (6) and comes again.
    """

    def __init__(self, *, stage: str, pipeline: str, **options: Any) -> None:
        super().__init__(task_id=stage, **options)
        self.stage, self.pipeline = stage, pipeline
        self._process: subprocess.Popen[bytes] | None = None

    def execute(self, context: Any) -> None:
        words = command(self.stage, self.pipeline)
        self.log.info("$ %s", shlex.join(words))
        # A file and no pipe: nobody has to read it for the stage to go on. Opened to append, for Spark's JVM and the
        # Python below it both write there.
        with tempfile.TemporaryDirectory() as folder, ExitStack() as files:
            output = files.enter_context(Path(folder, "output").open("ab"))
            said = files.enter_context(Path(folder, "output").open("rb"))
            self._process = subprocess.Popen(
                words, cwd=home(), env=environment(), stdout=output, stderr=output, start_new_session=True
            )
            try:
                last = self._log_output(said)
            except BaseException:  # AirflowTaskTimeout comes in the midst of it
                self.on_kill()
                self._log_output(said)
                raise
        self._raise_if_failed(self._process.returncode, "\n".join(last))

    def on_kill(self) -> None:
        """Ask the stage to end, and see to it that it does within `GRACE`."""
        if self._process is None or self._process.poll() is not None:
            return
        self.log.warning("asking %s to end", self.stage)
        with suppress(psutil.NoSuchProcess):  # it has, just now
            job_process(self._process.pid, self.stage).send_signal(signal.SIGTERM)
        end = threading.Timer(STOP_TIMEOUT, self._kill)
        end.daemon = True
        end.start()

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def _log_output(self, output: IO[bytes]) -> deque[str]:
        """Log what the stage says until it ends, what Spark says below it as DEBUG; its last lines."""
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
        why = EXIT_CODES.get(code, "it was killed")
        failed = AirflowFailException if code in PERMANENT else AirflowException
        raise failed(f"{self.stage} of {self.pipeline} ended with exit code {code}: {why}\n{last_lines}")


def pipeline_dag(
    name: str, pipeline: str, every: timedelta, stages: Sequence[str] = STAGES, timeout: timedelta = timedelta(hours=1)
) -> DAG:
    """The DAG of a pipeline: `stages` in order, then `verdict`, which makes the run fail if one of them did.

    Args:
        pipeline: its folder or file, below LAKEHOUSE_HOME.
        every: as `schedule.every` in its pipeline.yml. A run that takes longer is followed by one.
        stages: without `publish`, for a pipeline that publishes nowhere.
        timeout: of a stage; then it is asked to end, and tried again.
    """
    with DAG(
        name,
        schedule=every,
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        catchup=False,
        max_active_runs=1,
        tags=["lakehouse"],
        doc_md=f"`{pipeline}`: what exit codes mean and what to do then is in docs/guide/airflow.md.",
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
        # The state of a run is that of its last task: this one needs all of them, and is never sent to a worker.
        tasks >> EmptyOperator(task_id="verdict", trigger_rule=TriggerRule.ALL_SUCCESS)
    return dag


def layer_asset(name: str, stage: str) -> Asset:
    """What a stage keeps up to date, for DAGs that read it. An event says that it is, not that it changed."""
    return Asset(f"lakehouse://{name}/{LAYERS[stage]}")


def home() -> Path:
    return Path(os.environ.get("LAKEHOUSE_HOME") or Path(__file__).resolve().parents[3])


def command(stage: str, pipeline: str) -> list[str]:
    """The words of a stage."""
    submit = os.environ.get("LAKEHOUSE_SPARK_SUBMIT") or str(home() / ".venv/bin/spark-submit")
    return [*shlex.split(submit), str(home() / "jobs" / f"{stage}.py"), pipeline]


def environment() -> dict[str, str]:
    """What a stage gets of the task's environment: all but Airflow's own, which has keys to its database and API."""
    return {name: value for name, value in os.environ.items() if not name.lstrip("_").startswith("AIRFLOW")}


def job_process(submit_pid: int, stage: str) -> psutil.Process:
    """The process that heeds SIGTERM: the Python below spark-submit, which needs that one's JVM to come to its end."""
    above = psutil.Process(submit_pid)
    job = str(home() / "jobs" / f"{stage}.py")
    return next((p for p in above.children(recursive=True) if _argv(p)[1:2] == [job]), above)


def _argv(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended meanwhile
        return []


def _output_lines(process: subprocess.Popen[bytes] | None, output: IO[bytes]) -> Iterator[str]:
    """What a process writes to a file, line by line, until it has ended."""
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
