"""Sends the record of a failed run to the command or the webhook of `on_failure` in pipeline.yml.

Both get the record as one JSON document: the command on its stdin, the webhook as the body of a POST. Each has half a
minute. Its own failure is logged and never changes the exit code of the run.
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
from typing import Any
from urllib.error import HTTPError

from lakehouse.config import OnFailure
from lakehouse.http_requests import open_url
from lakehouse.logs import Log, redact_document
from lakehouse.retry import RetryPolicy, with_retries

TIMEOUT_SECONDS = 30.0
_RETRIES = RetryPolicy(attempts=3, wait_initial=0.1, wait_max=4.0, timeout=TIMEOUT_SECONDS)
_ATTEMPT_SECONDS = 8.0
_MAX_OUTPUT_CHARS = 500


def send(on_failure: OnFailure, document: dict[str, Any], log: Log, timeout: float = TIMEOUT_SECONDS) -> None:
    """Send a document, without secrets, to the command and the webhook. Never raises.

    Args:
        on_failure: The command or the webhook, or both.
        document: The record of the failed run.
        log: Receives whether it was sent.
        timeout: Seconds that each of them has.
    """
    body = json.dumps(redact_document(document), ensure_ascii=False, default=str).encode()
    if on_failure.command:
        _send_and_log("command", lambda: _run_command(on_failure.command or [], body, timeout), log)
    if on_failure.webhook:
        _send_and_log("webhook", lambda: _run_with_timeout(timeout, lambda: _post(on_failure.webhook or "", body)), log)


def _send_and_log(kind: str, deliver: Callable[[], None], log: Log) -> None:
    try:
        deliver()
    except Exception as error:  # no failure here may change how the run ends
        log.error("on_failure did not get through", kind=kind, reason=str(error) or type(error).__name__)
    else:
        log.info("on_failure was told", kind=kind)


def _run_command(command: list[str], body: bytes, timeout: float) -> None:
    """Run the command with files for its input and output: a pipe would stay open while any grandchild lives."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as output:
        stdin.write(body)
        stdin.seek(0)
        process = subprocess.Popen(command, stdin=stdin, stdout=output, stderr=output, start_new_session=True)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise TimeoutError(f"{command[0]} did not end within {timeout:g} s") from None
        if code:
            output.seek(0)
            last_words = " ".join(output.read().decode(errors="replace").split())[-_MAX_OUTPUT_CHARS:]
            raise RuntimeError(f"{command[0]} ended with {code}: {last_words}")


def _post(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")  # noqa: S310 - open_url checks it

    def post() -> None:
        try:
            open_url(request, _ATTEMPT_SECONDS).close()
        except HTTPError as error:
            error.close()  # it is also the response, and keeps the connection open
            raise

    with_retries(post, _is_transient, _RETRIES)


def _is_transient(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code == 429 or error.code >= 500
    return isinstance(error, OSError)


def _run_with_timeout(timeout: float, work: Callable[[], None]) -> None:
    """Do `work` in a thread, which is abandoned when the time is up: a socket's timeout limits each read only.

    Raises:
        TimeoutError: The time is up.
        Exception: The error of `work`.
    """
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            work()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {timeout:g} s")
    if errors:
        raise errors[0]
