"""The checks of a machine: Java, Python, packages and jars."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from lakehouse.doctor import machine
from lakehouse.spark import jars


def java(folder: Path, version: str | None) -> str:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/java").touch()
    (folder / "lib/server").mkdir(parents=True)
    (folder / "lib/server/libjvm.so").touch()
    if version:
        (folder / "release").write_text(f'JAVA_VERSION="{version}"\n')
    return str(folder)


@pytest.mark.parametrize(
    ("version", "result", "found"),
    [
        ("17.0.15", "ok", "Java 17.0.15"),
        ("25.0.3", "ok", "Java 25.0.3"),
        ("25.0.2", "wrong", "can damage the Parquet files"),
        ("11.0.2", "wrong", "Spark needs 17 or later"),
        (None, "warning", "does not state its version"),
    ],
)
def test_java_is_checked_by_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, result: str, found: str
) -> None:
    monkeypatch.setenv("JAVA_HOME", java(tmp_path, version))
    (finding,) = machine.check_java()
    assert (finding.result, finding.code) == (result, 2 if result == "wrong" else 0)
    assert found in finding.found
    assert bool(finding.next_step) == (result != "ok")


def test_a_machine_without_java_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    (finding,) = machine.check_java()
    assert (finding.result, finding.code) == ("wrong", 2)
    assert str(tmp_path) in finding.found


def test_packages_have_to_fit_this_version_and_the_jar(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = metadata.version
    assert [finding.result for finding in machine.check_packages()] == ["ok"]

    monkeypatch.setattr(metadata, "version", lambda name: "4.3.1" if name == "pyspark" else installed(name))
    monkeypatch.setattr(metadata, "requires", lambda _: ["pyspark<4.3,>=4.2", "boto3; extra == 's3'", "none-such>=1"])
    findings = list(machine.check_packages())
    assert {finding.result for finding in findings} == {"wrong"}
    assert [finding.found.split(";")[0] for finding in findings] == [
        "pyspark 4.3.1 is installed",
        "none-such is not installed",
        "pyspark 4.3.1 and delta-spark 4.4.0 do not fit the jar delta-spark_4.2_2.13:4.4.0",
    ]


def test_jars_have_the_content_that_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = machine.check_jars(tmp_path)
    assert finding.result == "warning"  # the first run downloads them

    (tmp_path / "a.jar").write_bytes(b"a")
    (tmp_path / "own.jar").write_bytes(b"of the user")
    expected = {"a.jar": jars.hash_file(tmp_path / "a.jar")}
    monkeypatch.setattr(jars, "known_hashes", lambda: expected)
    assert [finding.result for finding in machine.check_jars(tmp_path)] == ["ok"]

    (tmp_path / "a.jar").write_bytes(b"b")
    (finding,) = machine.check_jars(tmp_path)
    assert (finding.result, finding.code) == ("wrong", 2)
    assert finding.next_step.startswith(f"rm {tmp_path / 'a.jar'}")
