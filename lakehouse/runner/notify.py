"""Telling somebody that a run failed, by the command or the webhook of `on_failure` in pipeline.yml.

Either gets the run's record as one JSON document, the command on its stdin, the webhook as the body of a POST. It has
half a minute; what goes wrong with it is logged and never changes what the run ends with.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Callable
from typing import IO, Any
from urllib.error import HTTPError

import stamina

from lakehouse.config import OnFailure
from lakehouse.logs import Log, redact_document

TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 3
_ATTEMPT_SECONDS = 8.0
_MAX_OUTPUT_CHARS = 500  # characters of what a failing command said


def send(on_failure: OnFailure, document: dict[str, Any], log: Log, timeout: float = TIMEOUT_SECONDS) -> None:
    """Hand `document`, without secrets, to whom `on_failure` names. Never raises, and ends after `seconds` each."""
    body = json.dumps(redact_document(document), ensure_ascii=False, default=str).encode()
    if on_failure.command:
        _send_and_log("command", lambda: _run_command(on_failure.command or [], body, timeout), log)
    if on_failure.webhook:
        _send_and_log("webhook", lambda: _run_with_timeout(timeout, lambda: _post(on_failure.webhook or "", body)), log)


def _send_and_log(kind: str, deliver: Callable[[], None], log: Log) -> None:
    try:
        deliver()
    except Exception as error:  # whatever it is, the run has ended as it has
        log.error("on_failure did not get through", kind=kind, reason=str(error) or type(error).__name__)
    else:
        log.info("on_failure was told", kind=kind)


# --- a command --------------------------------------------------------------------------------------------------


def _run_command(command: list[str], body: bytes, timeout: float) -> None:
    """Files and not pipes: a pipe would be waited for as long as any grandchild holds it."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(body)
        given.seek(0)
        process = subprocess.Popen(command, stdin=given, stdout=said, stderr=said, start_new_session=True)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise TimeoutError(f"{command[0]} did not end within {timeout:g} s") from None
        if code:
            raise RuntimeError(f"{command[0]} ended with {code}: {_output_tail(said)}")


def _output_tail(said: IO[bytes]) -> str:
    said.seek(0)
    return " ".join(said.read().decode(errors="replace").split())[-_MAX_OUTPUT_CHARS:]


# --- a webhook --------------------------------------------------------------------------------------------------


def _is_transient(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code == 429 or error.code >= 500
    return isinstance(error, OSError)


def _post(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    for attempt in stamina.retry_context(on=_is_transient, attempts=_ATTEMPTS, timeout=TIMEOUT_SECONDS, wait_max=4.0):
        with attempt:
            _post_once(request)


def _post_once(request: urllib.request.Request) -> None:
    try:
        urllib.request.urlopen(request, timeout=_ATTEMPT_SECONDS).close()
    except HTTPError as error:
        error.close()  # it is the answer, and holds the connection
        raise


def _run_with_timeout(timeout: float, work: Callable[[], None]) -> None:
    """Do it in a thread of its own, which is left behind if it takes longer: a socket's timeout bounds each read only.

    Raises:
        TimeoutError: it took longer. Else what `work` raises.
    """
    raised: list[Exception] = []

    def attempt() -> None:
        try:
            work()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {timeout:g} s")
    if raised:
        raise raised[0]
