"""`lakehouse run PIPELINE --schedule`: a run every `schedule.every`, start to start, until somebody asks for an end.

Each round is a process of its own: it gives back all its memory, takes up a new version of the code, and whatever
becomes of it (a bug, the kernel's OOM killer) ends one round and not the schedule. The pipeline is read anew each time.
Under spark-submit, whose JVM is there once, rounds run in this process.
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
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from lakehouse.errors import ExitCode, InfrastructureError, LakehouseError
from lakehouse.logs import Log
from lakehouse.runner import notify, records, signals
from lakehouse.runner.context import Run, open_run

_POLL_SECONDS = 0.5  # seconds; how often a wait looks up whether somebody asked for an end

CommandLine = Callable[[list[str]], int]


@dataclass(frozen=True)
class Round:
    """What a round ended with, and its --json document where that was asked for."""

    code: int
    document: Any = None


def run_schedule(run: Run, path: str, arguments: Sequence[str], as_json: bool, main: CommandLine) -> dict[str, Any]:
    """Run again and again.

    Args:
        opened: the pipeline as it is now; a later one that cannot be read is told, and the schedule goes on.
        path: where to read it again.
        arguments: of each round's command line.
        main: the command line, for rounds in this process.

    Returns:
        `pipeline`, `rounds`, `exit_code` and the document of the `last` round; the code is that round's.
    """
    submitted, last, rounds = "PYSPARK_GATEWAY_PORT" in os.environ, Round(ExitCode.OK), 0
    log = run.log.unbind("run_id")  # each round has its own
    with signals.handle_stop_signals() as stop:

        def one_round() -> timedelta:
            nonlocal run, last, rounds
            rounds, began = rounds + 1, datetime.now(timezone.utc)
            try:
                run = open_run(path, run.names, log=log)
            except LakehouseError as error:
                last = Round(error.exit_code)
                _report_failed_round(run, error, log)
            else:
                last = (
                    _run_in_process(main, arguments, as_json)
                    if submitted
                    else _run_in_subprocess(arguments, as_json, stop)
                )
                if last.code == -signal.SIGTERM and stop():  # before it had begun, or after it had done all
                    last = Round(_recorded_exit_code(run, began), last.document)
                if last.code < 0:
                    _report_failed_round(run, _killed_error(-last.code), log)
                    last = Round(ExitCode.INFRASTRUCTURE)
            log.info("round ended", round=rounds, exit_code=int(last.code))
            return run.pipeline.schedule.every

        repeat_rounds(one_round, stop, log)
    log.info("schedule ended", rounds=rounds, exit_code=int(last.code))
    return {
        "pipeline": run.pipeline.name,
        "rounds": rounds,
        "exit_code": int(last.code),
        "last": last.document,
    }


def repeat_rounds(
    one_round: Callable[[], timedelta],
    stop: Callable[[], bool],
    log: Log,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """One round after another, until `stop`. A round says how long after its own start the next is due.

    One that took longer is followed at once: by one round, however many were missed.
    """
    while not stop():
        began = clock()
        due = began + one_round().total_seconds()
        if (left := due - clock()) > 0 and not stop():
            at = datetime.now(timezone.utc) + timedelta(seconds=left)
            log.info("waiting", until=records.utc_text(at))
        while not stop() and (left := due - clock()) > 0:
            sleep(min(left, _POLL_SECONDS))


# --- a round ----------------------------------------------------------------------------------------------------


def _run_in_subprocess(arguments: Sequence[str], as_json: bool, stop: signals.StopRequest) -> Round:
    """In a process of its own, out of reach of the terminal's Ctrl-C: it hears of an end from this one only, once."""
    command = [sys.executable, "-m", "lakehouse", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE if as_json else None, start_new_session=True) as process:
        stop.forward = process.send_signal
        try:
            if stop():
                process.send_signal(signal.SIGTERM)  # asked for while it was being started
            said, _ = process.communicate()
        finally:
            stop.forward = lambda signum: None
    return Round(process.returncode, _parse_document(said))


def _run_in_process(main: CommandLine, arguments: Sequence[str], as_json: bool) -> Round:
    said = io.StringIO()
    with ExitStack() as held:
        if as_json:
            held.enter_context(redirect_stdout(said))
        code = main(list(arguments))
    return Round(code, _parse_document(said.getvalue().encode()))


def _parse_document(said: bytes | None) -> Any:
    try:
        return json.loads(said or b"null")
    except ValueError:  # it was killed before it had said all
        return None


def _recorded_exit_code(run: Run, began: datetime) -> int:
    """What the round's own record says that it ended with."""
    ours = [r for r in records.read_newest(run.lake, 1) if r["started"] >= records.utc_text(began) and r["ended"]]
    return int(ours[0]["exit_code"]) if ours else ExitCode.OK


def _killed_error(signum: int) -> LakehouseError:
    return InfrastructureError(
        f"the round was ended by {signal.Signals(signum).name}",
        expected="memory enough for the driver, and nobody who kills it",
        next_step="nothing, the next round does what this one left; if it recurs, look for the kernel's OOM killer",
    )


def _report_failed_round(run: Run, error: LakehouseError, log: Log) -> None:
    """A round that could not tell of itself."""
    log.error("round failed", exit_code=int(error.exit_code), error=error.to_text())
    if run.pipeline.on_failure:
        record = records.start_record(run.pipeline.name, run.id, "run", run.names)
        record = records.end_record(record, error.exit_code, outcomes=[], error=error.to_text())
        document = record | {"lake": run.lake.root, "repeats": records.count_repeats(run.lake, record)}
        notify.send(run.pipeline.on_failure, document, log)
