"""Jars that Maven downloads run only with the content that the lists have."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import jar_lists
import pytest

CONTENT = b"a jar"


@pytest.fixture
def jars(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of jars, and the list of them."""
    folder, jar_list = tmp_path / "target", tmp_path / "jars.sha256"
    for name in ("worker/kafka-1.jar", *jar_lists.OWN_JARS):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(CONTENT)
    jar_list.write_text(f"{hashlib.sha256(CONTENT).hexdigest()}  worker/kafka-1.jar\n")
    return folder, jar_list


def test_jars_that_are_all_on_the_list_are_used(jars: tuple[Path, Path]) -> None:
    jar_lists.check_jars(*jars)


@pytest.mark.parametrize(
    ("name", "content"),
    [("worker/kafka-1.jar", b"another jar"), ("worker/kafka-0.jar", CONTENT), ("worker/kafka-1.jar", None)],
    ids=["changed", "not on the list", "missing"],
)
def test_any_other_jar_is_refused(jars: tuple[Path, Path], name: str, content: bytes | None) -> None:
    file = jars[0] / name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)

    with pytest.raises(RuntimeError, match=f"1 jars in .* are not those of .*: {name}"):
        jar_lists.check_jars(*jars)


def test_the_images_check_the_same_lists_with_sha256sum(jars: tuple[Path, Path]) -> None:
    dockerfile = (jar_lists.HERE.parent / "compose" / "java.Dockerfile").read_text().replace("\\\n", "")
    (command,) = re.findall(r"^RUN cd connect/target && (.*)$", dockerfile, re.MULTILINE)
    assert all(f"! -path ./{name}" in command for name in jar_lists.OWN_JARS)
    assert "sha256sum --check --strict --quiet ../s3proxy/s3proxy.sha256" in dockerfile

    def is_accepted() -> bool:
        return subprocess.run(["sh", "-c", command], cwd=jars[0], capture_output=True, check=False).returncode == 0

    assert is_accepted()
    (jars[0] / "worker/added.jar").write_bytes(CONTENT)
    assert not is_accepted()
    (jars[0] / "worker/added.jar").unlink()
    (jars[0] / "worker/kafka-1.jar").write_bytes(b"another jar")
    assert not is_accepted()


@pytest.mark.parametrize(
    ("jar_list", "pom", "artifacts"),
    [
        (jar_lists.LIST, jar_lists.HERE / "pom.xml", {"kafka.version": "kafka-clients", "awssdk.version": "s3"}),
        (jar_lists.LIST, jar_lists.HERE / "pom.xml", {"debezium.version": "debezium-connector-postgres"}),
        (jar_lists.S3PROXY_LIST, jar_lists.S3PROXY_POM, {"version": "s3proxy"}),
    ],
)
def test_the_lists_have_the_versions_of_the_builds(jar_list: Path, pom: Path, artifacts: dict[str, str]) -> None:
    names = {Path(line.partition("  ")[2]).name for line in jar_list.read_text().splitlines()}

    for setting, artifact in artifacts.items():
        version = re.findall(f"<{setting}>([^<]+)", pom.read_text())[-1]
        assert f"{artifact}-{version}.jar" in names, "make lock-connect-jars"
