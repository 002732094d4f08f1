"""An engine serves only commands that need the same JVM: whatever a JVM cannot change later changes the key."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lakehouse.spark.engine import key

SETTINGS = {"spark.app.name": "lakehouse shop", "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A machine with a Java, a Spark and credentials."""
    for name in ("java/bin/java", "spark/jars/delta.jar", "spark/conf/log4j2.properties", ".aws/credentials"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("1")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").touch()
    (tmp_path / "bin/python3").symlink_to("python")
    (tmp_path / "java/release").write_text('JAVA_VERSION="17.0.15"\n')
    return tmp_path


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "JAVA_HOME": str(home / "java"), "PATH": "/usr/bin", "AWS_ACCESS_KEY_ID": "AKIA1"} | {
        "PYSPARK_PYTHON": str(home / "bin/python")
    }


Change = Callable[[dict[str, str], dict[str, str], Path], Any]
OTHER_JVM: dict[str, Change] = {
    "a setting": lambda settings, environment, home: settings.update({"spark.driver.memory": "4g"}),
    "the options for large data": lambda settings, environment, home: settings.update(
        {"spark.driver.extraJavaOptions": "-XX:+UseParallelGC"}
    ),
    "credentials": lambda settings, environment, home: environment.update(AWS_ACCESS_KEY_ID="AKIA2"),
    "a session token": lambda settings, environment, home: environment.update(AWS_SESSION_TOKEN="t"),
    "a proxy": lambda settings, environment, home: environment.update(https_proxy="http://proxy:3128"),
    "the time zone": lambda settings, environment, home: environment.update(TZ="America/Sao_Paulo"),
    "the language": lambda settings, environment, home: environment.update(LC_ALL="pt_BR.UTF-8"),
    "options for Java": lambda settings, environment, home: environment.update(JAVA_TOOL_OPTIONS="-Xmx2g"),
    "a variable of Hadoop": lambda settings, environment, home: environment.update(HADOOP_USER_NAME="ana"),
    "a file of credentials": lambda settings, environment, home: (home / ".aws/credentials").write_text("other"),
    "another Java in its place": lambda settings, environment, home: (home / "java/bin/java").write_text("newer"),
    "another jar": lambda settings, environment, home: (home / "spark/jars/delta.jar").write_text("newer"),
    "Spark's configuration": lambda settings, environment, home: (home / "spark/conf/core-site.xml").write_text("x"),
    "another home": lambda settings, environment, home: environment.update(HOME="/nowhere"),
}
SAME_JVM: dict[str, Change] = {
    "nothing": lambda settings, environment, home: None,
    "the name of the pipeline": lambda settings, environment, home: settings.update({"spark.app.name": "lakehouse x"}),
    "another terminal": lambda settings, environment, home: environment.update(TERM="xterm", PWD="/tmp", SHLVL="3"),
    "a secret that no JVM reads": lambda settings, environment, home: environment.update(PGPASSWORD="s3same"),
    "the PATH": lambda settings, environment, home: environment.update(PATH="/usr/local/bin:/usr/bin"),
    "what PySpark sets": lambda settings, environment, home: environment.update(SPARK_BUFFER_SIZE="65536"),
    "another name of the same Python": lambda settings, environment, home: environment.update(
        PYSPARK_PYTHON=str(home / "bin/python3")
    ),
    "our own variables": lambda settings, environment, home: environment.update(LAKEHOUSE_ENGINE_IDLE="1h"),
}


def keys_before_and_after(change: Change, environment: dict[str, str], home: Path) -> tuple[str, str]:
    settings = dict(SETTINGS)
    before = key.engine_key(settings, environment, home / "spark")
    change(settings, environment, home)
    return before, key.engine_key(settings, environment, home / "spark")


@pytest.mark.parametrize("change", OTHER_JVM.values(), ids=OTHER_JVM)
def test_a_property_of_the_jvm_changes_the_key(change: Change, environment: dict[str, str], home: Path) -> None:
    before, after = keys_before_and_after(change, environment, home)

    assert before != after


@pytest.mark.parametrize("change", SAME_JVM.values(), ids=SAME_JVM)
def test_nothing_else_changes_the_key(change: Change, environment: dict[str, str], home: Path) -> None:
    before, after = keys_before_and_after(change, environment, home)

    assert before == after


@pytest.mark.parametrize("name", ["pyspark", "delta-spark", "lakehouse"])
def test_another_version_changes_the_key(
    name: str, environment: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = key._versions()
    before = key.engine_key(SETTINGS, environment, home / "spark")
    monkeypatch.setattr(key, "_versions", lambda: versions | {name: "99"})

    assert key.engine_key(SETTINGS, environment, home / "spark") != before


def test_the_mask_for_new_files_changes_the_key(environment: dict[str, str], home: Path) -> None:
    """The JVM writes the files of the lake with the mask that it was started with."""
    before = key.engine_key(SETTINGS, environment, home / "spark")
    mask = os.umask(0o027)
    try:
        assert key.engine_key(SETTINGS, environment, home / "spark") != before
    finally:
        os.umask(mask)


def test_the_jvm_gets_the_variables_of_the_key_and_no_secret_besides(environment: dict[str, str]) -> None:
    """Otherwise a later command could read what an earlier one had in its environment."""
    secrets = {"PGPASSWORD": "s3same", "KAGGLE_KEY": "k", "LAKEHOUSE_PII_KEY": "p", "MY_TOKEN": "t"}

    assert key.jvm_environment(environment | secrets) == environment


def test_people_see_the_versions_and_no_secret(environment: dict[str, str], home: Path) -> None:
    about = key.describe(SETTINGS, environment)

    assert about["java"] == "17.0.15"
    assert (about["data"], about["storage"]) == ("small", "disk")
    assert "AKIA1" not in str(about)
