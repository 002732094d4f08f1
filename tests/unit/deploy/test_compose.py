"""deploy/compose without Docker: the file against the Compose specification's schema, what it promises against what is
there, and our own start scripts, run. tests/live/deploy/test_compose_scripts.py runs them with the real servers
behind them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

REPOSITORY = Path(__file__).parents[3]
COMPOSE = REPOSITORY / "deploy/compose"
FILE = COMPOSE / "docker-compose.yml"
TEXT = FILE.read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
DOCKERFILES = sorted(COMPOSE.glob("*.Dockerfile"))
SCRIPTS = sorted((COMPOSE / "start").glob("*.sh"))
ENDING = {"airflow-init", "connectors", "publication"}  # they do something and end
JAVA = """#!/usr/bin/env bash
printf '%s\\n' "$@" >> "$SAID"
for word in "$@"; do [ ! -f "$word" ] || cp "$word" "$SAID.properties"; done
case "$*" in
*random-uuid*) echo an-id ;;
*format*) mkdir -p "$KAFKA_DATA/log" && touch "$KAFKA_DATA/log/meta.properties" ;;
esac
"""


# --- the file ---------------------------------------------------------------------------------------------------


def test_the_file_is_what_the_compose_specification_allows(tmp_path: Path) -> None:
    checker = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(TEXT.replace("healthcheck:", "healthchecks:", 1))

    assert subprocess.run([*checker, FILE], capture_output=True, check=False).returncode == 0
    assert subprocess.run([*checker, wrong], capture_output=True, check=False).returncode == 1


def test_every_image_that_is_not_ours_is_pinned_to_a_version() -> None:
    named = {s["image"] for s in SERVICES.values()}
    named |= {base for d in DOCKERFILES for base in re.findall(r"^FROM (\S+)", d.read_text(), re.MULTILINE)}

    assert {name for name in named if ":" not in name} == {"lakehouse-java", "lakehouse-python"}  # built here
    assert all(re.fullmatch(r"[a-z-]+:\d+\.\d+[\w.-]*", name) for name in named if ":" in name)


def test_every_service_says_when_it_is_well_and_waits_for_those_it_needs() -> None:
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) != (name in ENDING), name
        assert service["restart"].startswith("on-failure" if name in ENDING else "unless-stopped"), name
        for needed, on in service.get("depends_on", {}).items():
            ends = "service_completed_successfully" if needed in ENDING else "service_healthy"
            assert on == {"condition": ends}, (name, needed)
    needs = {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    assert needs["connect"] == {"kafka", "postgres", "s3"}
    assert {"airflow-init", "airflow-api", "spark-worker"} == needs["airflow-scheduler"]


def test_what_lasts_is_on_a_named_volume_and_every_one_is_used() -> None:
    used = {v.partition(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v[0] not in "./$"}

    assert used == yaml.safe_load(TEXT)["volumes"].keys()
    assert SERVICES["publication"]["volumes"][1].startswith("../connect:")  # the SQL that people run by hand elsewhere
    places = {name: [v.split(":")[-1] for v in SERVICES[name].get("volumes", [])] for name in SERVICES}
    assert places["kafka"] == places["s3"] == ["/data"]
    # The driver and the executors see the lake alike.
    assert "/srv/lake" in places["airflow-scheduler"] and "/srv/lake" in places["spark-worker"]


def test_no_secret_stands_in_the_file_and_the_example_names_what_has_to_be_given() -> None:
    secret = re.compile(r"PASSWORD|SECRET|KEY|DATABASE$|_URL$")
    for name, service in SERVICES.items():
        for variable, value in (service.get("environment") or {}).items():
            if secret.search(variable) and not re.fullmatch(r"https?://[\w.:/-]+|tesouro", value):
                assert re.search(r"\$\{\w+:\?", value), (name, variable)
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))
    optional = set(re.findall(r"\$\{(\w+):-", TEXT))
    example = (COMPOSE / ".env.example").read_text()

    assert dotenv_values(COMPOSE / ".env.example") == dict.fromkeys(required, "")
    assert set(re.findall(r"^# ([A-Z_0-9]+)=", example, re.MULTILINE)) == optional
    assert set(re.findall(r"\$\{?(\w+)", TEXT)) - {"env"} == required | optional  # the one in a comment


def test_only_what_people_look_at_is_open_and_only_to_this_machine() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert ports.keys() == {"airflow-api", "s3"}
    assert all(port.startswith("127.0.0.1:") for each in ports.values() for port in each)


# --- the images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_what_an_image_copies_is_there_and_let_in(dockerfile: Path) -> None:
    text = dockerfile.read_text().replace("\\\n", " ")
    copied = [w for line in re.findall(r"^COPY (?!--from)(.*)", text, re.MULTILINE) for w in line.split()[:-1]]
    sources = [word for word in copied if not word.startswith("--")]
    let_in = [line[1:] for line in Path(f"{dockerfile}.dockerignore").read_text().splitlines() if line[0] == "!"]

    assert sources
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert any(f"{source}/".startswith(f"{each}/") for each in let_in), source


def test_every_command_is_in_the_image_that_runs_it() -> None:
    for name, service in SERVICES.items():
        if not service["image"].startswith("lakehouse-"):
            continue
        image = (COMPOSE / f"{service['image'].removeprefix('lakehouse-')}.Dockerfile").read_text()
        for words in (service["command"], service.get("healthcheck", {}).get("test", [])[1:]):
            if words and words[0].endswith(".sh"):
                assert f"deploy/compose/start/{words[0]}" in image, name
                assert (COMPOSE / "start" / words[0]).exists()


# --- the start scripts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_read_and_stops_at_what_fails(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Runs a script with a stub of java, airflow and spark-class; the words and the file that the stub was given."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("java", "airflow", "spark-class"):
        (programs / name).write_text(JAVA)
        (programs / name).chmod(0o755)

    def called(script: str, *words: str, **environ: str) -> tuple[list[str], str]:
        said = tmp_path / "said"
        said.unlink(missing_ok=True)
        own = {"PATH": f"{programs}:{os.environ['PATH']}", "SAID": str(said), "TMPDIR": str(tmp_path)} | environ
        done = subprocess.run(
            [COMPOSE / "start" / script, *words], env=own, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        properties = Path(f"{said}.properties")
        return said.read_text().splitlines(), properties.read_text() if properties.exists() else ""

    return called


@pytest.fixture
def config(tmp_path: Path) -> str:
    for name in ("broker.properties", "worker.properties"):
        (tmp_path / name).write_text("base=kept")
    return str(tmp_path)


def test_kafka_formats_its_disk_once_and_is_known_by_its_name(run: Any, config: str, tmp_path: Path) -> None:
    given = {"KAFKA_DATA": str(tmp_path / "kafka"), "KAFKA_HOST": "kafka", "KAFKA_CONFIG": config}
    first, properties = run("kafka.sh", **given)
    second, _ = run("kafka.sh", **given)

    assert [w for w in first if w.startswith("kafka.") or w == "format"] == [
        *("kafka.tools.StorageTool", "kafka.tools.StorageTool", "format", "kafka.Kafka")
    ]
    assert "an-id" in first
    assert "kafka.tools.StorageTool" not in second
    assert {"base=kept", "advertised.listeners=PLAINTEXT://kafka:9092"} < set(properties.splitlines())


def test_connect_gets_its_settings_and_no_secret_in_them(run: Any, config: str) -> None:
    words, properties = run("connect.sh", KAFKA="kafka:9092", CDC_PASSWORD="canary-4711", KAFKA_CONFIG=config)

    assert words[-2] == "org.apache.kafka.connect.cli.ConnectDistributed"
    assert {"base=kept", "bootstrap.servers=kafka:9092", "rest.advertised.host.name=127.0.0.1"} < set(
        properties.splitlines()
    )
    assert "canary" not in properties + "".join(words)


def test_s3_has_its_bucket_and_its_key_in_no_argument(run: Any, tmp_path: Path) -> None:
    key = {"AWS_ACCESS_KEY_ID": "canary-4711", "AWS_SECRET_ACCESS_KEY": "canary-4712", "S3_BUCKET": "lake"}
    words, properties = run("s3.sh", S3_DATA=str(tmp_path / "s3"), **key)

    assert (tmp_path / "s3/lake").is_dir()
    assert "canary" not in "".join(words)
    assert "s3proxy.credential=canary-4712" in properties
    assert Path(words[-1]).stat().st_mode & 0o77 == 0


def test_spark_and_airflow_are_started_with_what_they_are_told(run: Any, tmp_path: Path) -> None:
    spark = {"SPARK_HOME": str(tmp_path), "SPARK_HOST": "here"}
    master, _ = run("spark.sh", "master", **spark)
    worker, _ = run("spark.sh", "worker", "spark://spark-master:7077", **spark)
    own = {
        "AIRFLOW_BIN": str(tmp_path / "bin"),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW_DATABASE": "a:b@postgres/airflow",
    }
    api, _ = run("airflow.sh", "api-server", "--workers", "1", AIRFLOW_ADMIN_PASSWORD="canary-4711", **own)

    assert master[0].endswith("master.Master") and worker[-1] == "spark://spark-master:7077"
    assert api == ["api-server", "--workers", "1"]
    assert json.loads((tmp_path / "passwords.json").read_text()) == {"admin": "canary-4711"}
    assert (tmp_path / "passwords.json").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize(("script", "lacking"), [("s3.sh", "AWS_ACCESS_KEY_ID"), ("connect.sh", "KAFKA")])
def test_a_script_that_lacks_something_names_it(script: str, lacking: str, tmp_path: Path) -> None:
    own = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    done = subprocess.run([COMPOSE / "start" / script], env=own, capture_output=True, text=True, check=False)

    assert done.returncode != 0 and lacking in done.stderr


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/well" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_health_check_tells_who_answers_well_from_who_answers_and_who_does_not(answering: int) -> None:
    def well(*words: str) -> bool:
        return subprocess.run([COMPOSE / "start/healthy.sh", *words], capture_output=True, check=False).returncode == 0

    assert well(str(answering)) and well(str(answering), "/well")
    assert not well(str(answering), "/ill")
    assert not well("1")
