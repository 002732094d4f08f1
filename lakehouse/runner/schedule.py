"""Runs `lakehouse run PIPELINE --schedule`: one run every `schedule.every`, from start to start, until a stop request.

Each round is a process of its own, so it returns all its memory and uses the current code, and a failure of any kind (a
bug, the kernel's OOM killer) ends one round and not the schedule. The pipeline is read again for each round. Under
spark-submit, which starts one JVM, rounds run in this process.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from lakehouse.errors import ExitCode, InfrastructureError, LakehouseError
from lakehouse.logs import Log
from lakehouse.runner import records, signals
from lakehouse.runner.context import Run, notify_failure, open_run
from lakehouse.spark.engine import command as engine_command
from lakehouse.storage.paths import utc_text

_POLL_SECONDS = 0.5  # between checks for a stop request

CommandLine = Callable[[list[str]], int]


@dataclass(frozen=True)
class Round:
    """The result of a round: its exit code and, with --json, its document."""

    code: int
    document: Any = None


def run_schedule(run: Run, path: str, arguments: Sequence[str], as_json: bool, main: CommandLine) -> dict[str, Any]:
    """Run rounds until somebody requests a stop.

    Args:
        run: The pipeline as it is now. If it cannot be read later, that round fails and the schedule goes on.
        path: Where to read it again.
        arguments: The command line of each round.
        as_json: Whether a round writes a document to stdout.
        main: The function of the command line, for rounds in this process.

    Returns:
        `pipeline`, `rounds`, and `exit_code` and document of the `last` round.
    """
    log = run.log.unbind("run_id")  # each round has its own
    with signals.handle_stop_signals() as stop:
        schedule = _Schedule(run, path, arguments, as_json, main, log, stop)
        repeat_rounds(schedule.run_round, stop, log)
    last, rounds = schedule.last, schedule.rounds
    log.info("schedule ended", rounds=rounds, exit_code=int(last.code))
    return {
        "pipeline": schedule.run.pipeline.name,
        "rounds": rounds,
        "exit_code": int(last.code),
        "last": last.document,
    }


def repeat_rounds(
    run_round: Callable[[], timedelta],
    stop: Callable[[], bool],
    log: Log,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Run one round after another until a stop request.

    If a round takes longer than the interval, one round follows it at once, however many were missed.

    Args:
        run_round: Runs a round and returns the interval from its start to the start of the next one.
        stop: Returns whether a stop was requested.
        log: Receives when the next round starts.
        clock: Returns seconds that only grow.
        sleep: Waits for some seconds.
    """
    while not stop():
        started = clock()
        due = started + run_round().total_seconds()
        if (seconds_left := due - clock()) > 0 and not stop():
            log.info("waiting", until=utc_text(datetime.now(timezone.utc) + timedelta(seconds=seconds_left)))
        while not stop() and (seconds_left := due - clock()) > 0:
            sleep(min(seconds_left, _POLL_SECONDS))


@dataclass
class _Schedule:
    """The rounds of a schedule: the pipeline as last read, the last round, and how many there were."""

    run: Run
    path: str
    arguments: Sequence[str]
    as_json: bool
    main: CommandLine
    log: Log
    stop: signals.StopRequest
    last: Round = Round(ExitCode.OK)
    rounds: int = 0

    def run_round(self) -> timedelta:
        """Read the pipeline, run one round, and return the interval to the next."""
        self.rounds += 1
        try:
            self.run = open_run(self.path, self.run.names, log=self.log)
        except LakehouseError as error:
            self.last = Round(error.exit_code)
            _report_failed_round(self.run, error, self.log)
        else:
            self.last = self._run_command()
        self.log.info("round ended", round=self.rounds, exit_code=int(self.last.code))
        return self.run.pipeline.schedule.every

    def _run_command(self) -> Round:
        if "PYSPARK_GATEWAY_PORT" in os.environ:  # under spark-submit
            return _run_in_process(self.main, self.arguments, self.as_json)
        started = datetime.now(timezone.utc)
        result = _run_in_subprocess(self.arguments, self.as_json, self.stop, round_environment(self.run))
        if result.code == -signal.SIGTERM and self.stop():  # stopped before it began, or after it had finished
            return Round(_recorded_exit_code(self.run, started), result.document)
        if result.code < 0:
            error = InfrastructureError(
                f"the round was ended by {signal.Signals(-result.code).name}",
                expected="enough memory for the driver, and no other process that ends it",
                next_step="nothing, the next round continues; if it happens again, look for the kernel's OOM killer",
            )
            _report_failed_round(self.run, error, self.log)
            return Round(ExitCode.INFRASTRUCTURE)
        return result


# --- a round ----------------------------------------------------------------------------------------------------------


def round_environment(run: Run) -> dict[str, str]:
    """Return the environment of a round, which uses a warm engine if the engine waits until the next round.

    Args:
        run: The pipeline as it is now.
    """
    is_wanted = engine_command.is_wanted(os.environ, at_terminal=True)
    is_kept = run.pipeline.schedule.every <= engine_command.idle_time(os.environ)
    return dict(os.environ) | {engine_command.SWITCH_VARIABLE: "on" if is_wanted and is_kept else "off"}


def _run_in_subprocess(
    arguments: Sequence[str], as_json: bool, stop: signals.StopRequest, environment: dict[str, str]
) -> Round:
    """Run a round in a session of its own: the terminal's Ctrl-C reaches this process only, which forwards it once."""
    command = [sys.executable, "-m", "lakehouse", *arguments]
    output_to = subprocess.PIPE if as_json else None
    with subprocess.Popen(command, stdout=output_to, env=environment, start_new_session=True) as process:
        stop.forward = process.send_signal
        try:
            if stop():
                process.send_signal(signal.SIGTERM)  # requested while the process was starting
            output, _ = process.communicate()
        finally:
            stop.forward = lambda signum: None
    return Round(process.returncode, _parse_document(output))


def _run_in_process(main: CommandLine, arguments: Sequence[str], as_json: bool) -> Round:
    output = io.StringIO()
    with redirect_stdout(output) if as_json else nullcontext():
        code = main(list(arguments))
    return Round(code, _parse_document(output.getvalue().encode()))


def _parse_document(output: bytes | None) -> Any:
    try:
        return json.loads(output or b"null")
    except ValueError:  # the process was killed while it wrote the document
        return None


def _recorded_exit_code(run: Run, started: datetime) -> int:
    """Return the exit code in the record of the round that started at this time."""
    newest = records.read_newest(run.lake, 1)
    ended = [record for record in newest if record["started"] >= utc_text(started) and record["ended"]]
    return int(ended[0]["exit_code"]) if ended else ExitCode.OK


def _report_failed_round(run: Run, error: LakehouseError, log: Log) -> None:
    """Log the failure of a round that could not report it, and notify `on_failure`."""
    log.error("round failed", exit_code=int(error.exit_code), error=error.to_record())
    record = records.start_record(run.pipeline.name, run.id, "run", run.names)
    record = records.end_record(record, error.exit_code, outcomes=[], error=error.to_record())
    notify_failure(run, record, log)
