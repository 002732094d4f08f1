"""The checks of pipeline.yml: errors, variables, source and what is published to."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest
from small_pipeline import write_pipeline

from lakehouse import config
from lakehouse.config import Connect, Pipeline
from lakehouse.doctor import examine, settings
from lakehouse.doctor.finding import Finding
from lakehouse.extract.kafka import topics
from lakehouse.storage.paths import Lake


def pipeline(folder: Path, **parts: object) -> Pipeline:
    (folder / "source").mkdir(exist_ok=True)
    (folder / "source/items.csv").write_text("id\na\n")
    return config.load(write_pipeline(folder, **parts))


def results(findings: object) -> dict[str, tuple[str, int]]:
    assert isinstance(findings, list)
    return {finding.of: (finding.result, int(finding.code)) for finding in findings if isinstance(finding, Finding)}


def test_each_error_of_the_configuration_is_a_line_and_the_lake_is_checked_all_the_same(tmp_path: Path) -> None:
    write_pipeline(tmp_path, kyes=1, tuning={"none_such": 1})
    result = examine(str(tmp_path))
    errors = [finding for finding in result.findings if finding.check == "configuration"]
    assert [finding.code for finding in errors] == [2, 2]
    assert all(finding.next_step == f"lakehouse validate {tmp_path}" for finding in errors)
    assert {"lake", "lock", "state", "ledger"} <= {finding.check for finding in result.findings}
    assert result.exit_code == 2


def test_a_file_that_is_no_yaml_leaves_the_checks_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yml").write_text("lake: [")
    result = examine(str(tmp_path))
    assert {"java", "python", "packages", "configuration", "lake"} <= {finding.check for finding in result.findings}
    assert result.exit_code == 2


def test_variables_are_named_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_SET", "hunter2hunter2")
    monkeypatch.setenv("SHOP_EMPTY", "")
    (tmp_path / ".env").write_text("SHOP_FILE=hunter3hunter3\n")
    (tmp_path / ".env").chmod(0o644)
    names = "${SHOP_SET}${SHOP_EMPTY}${SHOP_FILE}${SHOP_MISSING}${SHOP_DEFAULT:-x}"
    write_pipeline(tmp_path, on_failure={"webhook": f"https://{names}"})
    findings = list(settings.check_variables(str(tmp_path)))
    assert results(findings) == {
        "SHOP_SET": ("ok", 0),
        "SHOP_EMPTY": ("warning", 0),
        "SHOP_FILE": ("ok", 0),
        "SHOP_MISSING": ("wrong", 2),
        "SHOP_DEFAULT": ("ok", 0),
        ".env": ("warning", 0),
    }
    assert "hunter" not in str([finding.document() for finding in findings])


def test_a_source_that_is_missing_or_not_ready_is_reported(tmp_path: Path) -> None:
    checked = pipeline(tmp_path)
    lake = settings.find_lake(str(tmp_path))
    assert lake is not None
    assert results(list(settings.check_source(checked, lake))) == {"files": ("ok", 0)}

    source = {"type": "files", "path": str(tmp_path / "dated"), "ready": {"file": "_SUCCESS"}}
    (tmp_path / "dated/20250101").mkdir(parents=True)
    waiting = pipeline(tmp_path, source=source)
    assert results(list(settings.check_source(waiting, lake))) == {"files": ("warning", 0)}

    missing = pipeline(tmp_path, source={"type": "files", "path": str(tmp_path / "none")})
    assert results(list(settings.check_source(missing, lake))) == {"files": ("wrong", 2)}


def test_a_database_that_does_not_answer_is_worth_a_retry(tmp_path: Path) -> None:
    url = "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1"
    model = {"silver": {"items": {"keys": ["id"]}}}
    (tmp_path / "silver").mkdir()
    (tmp_path / "silver/items.sql").write_text("SELECT i.id AS id FROM bronze.items AS i")
    publish = {"postgres": {"url": url, "tables": {"silver.items": "items"}}}
    checked = pipeline(tmp_path, publish=publish, **model)
    assert results(list(settings.check_publish(checked))) == {"postgres": ("wrong", 3)}

    jdbc = {"type": "jdbc", "url": "jdbc:postgresql://127.0.0.1:1/none?connectTimeout=1"}
    lake = settings.find_lake(str(tmp_path))
    assert lake is not None
    table = {"file": "items", "format": "parquet", "schema": "id STRING", "keys": ["id"]}
    database = pipeline(tmp_path, source=jdbc, tables={"items": table})
    assert results(list(settings.check_source(database, lake))) == {"jdbc": ("wrong", 3)}


class _Answers(http.server.BaseHTTPRequestHandler):
    code = 200

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


def test_kafka_connect_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connect = Connect.model_construct(url=f"http://user:hunter2@127.0.0.1:{server.server_port}")
    subject = settings.Subject("publish", "connect")
    try:
        for answer, code in ((200, 0), (401, 2), (500, 3)):
            monkeypatch.setattr(_Answers, "code", answer)
            finding = settings._check_connect(subject, connect)
            assert finding.code == code
            assert "hunter2" not in finding.found
    finally:
        server.shutdown()
        server.server_close()
    finding = settings._check_connect(subject, connect)
    assert (finding.result, finding.code) == ("wrong", 3)


def test_the_brokers_of_a_topic_are_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_TIMEOUT", 0.1)
    kafka = {"type": "kafka", "servers": "127.0.0.1:1"}
    table = {"file": "shop.items", "format": "json", "schema": "id INT, nr INT", "keys": ["id"]}
    lake = Lake(str(tmp_path / "lake"))
    found = pipeline(tmp_path, source=kafka, tables={"items": table | {"feed": {"sequence_by": ["nr"]}}})

    assert results(list(settings.check_source(found, lake))) == {"kafka": ("wrong", 3)}
