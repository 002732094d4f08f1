"""A double of Kafka Connect's REST API, for tests of what is asked of it: `running_connect`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import stamina

from lakehouse.publish.kafka_connect import connectors

SINK, SOURCE = "lakehouse.connect.S3JsonSink", "io.debezium.connector.postgresql.PostgresConnector"
Answer = tuple[int, Any]


@dataclass
class Connect:
    """A server that answers as Connect would: it has connectors with their configurations and states."""

    url: str = ""
    configs: dict[str, dict[str, str]] = field(default_factory=dict)
    states: dict[str, list[tuple[str, list[str]]]] = field(default_factory=dict)  # the last one is repeated
    errors: dict[str, list[str]] = field(default_factory=dict)  # of a setting
    instead: list[Answer] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    trace: str = ""
    location: str = ""

    def answer(self, method: str, path: str, body: Any) -> Answer:
        self.requests.append((method, path))
        if self.instead:
            return self.instead.pop(0)
        match [method, *path.partition("?")[0].strip("/").split("/")]:
            case ["GET", "connector-plugins"]:
                return 200, [{"class": SINK, "type": "sink"}, {"class": SOURCE, "type": "source"}]
            case ["PUT", "connector-plugins", _, "config", "validate"]:
                values = [{"name": k, "value": v, "errors": self.errors.get(k, [])} for k, v in body.items()]
                return 200, {"error_count": 0, "configs": [{"value": value} for value in values]}
            case ["GET", "connectors", name, "config"] if name in self.configs:
                return 200, self.configs[name] | {"name": name}
            case ["PUT", "connectors", name, "config"]:
                self.configs[name] = body
                return 201, {}
            case ["POST", "connectors", name, "restart"]:
                return 202, {}
            case ["GET", "connectors", name, "status"] if name in self.configs:
                states = self.states.get(name, [("RUNNING", ["RUNNING"])])
                state, tasks = states.pop(0) if len(states) > 1 else states[0]
                trace = {"trace": self.trace} if self.trace else {}
                tasks_document = [
                    {"id": n, "state": one} | (trace if one == "FAILED" else {}) for n, one in enumerate(tasks)
                ]
                return 200, {"connector": {"state": state}, "tasks": tasks_document}
        return 404, {"error_code": 404, "message": f"there is no {path}"}

    @property
    def writes(self) -> list[str]:
        return [path for method, path in self.requests if method in ("PUT", "POST") and "validate" not in path]


@contextmanager
def running_connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Run a server without real delays during the block: no test waits for it."""
    monkeypatch.setattr(connectors, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(connectors, "_SETTLE_SECONDS", 0.05)
    state = Connect()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            state.headers.append(dict(self.headers))
            status, document = state.answer(self.command, self.path, json.loads(body) if body else None)
            content = json.dumps(document).encode() if not isinstance(document, bytes) else document
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if state.location:
                self.send_header("Location", state.location)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = _any

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        with stamina.set_testing(True, attempts=3):
            yield state
        server.shutdown()
        thread.join()
