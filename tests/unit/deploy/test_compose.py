"""Tests deploy/compose without Docker: the file against the Compose specification and the repository, and the scripts.

tests/live/deploy/test_compose_scripts.py runs the start scripts with the real servers behind them.
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
ENDING = {"airflow-init", "connectors", "publication"}  # one-shot services
JAVA = """#!/usr/bin/env bash
printf '%s\\n' "$@" >> "$ARGUMENTS"
for word in "$@"; do [ ! -f "$word" ] || cp "$word" "$ARGUMENTS.properties"; done
case "$*" in
*random-uuid*) echo an-id ;;
*format*) mkdir -p "$KAFKA_DATA/log" && touch "$KAFKA_DATA/log/meta.properties" ;;
esac
"""


# --- the file ---------------------------------------------------------------------------------------------------


def test_the_file_conforms_to_the_compose_specification(tmp_path: Path) -> None:
    checker = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(TEXT.replace("healthcheck:", "healthchecks:", 1))

    assert subprocess.run([*checker, FILE], capture_output=True, check=False).returncode == 0
    assert subprocess.run([*checker, wrong], capture_output=True, check=False).returncode == 1


def test_no_service_has_rights_that_it_does_not_need() -> None:
    assert {name for name, s in SERVICES.items() if s.get("cap_drop") != ["ALL"]} == set()
    assert {name for name, s in SERVICES.items() if s.get("security_opt") != ["no-new-privileges:true"]} == set()
    assert {name for name, s in SERVICES.items() if s.get("cap_add")} == {"postgres"}  # it starts as root
    assert {
        name for name, s in SERVICES.items() if s.get("privileged") or s.get("network_mode") or s.get("pid")
    } == set()
    sockets = {name for name, s in SERVICES.items() if "docker.sock" in str(s.get("volumes"))}
    assert sockets == set()
    writable = {name for name, s in SERVICES.items() if not s.get("read_only")}
    assert writable == {"connectors", "spark-worker"} | {name for name in SERVICES if name.startswith("airflow-")}
    assert all("/tmp" in str(s["tmpfs"]) for name, s in SERVICES.items() if name not in writable)
    users = [re.findall(r"^USER (\S+)", file.read_text(), re.MULTILINE) for file in DOCKERFILES]
    assert users == [["lakehouse"]] * len(DOCKERFILES)


def test_every_foreign_image_is_pinned_to_a_version() -> None:
    named = {s["image"] for s in SERVICES.values()}
    named |= {base for d in DOCKERFILES for base in re.findall(r"^FROM (\S+)", d.read_text(), re.MULTILINE)}

    assert {name for name in named if ":" not in name} == {"lakehouse-java", "lakehouse-python"}  # built here
    assert all(re.fullmatch(r"[a-z-]+:\d+\.\d+[\w.-]*", name) for name in named if ":" in name)


def test_every_service_has_a_health_check_and_waits_for_its_dependencies() -> None:
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) != (name in ENDING), name
        assert service["restart"].startswith("on-failure" if name in ENDING else "unless-stopped"), name
        for needed, on in service.get("depends_on", {}).items():
            ends = "service_completed_successfully" if needed in ENDING else "service_healthy"
            assert on == {"condition": ends}, (name, needed)
    needs = {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    assert needs["connect"] == {"kafka", "postgres", "s3"}
    assert {"airflow-init", "airflow-api", "spark-worker"} == needs["airflow-scheduler"]


def test_lasting_data_is_on_named_volumes_and_each_is_used() -> None:
    used = {v.partition(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v[0] not in "./$"}

    assert used == yaml.safe_load(TEXT)["volumes"].keys()
    assert SERVICES["publication"]["volumes"][1].startswith(
        "../connect:"
    )  # the SQL that is run by hand in other deployments
    places = {name: [v.split(":")[-1] for v in SERVICES[name].get("volumes", [])] for name in SERVICES}
    assert places["kafka"] == places["s3"] == ["/data"]
    # The driver and the executors have the lake at the same path.
    assert "/srv/lake" in places["airflow-scheduler"] and "/srv/lake" in places["spark-worker"]


def test_the_file_has_no_secrets_and_the_example_names_every_required_variable() -> None:
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


def test_only_user_interfaces_have_ports_and_only_on_the_loopback() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert ports.keys() == {"airflow-api", "s3"}
    assert all(port.startswith("127.0.0.1:") for each in ports.values() for port in each)


# --- the images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_every_copied_path_exists_and_is_not_ignored(dockerfile: Path) -> None:
    text = dockerfile.read_text().replace("\\\n", " ")
    copied = [w for line in re.findall(r"^COPY (?!--from)(.*)", text, re.MULTILINE) for w in line.split()[:-1]]
    sources = [word for word in copied if not word.startswith("--")]
    let_in = [line[1:] for line in Path(f"{dockerfile}.dockerignore").read_text().splitlines() if line[0] == "!"]

    assert sources
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert any(f"{source}/".startswith(f"{each}/") for each in let_in), source


def test_every_command_is_in_the_image_of_its_service() -> None:
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
def test_a_script_is_valid_bash_and_stops_at_the_first_error(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Return a function that runs a script with stubs of java, airflow and spark-class; it returns their arguments."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("java", "airflow", "spark-class"):
        (programs / name).write_text(JAVA)
        (programs / name).chmod(0o755)

    def called(script: str, *words: str, **environ: str) -> tuple[list[str], str]:
        arguments_file = tmp_path / "arguments"
        arguments_file.unlink(missing_ok=True)
        own = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "ARGUMENTS": str(arguments_file),
            "TMPDIR": str(tmp_path),
        } | environ
        done = subprocess.run(
            [COMPOSE / "start" / script, *words], env=own, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        properties = Path(f"{arguments_file}.properties")
        return arguments_file.read_text().splitlines(), properties.read_text() if properties.exists() else ""

    return called


@pytest.fixture
def config(tmp_path: Path) -> str:
    for name in ("broker.properties", "worker.properties"):
        (tmp_path / name).write_text("base=kept")
    return str(tmp_path)


def test_kafka_formats_its_disk_once_and_advertises_its_host_name(run: Any, config: str, tmp_path: Path) -> None:
    given = {"KAFKA_DATA": str(tmp_path / "kafka"), "KAFKA_HOST": "kafka", "KAFKA_CONFIG": config}
    first, properties = run("kafka.sh", **given)
    second, _ = run("kafka.sh", **given)

    assert [w for w in first if w.startswith("kafka.") or w == "format"] == [
        *("kafka.tools.StorageTool", "kafka.tools.StorageTool", "format", "kafka.Kafka")
    ]
    assert "an-id" in first
    assert "kafka.tools.StorageTool" not in second
    assert {"base=kept", "advertised.listeners=PLAINTEXT://kafka:9092"} < set(properties.splitlines())


def test_connect_gets_its_settings_without_secrets(run: Any, config: str) -> None:
    words, properties = run("connect.sh", KAFKA="kafka:9092", CDC_PASSWORD="canary-4711", KAFKA_CONFIG=config)

    assert words[-2] == "org.apache.kafka.connect.cli.ConnectDistributed"
    assert {"base=kept", "bootstrap.servers=kafka:9092", "rest.advertised.host.name=127.0.0.1"} < set(
        properties.splitlines()
    )
    assert "canary" not in properties + "".join(words)


def test_s3_gets_its_bucket_and_no_key_in_its_arguments(run: Any, tmp_path: Path) -> None:
    key = {"AWS_ACCESS_KEY_ID": "canary-4711", "AWS_SECRET_ACCESS_KEY": "canary-4712", "S3_BUCKET": "lake"}
    words, properties = run("s3.sh", S3_DATA=str(tmp_path / "s3"), **key)

    assert (tmp_path / "s3/lake").is_dir()
    assert "canary" not in "".join(words)
    assert "s3proxy.credential=canary-4712" in properties
    assert Path(words[-1]).stat().st_mode & 0o77 == 0


def test_spark_and_airflow_are_started_with_the_given_settings(run: Any, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("script", "missing"), [("s3.sh", "AWS_ACCESS_KEY_ID"), ("connect.sh", "KAFKA")])
def test_a_script_names_a_missing_variable(script: str, missing: str, tmp_path: Path) -> None:
    own = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    done = subprocess.run([COMPOSE / "start" / script], env=own, capture_output=True, text=True, check=False)

    assert done.returncode != 0 and missing in done.stderr


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


def test_a_health_check_accepts_only_an_answer_of_200(answering: int) -> None:
    def well(*words: str) -> bool:
        return subprocess.run([COMPOSE / "start/healthy.sh", *words], capture_output=True, check=False).returncode == 0

    assert well(str(answering)) and well(str(answering), "/well")
    assert not well(str(answering), "/ill")
    assert not well("1")


@pytest.mark.parametrize("name", [n for n, service in SERVICES.items() if service["image"].startswith("lakehouse-")])
def test_a_service_of_our_images_has_no_capabilities_and_gets_none(name: str) -> None:
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]
