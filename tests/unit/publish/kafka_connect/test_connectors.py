"""Connectors are registered with Kafka Connect: the requests, and what its responses lead to. Without Connect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from connect_double import SINK, SOURCE, Connect, running_connect

from lakehouse.cli import main
from lakehouse.config import load
from lakehouse.errors import ConfigError, ExitCode
from lakehouse.publish.kafka_connect import connectors

CANARY = "canary-of-the-connectors"


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    with running_connect(monkeypatch) as connect:
        yield connect


@pytest.fixture
def shop(tmp_path: Path, rest: Connect) -> Callable[..., str]:
    """Writes a pipeline with two connectors; returns its path."""

    def written(url: str = "", **sink: Any) -> str:
        files = {
            "source.json": {"name": "source", "config": {"connector.class": SOURCE, "database.password": "${env:P}"}},
            "sink.json": {"name": "sink", "config": {"connector.class": SINK, "flush.size": "1", **sink}},
        }
        for name, document in files.items():
            (tmp_path / name).write_text(json.dumps(document))
        table = {"file": "t.csv", "format": "csv", "schema": "id STRING", "keys": ["id"]}
        document = {
            "name": "shop",
            "lake": str(tmp_path / "lake"),
            "source": {"type": "files", "path": str(tmp_path)},
            "tables": {"t": table},
            "connect": {"url": url or rest.url, "connectors": list(files)},
        }
        (tmp_path / "pipeline.json").write_text(json.dumps(document))
        return str(tmp_path)

    return written


def documents(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["connect", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


# Applying


def test_connectors_are_registered_once_and_again_only_if_they_differ(
    rest: Connect, shop: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, first = documents(capsys, "apply", shop())
    assert code == ExitCode.OK
    assert [(c["name"], c["state"], c["tasks"], c["change"]) for c in first["connectors"]] == [
        ("source", "RUNNING", ["RUNNING"], "created"),
        ("sink", "RUNNING", ["RUNNING"], "created"),
    ]
    assert rest.configs["source"] == {"connector.class": SOURCE, "database.password": "${env:P}"}

    rest.requests.clear()
    assert [c["change"] for c in documents(capsys, "apply", shop())[1]["connectors"]] == ["unchanged", "unchanged"]
    assert rest.writes == []

    changes = [c["change"] for c in documents(capsys, "apply", shop(**{"flush.size": "2"}))[1]["connectors"]]
    assert changes == ["unchanged", "updated"]
    assert rest.configs["sink"]["flush.size"] == "2"


def test_what_connect_rejects_is_reported_in_its_words_and_nothing_is_changed(
    rest: Connect, shop: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    rest.errors = {"flush.size": ["Invalid value 0 for configuration flush.size: Value must be at least 1"]}
    code, document = documents(capsys, "apply", shop())
    assert code == ExitCode.USAGE
    assert "sink.json: flush.size: Invalid value 0 for configuration flush.size" in document["error"]["found"]
    assert rest.writes == []


def test_a_missing_plugin_is_named_with_those_that_the_worker_has(
    rest: Connect, shop: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = documents(capsys, "apply", shop(**{"connector.class": "com.example.Sink"}))
    assert code == ExitCode.USAGE
    assert "com.example.Sink" in document["error"]["found"] and SINK in document["error"]["found"]
    assert rest.writes == []


def test_a_failed_connector_is_reported_with_its_cause_and_restarted_by_the_next_apply(
    rest: Connect, shop: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    rest.trace = (
        "org.apache.Exc: task failed\n\tat a.b(C.java:1)\nCaused by: no publication lakehouse_gold\n\tat d.e(F)"
    )
    running, failed = ("RUNNING", ["RUNNING"]), ("RUNNING", ["FAILED"])
    rest.states = {"source": [("RUNNING", []), running, running, failed]}  # it ran until it had to connect
    code, document = documents(capsys, "apply", shop())
    assert code == ExitCode.REFUSED
    assert document["error"]["found"].startswith(
        "source failed: org.apache.Exc: task failed\nCaused by: no publication"
    )
    assert "C.java" not in document["error"]["found"]

    rest.states = {"source": [failed, running]}
    code, found = documents(capsys, "apply", shop())
    assert (code, [c["change"] for c in found["connectors"]]) == (ExitCode.OK, ["restarted", "unchanged"])
    assert "/connectors/source/restart?includeTasks=true&onlyFailed=true" in rest.writes


def test_a_connector_that_does_not_start_in_time_can_be_retried(rest: Connect, shop: Callable[..., str]) -> None:
    rest.states = {"sink": [("UNASSIGNED", [])]}
    pipeline = load(shop())
    with pytest.raises(connectors.InfrastructureError, match="sink is UNASSIGNED, its tasks none"):
        connectors.apply(pipeline, timeout=0.1)


def test_a_paused_connector_stays_paused(rest: Connect, shop: Callable[..., str]) -> None:
    rest.states = {"sink": [("PAUSED", ["PAUSED"])]}
    assert connectors.apply(load(shop()))["connectors"][1]["state"] == "PAUSED"


def test_a_rebalance_and_a_server_error_are_retried(rest: Connect, shop: Callable[..., str]) -> None:
    rest.instead = [(409, {"message": "rebalance"}), (500, b"not json")]
    assert connectors.apply(load(shop()))["exit_code"] == ExitCode.OK


def test_an_unreachable_or_failing_connect_can_be_retried(
    rest: Connect, shop: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = documents(capsys, "status", shop(url="http://127.0.0.1:1/"))
    assert code == ExitCode.INFRASTRUCTURE
    assert document["error"]["where"] == "http://127.0.0.1:1"
    rest.instead = [(503, {"message": "starting"})] * 3
    code, document = documents(capsys, "status", shop())
    assert (code, "503: starting" in document["error"]["found"]) == (ExitCode.INFRASTRUCTURE, True)


# Status


def test_status_shows_each_connector_with_its_tasks_and_errors(
    rest: Connect, shop: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = documents(capsys, "status", shop())
    assert code == ExitCode.REFUSED
    assert [c["state"] for c in found["connectors"]] == ["not registered", "not registered"]
    documents(capsys, "apply", shop())
    assert documents(capsys, "status", shop())[0] == ExitCode.OK

    rest.trace, rest.states = "a.b.C: the bucket is not there", {"sink": [("RUNNING", ["RUNNING", "FAILED"])]}
    code, found = documents(capsys, "status", shop())
    assert (code, found["exit_code"]) == (ExitCode.REFUSED, ExitCode.REFUSED)
    wanted = {"name": "sink", "state": "RUNNING", "tasks": ["RUNNING", "FAILED"], "error": rest.trace, "rights": ""}
    assert found["connectors"][1] == wanted


# Secrets


@pytest.mark.parametrize("name", ["s3.secret.access.key", "database.password", "consumer.override.sasl.jaas.config"])
def test_a_secret_in_a_file_is_rejected_and_not_repeated(
    rest: Connect, shop: Callable[..., str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["connect", "apply", shop(**{name: CANARY})]) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert name in captured.err and "${env:" in captured.err
    assert CANARY not in captured.err + captured.out
    assert rest.requests == []


def test_connects_login_is_sent_as_a_header_and_never_shown(
    rest: Connect, shop: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = rest.url.replace("http://", f"http://ana:{CANARY}@")
    rest.trace, rest.states = f"cannot log in as {CANARY}", {"sink": [("FAILED", [])]}
    documents(capsys, "apply", shop(url=url))
    assert main(["connect", "status", shop(url=url)]) == ExitCode.REFUSED
    captured = capsys.readouterr()
    assert {headers.get("Authorization", "")[:6] for headers in rest.headers} == {"Basic "}
    assert CANARY not in captured.out + captured.err


# The configuration


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"url": "host:8083"}, "begins with http"),
        ({"connectors": ["nowhere.json"]}, "no such file"),
        ({"connectors": []}, "at least one"),
        ({"objects": "s3a://lake/topics"}, "objects and topics go together"),
        ({"objects": "s3://lake/topics", "topics": {"t": "items"}}, "expected s3a://bucket/prefix"),
        ({"objects": "s3a://lake/topics", "topics": {"t": "items"}}, "not in publish.postgres.tables"),
        ({"uri": "http://h"}, "unknown key"),
    ],
)
def test_invalid_connect_sections_are_rejected(
    shop: Callable[..., str], tmp_path: Path, section: dict[str, Any], message: str
) -> None:
    shop()
    file = tmp_path / "pipeline.json"
    document = json.loads(file.read_text())
    document["connect"] |= section
    file.write_text(json.dumps(document))
    with pytest.raises(ConfigError) as error:
        load(file)
    assert message in error.value.found and "connect" in error.value.found


def test_a_pipeline_without_connectors_is_rejected(
    shop: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop()
    file = tmp_path / "pipeline.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "connect"}))
    code, document = documents(capsys, "status", str(tmp_path))
    assert (code, document["error"]["found"]) == (ExitCode.USAGE, "the pipeline names no connectors")


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "n"}', '{"name": "n", "config": {"a": 1}}', '{"config": {}}'])
def test_a_connector_file_with_another_format_is_rejected(
    shop: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path = shop()
    (tmp_path / "sink.json").write_text(content)
    code, document = documents(capsys, "apply", path)
    assert code == ExitCode.USAGE
    assert document["error"]["where"] == str(tmp_path / "sink.json")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_its_target_gets_no_login(
    rest: Connect, shop: Callable[..., str], capsys: pytest.CaptureFixture[str], code: int
) -> None:
    # The target is the same server under another name, as a proxy of somebody else would be.
    port = rest.url.rpartition(":")[2]
    rest.location = f"http://localhost:{port}/elsewhere"
    rest.instead = [(code, {})]

    assert main(["connect", "status", shop(f"http://ana:{CANARY}@127.0.0.1:{port}")]) == ExitCode.USAGE

    error = capsys.readouterr().err
    assert f"with {code}" in error
    assert "redirects are not followed" in error
    assert not any("elsewhere" in path for _, path in rest.requests)
    assert len(rest.headers) == 1


def test_a_cut_error_of_a_task_leaves_no_part_of_a_secret(
    rest: Connect, shop: Callable[..., str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "s3cr3t-of-the-worker"
    monkeypatch.setenv("CDC_PASSWORD", secret)
    for padding in range(460, 500):
        rest.trace = f"{'x' * padding} {secret} is wrong"
        rest.states = {"source": [("RUNNING", ["FAILED"])], "sink": [("RUNNING", ["RUNNING"])]}
        rest.configs = {"source": {}, "sink": {}}
        _, document = documents(capsys, "status", shop())
        error = next(c["error"] for c in document["connectors"] if c["name"] == "source")
        assert error and secret[:4] not in error


def test_an_answer_without_an_end_is_not_read_whole(
    rest: Connect, shop: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    rest.instead = [(200, b"[" + b" " * (17 << 20) + b"]")]

    code, document = documents(capsys, "apply", shop())

    assert (code, "an answer of more than 16 MiB" in document["error"]["found"]) == (ExitCode.INFRASTRUCTURE, True)


def test_a_missing_right_is_named_and_no_other_detail_of_the_server(
    rest: Connect, shop: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    rest.trace = (
        "io.debezium.DebeziumException: no slot\n\tat a.b(C.java:1)\n"
        "Caused by: org.postgresql.util.PSQLException: FATAL: permission denied to start WAL sender\n"
        "  Detail: Only roles with the REPLICATION attribute may start a WAL sender process.\n\tat d.e(F)\n"
        "Caused by: org.postgresql.util.PSQLException: ERROR: duplicate key\n  Detail: (cpf)=(12345678909) exists.\n"
    )
    rest.states = {"source": [("RUNNING", ["FAILED"])], "sink": [("RUNNING", ["RUNNING"])]}
    rest.configs = {"source": {}, "sink": {}}

    _, document = documents(capsys, "status", shop())

    error = next(c["error"] for c in document["connectors"] if c["name"] == "source")
    assert "Detail: Only roles with the REPLICATION attribute" in error
    assert "12345678909" not in error
