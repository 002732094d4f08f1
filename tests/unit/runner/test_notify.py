"""`on_failure`: a command or a webhook hears of a failed run, in bounded time, and changes nothing about it."""

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

from lakehouse import logs
from lakehouse.cli import main
from lakehouse.config import OnFailure, load
from lakehouse.errors import ConfigError
from lakehouse.runner import notify

WRITE = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"


class Hook(ThreadingHTTPServer):
    """A webhook: answers with `codes` in turn, and keeps what it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.codes, self.heard, self.delay = [200], list[Any](), 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/hidden-path"


class Answer(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.headers["Content-Type"], json.loads(body)))
        time.sleep(self.server.delay)
        self.send_response(self.server.codes.pop(0) if len(self.server.codes) > 1 else self.server.codes[0])
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def told(on_failure: OnFailure, document: dict[str, Any], seconds: float = 20) -> list[dict[str, Any]]:
    """The log's events of telling it."""
    to = io.StringIO()
    notify.send(on_failure, document, logs.create_logger("json", stream=to), seconds)
    return [json.loads(line) for line in to.getvalue().splitlines()]


def shop(folder: Path, on_failure: dict[str, Any]) -> Path:
    table = {"file": "items.csv", "format": "csv", "schema": "id STRING", "keys": ["id"]}
    document = {
        "name": "shop",
        "lake": str(folder / "lake"),
        "source": {"type": "files", "path": str(folder / "nowhere")},
        "tables": {"items": table},
        "on_failure": on_failure,
    }
    (folder / "pipeline.json").write_text(json.dumps(document))
    return folder


def test_a_command_gets_the_document_on_stdin(tmp_path: Path) -> None:
    (event,) = told(OnFailure(command=[sys.executable, "-c", WRITE, str(tmp_path / "heard")]), {"run_id": "7"})

    assert event["event"] == "on_failure was told"
    assert json.loads((tmp_path / "heard").read_text()) == {"run_id": "7"}


def test_a_webhook_gets_it_by_post(hook: Hook) -> None:
    (event,) = told(OnFailure(webhook=hook.url), {"run_id": "7"})

    assert event["event"] == "on_failure was told"
    assert hook.heard == [("application/json", {"run_id": "7"})]


def test_a_webhook_that_is_busy_is_asked_again_and_one_that_refuses_is_not(hook: Hook) -> None:
    hook.codes = [503, 200]
    assert told(OnFailure(webhook=hook.url), {})[-1]["event"] == "on_failure was told"
    assert len(hook.heard) == 2

    hook.codes = [403]
    (event,) = told(OnFailure(webhook=hook.url), {})
    assert (event["event"], event["level"]) == ("on_failure did not get through", "error")
    assert "403" in event["reason"]
    assert len(hook.heard) == 3


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; print('no\\nroute', file=sys.stderr); sys.exit(7)", "ended with 7: no route"),
        # A grandchild holds what it was given for as long as it lives: nobody waits for it.
        ("import subprocess; subprocess.run(['sleep', '60'])", "did not end within 0.5 s"),
    ],
)
def test_a_command_that_fails_or_hangs_is_logged_and_left(program: str, reason: str) -> None:
    began = time.monotonic()
    (event,) = told(OnFailure(command=[sys.executable, "-c", program]), {}, seconds=0.5 if "sleep" in program else 20)

    assert reason in event["reason"]
    assert time.monotonic() - began < 15


def test_a_command_that_is_not_there_is_logged() -> None:
    (event,) = told(OnFailure(command=["/no/such/program"]), {})

    assert "/no/such/program" in event["reason"]


def test_a_webhook_that_does_not_answer_is_left(hook: Hook) -> None:
    hook.delay = 3
    began = time.monotonic()
    (event,) = told(OnFailure(webhook=hook.url), {}, seconds=0.5)

    assert event["reason"] == "no answer within 0.5 s"
    assert time.monotonic() - began < 2.5


def test_neither_the_document_nor_the_log_has_a_secret(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_known_secrets", {"c4nary", hook.url})
    hook.codes = [500]
    events = told(OnFailure(webhook=hook.url), {"error": "login c4nary refused"}, seconds=20)

    assert hook.heard[0][1] == {"error": "login *** refused"}
    assert "hidden-path" not in json.dumps(events)
    assert "hidden-path" not in repr(OnFailure(webhook=hook.url))


@pytest.mark.parametrize("also_broken", [False, True], ids=["told", "not told either"])
def test_a_failed_run_is_told_and_ends_as_it_would_have(
    tmp_path: Path, also_broken: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = tmp_path / "heard"
    command = ["/no/such/program"] if also_broken else [sys.executable, "-c", WRITE, str(heard)]
    pipeline = shop(tmp_path, {"command": command})

    assert main(["run", str(pipeline)]) == 2
    assert main(["run", str(pipeline)]) == 2

    if also_broken:
        assert "on_failure did not get through" in capsys.readouterr().err
        return
    document = json.loads(heard.read_text())
    assert {k: document[k] for k in ("pipeline", "doing", "exit_code", "repeats", "outcomes")} == {
        "pipeline": "shop",
        "doing": "run",
        "exit_code": 2,
        "repeats": 1,
        "outcomes": [],
    }
    assert "is not there" in document["error"]
    assert {"run_id", "started", "ended", "seconds", "lake", "version"} <= document.keys()


def test_a_run_that_does_well_tells_nobody(tmp_path: Path) -> None:
    pipeline = shop(tmp_path, {"command": [sys.executable, "-c", WRITE, str(tmp_path / "heard")]})
    (tmp_path / "nowhere").mkdir()

    assert main(["extract", str(pipeline)]) == 0
    assert not (tmp_path / "heard").exists()


@pytest.mark.parametrize(
    ("on_failure", "says"),
    [
        ({}, "on_failure: names nobody"),
        ({"webhook": "hooks.example.org/T0"}, "on_failure.webhook: expected an address"),
        ({"command": "mail ops"}, "on_failure.command: "),
        ({"command": []}, "on_failure.command: "),
        ({"comand": ["x"]}, 'did you mean "command"?'),
    ],
)
def test_an_on_failure_that_names_nobody_is_refused(tmp_path: Path, on_failure: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(shop(tmp_path, on_failure))

    assert says in refused.value.found
    assert "T0" not in refused.value.found
