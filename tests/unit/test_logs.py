"""Log lines on stderr, as text or JSON, never contain a secret, in whatever encoding."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from small_pipeline import write_pipeline

from lakehouse import logs
from lakehouse.cli import main
from lakehouse.config import load
from lakehouse.errors import DataRefused
from lakehouse.retry import RetryPolicy, with_retries
from lakehouse.text import MAX_CHARS, visible

CANARY = "c4nary/pass+word"
SECRETS = (
    *("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "KAGGLE_KEY", "PGPASSWORD"),
    *("DB_PASS", "MY_PWD", "API_KEY", "apikey"),
)
MORE_SECRETS = (
    "DBPASS",
    "PGPWD",
    "GH_PAT",
    "DBPASS_PROD",
    "AZURE_SAS",
    "sharedAccessKey",
    "ACCOUNT_KEY",
    "SIGNING_KEY",
)
MORE_SECRETS += ("AZURE_STORAGE_CONNECTION_STRING", "SLACK_WEBHOOK_URL", "PROXY_AUTH", "MY_JWT", "SSHKEY")
NO_SECRETS = (
    *("PWD", "OLDPWD", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
    *(
        "KEYS",
        "TOKENIZERS",
        "LAKE_ROOT",
        "PATH",
        "SSH_AUTH_SOCK",
        "AUTHOR",
        "PASSENGERS",
        "MONKEY",
        "PATTERN",
        "SIGNAL",
    ),
)


@pytest.fixture(autouse=True)
def no_known_secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logs, "_known_secrets", set())
    yield
    logs._secrets_pattern.cache_clear()


@pytest.mark.parametrize(
    "encoded",
    [
        CANARY,
        quote(CANARY, safe=""),
        base64.b64encode(CANARY.encode()).decode(),
        base64.urlsafe_b64encode(CANARY.encode()).decode().rstrip("="),
        quote(CANARY, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
        CANARY.encode().hex(),
        CANARY.encode().hex().upper(),
    ],
    ids=["plain", "in a URL", "base64", "base64 for URLs", "lower case in a URL", "hex", "HEX"],
)
def test_a_secret_is_masked_in_every_encoding(encoded: str) -> None:
    logs.register_secrets(env={"SHOP_PASSWORD": CANARY})

    assert logs.redact(f"login {encoded} refused") == "login *** refused"


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SESSION_TOKEN",
        "KAGGLE_KEY",
        "PGPASSWORD",
        "DB_PASS",
        "MY_PWD",
        "API_KEY",
        "apikey",
        *MORE_SECRETS,
    ],
)
def test_a_variable_is_a_secret_by_its_name(name: str) -> None:
    logs.register_secrets(env={name: CANARY})

    assert CANARY not in logs.redact(f"found {CANARY}")


@pytest.mark.parametrize(
    "name",
    NO_SECRETS,
)
def test_paths_and_ordinary_variables_are_no_secrets(name: str) -> None:
    logs.register_secrets(env={name: "/home/shop/lake"})

    assert logs.redact("wrote /home/shop/lake") == "wrote /home/shop/lake"


def test_a_short_value_of_the_environment_is_not_masked() -> None:
    logs.register_secrets(env={"HAS_TOKEN": "false"})

    assert logs.redact("nothing_new=false") == "nothing_new=false"


@pytest.mark.parametrize("before", [b"", b"u:", b"user:", b"username:", b"any"])
def test_a_secret_inside_a_longer_text_in_base64_is_masked(before: bytes) -> None:
    logs.register_secrets(env={"SHOP_PASSWORD": CANARY})
    encoded = base64.b64encode(before + CANARY.encode() + b"!after").decode()

    redacted = logs.redact(encoded)

    # At each end, up to two characters of the secret share a character of base64 with what is beside it.
    rest = base64.b64decode(redacted.partition("***")[0][: len(redacted.partition("***")[0]) // 4 * 4])
    assert "***" in redacted
    assert len(rest) <= len(before) + 1


def test_a_line_of_a_secret_of_several_lines_is_masked() -> None:
    logs.register_secrets(env={"SIGNING_KEY": "-----BEGIN KEY-----\nc4naryline1\nc4naryline2\n"})

    assert logs.redact("cannot parse c4naryline2") == "cannot parse ***"
    assert "c4nary" not in logs.redact(visible("-----BEGIN KEY-----\nc4naryline1\nc4naryline2\n"))


@pytest.mark.parametrize(
    "field",
    [
        {"pii_key": "${SHOP}"},
        {"on_failure": {"webhook": "https://hooks.example.org/${SHOP}"}},
        {"source": {"type": "jdbc", "url": "jdbc:postgresql://h/d", "password": "${SHOP}"}},
        {"source": {"type": "jdbc", "url": "jdbc:postgresql://h/d?password=${SHOP}"}},
        {"connect": {"url": "http://ana:${SHOP}@h:1", "connectors": ["c.json"]}},
        {"publish": {"postgres": {"url": "postgresql://ana:x${SHOP}y@h/d", "tables": {"bronze.items": "t"}}}},
        {"publish": {"postgres": {"url": "${URL}", "tables": {"bronze.items": "t"}}}},
    ],
    ids=["pii_key", "webhook", "password", "parameter", "connect", "part of a login", "URL"],
)
def test_a_value_filled_into_a_secret_field_is_masked_whatever_its_variable_is_called(
    tmp_path: Path, field: dict[str, object]
) -> None:
    value = "c4nary-of-more-than-thirty-two-characters"
    items = {"file": "items", "format": "parquet", "schema": "id STRING", "keys": ["id"]}
    (tmp_path / "c.json").write_text('{"name": "c", "config": {}}')
    folder = write_pipeline(tmp_path, **{"tables": {"items": items}} | field)
    loaded = load(folder, {"SHOP": value, "URL": f"postgresql://ana:{value}@h/d"})

    logs.register_secrets(loaded, env={})

    assert value not in logs.redact(f"found {value}")
    assert logs.redact("http://h:1 and ana and items") == "http://h:1 and ana and items"


@pytest.mark.parametrize(
    "text",
    [
        "https://x.blob.core.windows.net/c/f.csv?sv=2022&sig=c4nary%2Bx%3D&se=2026",
        "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=c4nary==;EndpointSuffix=y",
        "Endpoint=sb://x/;SharedAccessKeyName=Root;SharedAccessKey=c4nary",
        "https://h/f?X-Amz-Credential=c4nary&X-Amz-Signature=c4nary",
        "{'Authorization': 'Bearer c4nary.x-y'}",
        "Authorization: Basic c4nary==",
        "dbpass=c4nary; pwd=c4nary, apikey=c4nary",
    ],
)
def test_an_unregistered_parameter_is_masked_by_its_name(text: str) -> None:
    assert "c4nary" not in logs.redact(text)
    assert logs.redact("monkey=1 rows=2 sign=3 compare=4 key=5") == "monkey=1 rows=2 sign=3 compare=4 key=5"


def test_secrets_of_the_configuration_are_masked(tmp_path: Path) -> None:
    source = {"type": "jdbc", "url": "jdbc:postgresql://ana:in-the-url@db/shop", "user": "ana", "password": "geheim1"}
    webhook = "https://hooks.example.org/services/T0/secret-path"
    items = {"file": "items", "format": "parquet", "schema": "id STRING", "keys": ["id"]}
    options = {"fetchsize": 1000}
    on_failure = {"webhook": webhook}
    folder = write_pipeline(
        tmp_path, source=source | {"options": options}, tables={"items": items}, on_failure=on_failure
    )
    logs.register_secrets(load(folder), env={})

    redacted = logs.redact(f"ana in-the-url geheim1 1000 {webhook}")

    assert redacted == "ana *** *** 1000 ***"


def test_an_unregistered_login_in_a_url_is_masked() -> None:
    assert (
        logs.redact("to postgresql://u:p@h:5432/d?password=x&ssl=1")
        == "to postgresql://***@h:5432/d?password=***&ssl=1"
    )
    assert logs.redact("s3a://lake/a@b and https://h/x") == "s3a://lake/a@b and https://h/x"


@pytest.mark.parametrize(
    "text",
    [
        *("x" * 1_000_000, "token" * 200_000, "a.b-c" * 200_000, "x=token" * 150_000, "password=" * 100_000),
        *("://" * 300_000, "://" + "a" * 1_000_000, "... (1 characters)" * 50_000, "a,b;" * 250_000),
    ],
    ids=lambda text: text[:12],
)
def test_a_text_of_a_megabyte_is_redacted_at_once(text: str) -> None:
    logs.register_secrets(env={f"TOKEN_{n}": f"c4nary-{n:04}" * 4 for n in range(20)})
    logs.redact("")  # compiles the pattern
    started = time.process_time()

    redacted = logs.redact(text)
    logs.register_secrets(env={"SHOP_URL": text})

    assert time.process_time() - started < 1
    assert len(redacted) < 300_000


@pytest.mark.parametrize("position", range(len(CANARY) + 50))
def test_a_cut_leaves_no_part_of_a_secret(position: int) -> None:
    logs.register_secrets(env={"SHOP_PASSWORD": CANARY})
    long = logs.redact("y" * (100_000 - position) + CANARY + "z" * 100)
    error = logs.redact(DataRefused("y" * (MAX_CHARS - position) + CANARY + "z" * 100).to_text())

    assert not any(CANARY[:length] in text for text in (long, error) for length in (4, 9))


def test_a_long_secret_takes_no_more_memory_than_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "\n".join(f"{n:063}" for n in range(200))
    logs.register_secrets(env={"SIGNING_KEY": key})
    tracemalloc.start()
    try:
        redacted = logs.redact(visible("y" * 1_900 + key))
        memory = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert redacted.startswith("y" * 1_900 + "***")
    assert "0" not in redacted.partition("... (")[0]
    assert memory < 10 << 20


def test_a_login_of_a_url_that_a_cut_divides_is_masked() -> None:
    text = visible("to postgresql://ana:unregistered-password@host", 45)

    assert logs.redact(text) == "to postgresql://***... (46 characters)"


def test_a_json_log_has_one_object_per_line_and_no_secrets() -> None:
    logs.register_secrets(env={"KAGGLE_KEY": CANARY})
    stream = io.StringIO()
    log = logs.create_logger("json", stream=stream).bind(run_id="run-7")

    log.info("done", table="itens-ção", inserted=3, note=[f"key {CANARY}"], **{CANARY: None})
    log.warning("again")

    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "done",
        "level": "info",
        "run_id": "run-7",
        "table": "itens-ção",
        "inserted": 3,
        "note": ["key ***"],
        "***": None,
    }
    assert (second["event"], second["level"]) == ("again", "warning")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_value_forges_no_line_and_sends_nothing_to_the_terminal(log_format: logs.LogFormat) -> None:
    stream = io.StringIO()
    hostile = "a\r2026-01-31 02:00:00Z  all is well\x1b]52;c;aGk=\x07\x9b2J\u202e\u2028b\x85c"

    logs.create_logger(log_format, stream=stream).warning(hostile, **{"na\nme": hostile, "long": f"one\n{hostile}"})

    lines = stream.getvalue().removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line[:4] for line in lines] == (["2026", "    ", "    "] if log_format == "text" else ['{"na'])
    if log_format == "json":
        assert json.loads(lines[0])["na\nme"] == hostile


def test_a_text_log_has_warnings_only() -> None:
    stream = io.StringIO()
    log = logs.create_logger("text", stream=stream)

    log.info("run begun")
    log.warning("stopped, as asked", before="silver", error="one\ntwo")

    (line, *below) = stream.getvalue().splitlines()
    assert line[19:] == "Z  stopped, as asked  before=silver"
    assert below == ["    one", "    two"]


def test_retries_are_logged_to_stderr_and_never_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logs.log_retries(logs.create_logger("json", stream=stream))
    logs.register_secrets(env={"KAGGLE_KEY": CANARY})
    errors = [OSError(f"reset {CANARY}")]

    def work() -> None:
        if errors:
            raise errors.pop()

    with_retries(work, OSError, RetryPolicy(attempts=2, wait_initial=0, wait_jitter=0))

    (logged,) = map(json.loads, stream.getvalue().splitlines())
    assert (logged["event"], logged["attempt"], logged["reason"]) == ("trying again", 1, "reset ***")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("how", ["--log json", "--log=json", "environment"])
def test_an_error_is_one_json_line_and_stdout_stays_empty(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = how.split() if how.startswith("--") else []
    if not words:
        monkeypatch.setenv("LAKEHOUSE_LOG", "json")
    monkeypatch.setenv("SHOP_TOKEN", "t0psecret")

    code = main(["extract", str(write_pipeline(tmp_path)), "t0psecret", *words])

    captured = capsys.readouterr()
    logged = json.loads(captured.err)
    assert (code, logged["exit_code"], logged["level"], captured.out) == (2, 2, "error", "")
    assert logged["found"] == "shop has no ***"


def test_a_stage_logs_its_steps_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/items.csv").write_text("id\n1\n")

    assert main(["extract", str(write_pipeline(tmp_path)), "--log", "json", "--json"]) == 0

    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.err.splitlines()]
    assert [e["event"] for e in events] == ["run begun", "stage begun", "done", "run ended"]
    assert {e["run_id"] for e in events} == {json.loads(captured.out)["run_id"]}
    assert {e["pipeline"] for e in events} == {"shop"}
    done = events[2]
    assert {k: done[k] for k in ("stage", "table", "status", "snapshots", "code")} == {
        "stage": "extract",
        "table": "items",
        "status": "landed",
        "snapshots": 1,
        "code": 0,
    }
    assert events[3]["exit_code"] == 0


def test_under_spark_submit_stdout_has_only_the_document(tmp_path: Path) -> None:
    """spark-submit starts a job with stderr redirected to stdout; so does the parent process here."""
    command = [sys.executable, "-m", "lakehouse", "validate", str(tmp_path), "--json"]
    parent = f"import subprocess, sys; sys.exit(subprocess.call({command!r}, stderr=subprocess.STDOUT))"
    environment = os.environ | {"PYSPARK_GATEWAY_PORT": "1"}

    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, env=environment, timeout=60, check=False
    )

    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["found"] == "a folder without a pipeline"
    assert done.stderr.startswith("found:    a folder without a pipeline")
