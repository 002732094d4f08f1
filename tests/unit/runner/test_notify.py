"""`on_failure` notifies a command or a webhook of a failed run, in bounded time, without changing the run."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from small_pipeline import write_pipeline

from lakehouse import logs
from lakehouse.cli import main
from lakehouse.config import OnFailure, load
from lakehouse.errors import ConfigError
from lakehouse.runner import notify

WRITE = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"


class Hook(ThreadingHTTPServer):
    """A webhook that answers with `codes` in turn, and keeps what it received."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.codes, self.received, self.delay, self.location = [200], list[Any](), 0.0, ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/hidden-path"


class Answer(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.headers["Content-Type"], json.loads(body)))
        time.sleep(self.server.delay)
        self.send_response(self.server.codes.pop(0) if len(self.server.codes) > 1 else self.server.codes[0])
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.received.append("GET")
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def send(on_failure: OnFailure, document: dict[str, Any], seconds: float = 20) -> list[dict[str, Any]]:
    """Send a document and return the events that were logged."""
    stream = io.StringIO()
    notify.send(on_failure, document, logs.create_logger("json", stream=stream), seconds)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_command_gets_the_document_on_stdin(tmp_path: Path) -> None:
    (event,) = send(OnFailure(command=[sys.executable, "-c", WRITE, str(tmp_path / "received")]), {"run_id": "7"})

    assert event["event"] == "on_failure was told"
    assert json.loads((tmp_path / "received").read_text()) == {"run_id": "7"}


def test_a_webhook_gets_it_by_post(hook: Hook) -> None:
    (event,) = send(OnFailure(webhook=hook.url), {"run_id": "7"})

    assert event["event"] == "on_failure was told"
    assert hook.received == [("application/json", {"run_id": "7"})]


def test_a_busy_webhook_is_retried_and_a_refusing_one_is_not(hook: Hook) -> None:
    hook.codes = [503, 200]
    assert send(OnFailure(webhook=hook.url), {})[-1]["event"] == "on_failure was told"
    assert len(hook.received) == 2

    hook.codes = [403]
    (event,) = send(OnFailure(webhook=hook.url), {})
    assert (event["event"], event["level"]) == ("on_failure did not get through", "error")
    assert "403" in event["reason"]
    assert len(hook.received) == 3


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_webhook_that_redirects_is_not_followed_and_logged_as_a_failure(hook: Hook, code: int) -> None:
    with Hook() as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        hook.codes, hook.location = [code], other.url

        (event,) = send(OnFailure(webhook=hook.url), {"run_id": "7"})
        other.shutdown()

        assert other.received == []
    assert event["event"] == "on_failure did not get through"
    assert f"{code}" in event["reason"]
    assert "redirects are not followed" in event["reason"]
    assert len(hook.received) == 1


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; print('no\\nroute', file=sys.stderr); sys.exit(7)", "ended with 7: no route"),
        # A grandchild keeps the input and output open while it lives; nothing waits for it.
        ("import subprocess; subprocess.run(['sleep', '60'])", "did not end within 0.5 s"),
    ],
)
def test_a_command_that_fails_or_hangs_is_logged_and_abandoned(program: str, reason: str) -> None:
    began = time.monotonic()
    (event,) = send(OnFailure(command=[sys.executable, "-c", program]), {}, seconds=0.5 if "sleep" in program else 20)

    assert reason in event["reason"]
    assert time.monotonic() - began < 15


def test_a_missing_command_is_logged() -> None:
    (event,) = send(OnFailure(command=["/no/such/program"]), {})

    assert "/no/such/program" in event["reason"]


def test_a_webhook_that_does_not_answer_is_abandoned(hook: Hook) -> None:
    hook.delay = 3
    began = time.monotonic()
    (event,) = send(OnFailure(webhook=hook.url), {}, seconds=0.5)

    assert event["reason"] == "no answer within 0.5 s"
    assert time.monotonic() - began < 2.5


def test_neither_the_document_nor_the_log_has_a_secret(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_known_secrets", {"c4nary", hook.url})
    hook.codes = [500]
    events = send(OnFailure(webhook=hook.url), {"error": "login c4nary refused"}, seconds=20)

    assert hook.received[0][1] == {"error": "login *** refused"}
    assert "hidden-path" not in json.dumps(events)
    assert "hidden-path" not in repr(OnFailure(webhook=hook.url))


@pytest.mark.parametrize("is_command_broken", [False, True], ids=["sent", "not sent"])
def test_a_failed_run_is_notified_and_keeps_its_exit_code(
    tmp_path: Path, is_command_broken: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    received = tmp_path / "received"
    command = ["/no/such/program"] if is_command_broken else [sys.executable, "-c", WRITE, str(received)]
    pipeline = write_pipeline(tmp_path, on_failure={"command": command})

    assert main(["run", str(pipeline)]) == 2
    assert main(["run", str(pipeline)]) == 2

    if is_command_broken:
        assert "on_failure did not get through" in capsys.readouterr().err
        return
    document = json.loads(received.read_text())
    assert {k: document[k] for k in ("pipeline", "doing", "exit_code", "repeats", "outcomes")} == {
        "pipeline": "shop",
        "doing": "run",
        "exit_code": 2,
        "repeats": 1,
        "outcomes": [],
    }
    assert "does not exist" in document["error"]
    assert {"run_id", "started", "ended", "seconds", "lake", "version"} <= document.keys()


def test_a_successful_run_sends_no_notification(tmp_path: Path) -> None:
    pipeline = write_pipeline(
        tmp_path, on_failure={"command": [sys.executable, "-c", WRITE, str(tmp_path / "received")]}
    )
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "items.csv").write_text("id\n1\n")

    assert main(["extract", str(pipeline)]) == 0
    assert not (tmp_path / "received").exists()


@pytest.mark.parametrize(
    ("on_failure", "message"),
    [
        ({}, "on_failure: has no recipient"),
        ({"webhook": "hooks.example.org/T0"}, "on_failure.webhook: expected a URL that begins with https"),
        ({"command": "mail ops"}, "on_failure.command: "),
        ({"command": []}, "on_failure.command: "),
        ({"comand": ["x"]}, 'did you mean "command"?'),
    ],
)
def test_an_on_failure_without_a_target_is_rejected(tmp_path: Path, on_failure: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as rejected:
        load(write_pipeline(tmp_path, on_failure=on_failure))

    assert message in rejected.value.found
    assert "T0" not in rejected.value.found
