"""Jars of Spark's packages are used only with the content that the list of SHA-256 has."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.errors import ConfigError
from lakehouse.spark import jars
from lakehouse.storage.spark_conf import read_spark_conf

OURS = read_spark_conf("spark-s3.conf")["spark.jars.packages"]
CONTENT = b"a jar"


@pytest.fixture
def downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of downloaded jars, of which one is on the list."""
    listed = tmp_path / "jars.sha256"
    listed.write_text(f"{hashlib.sha256(CONTENT).hexdigest()}  org_known-1.0.jar\n")
    monkeypatch.setattr(jars, "LIST", listed)
    jars.known_hashes.cache_clear()
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "org_known-1.0.jar").write_bytes(CONTENT)
    yield folder
    jars.known_hashes.cache_clear()


def spark_jars(*files: Path) -> str:
    return ",".join(file.as_uri() for file in files)


def test_a_jar_with_another_content_is_refused_whoever_chose_the_packages(downloaded: Path) -> None:
    jar = downloaded / "org_known-1.0.jar"
    jars.check_jars(spark_jars(jar), OURS)
    jar.write_bytes(b"another jar")

    for packages in (OURS, "org:known:1.0"):
        with pytest.raises(ConfigError, match=r"org_known-1\.0\.jar"):
            jars.check_jars(spark_jars(jar), packages)


def test_a_jar_that_is_not_on_the_list_is_refused_among_the_downloaded_ones_only(downloaded: Path) -> None:
    known, added, own = (
        downloaded / "org_known-1.0.jar",
        downloaded / "org_added-1.0.jar",
        downloaded.parent / "own.jar",
    )
    added.write_bytes(CONTENT)
    own.write_bytes(CONTENT)

    jars.check_jars(spark_jars(known, own), OURS)
    jars.check_jars(spark_jars(known, added), "org:known:1.0,org:added:1.0")
    with pytest.raises(ConfigError, match=r"org_added-1\.0\.jar"):
        jars.check_jars(spark_jars(known, added), OURS)


def test_jars_that_are_not_on_this_machine_are_not_checked(downloaded: Path) -> None:
    jars.check_jars(f"hdfs://name/org_known-1.0.jar,{(downloaded / 'gone.jar').as_uri()}", OURS)
    jars.check_jars("", OURS)


@pytest.mark.parametrize("configuration", ["spark-defaults.conf", "spark-s3.conf"])
def test_the_list_has_every_package_that_is_configured(configuration: str) -> None:
    packages = read_spark_conf(configuration)["spark.jars.packages"].split(",")
    named = {"{}_{}-{}.jar".format(*package.split(":")) for package in packages}

    assert named <= jars.known_hashes().keys()
    assert all(len(digest) == 64 for digest in jars.known_hashes().values())


def test_one_process_at_a_time_downloads_packages_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second = {"spark.jars.packages": "org:first:1.0"}, {"spark.jars.packages": "org:second:1.0"}
    started = {"first": threading.Event(), "second": threading.Event()}

    def start(settings: dict[str, str], name: str) -> None:
        with jars.downloaded_by_one(settings):
            started[name].set()

    others = [threading.Thread(target=start, args=each) for each in ((first, "first"), (second, "second"))]
    with jars.downloaded_by_one(first):
        for other in others:
            other.start()
        assert not started["first"].wait(0.3)
        assert not started["second"].is_set()
    for other in others:
        other.join(10)
    assert all(event.is_set() for event in started.values())

    with jars.downloaded_by_one(first), jars.downloaded_by_one(second), jars.downloaded_by_one({}):
        pass  # nobody waits for what is there
    assert (tmp_path / "lakehouse/packages/downloaded").read_text().splitlines() == ["org:first:1.0", "org:second:1.0"]


def test_packages_of_a_start_that_failed_are_downloaded_again_by_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    with pytest.raises(ConfigError), jars.downloaded_by_one({"spark.jars.packages": "org:first:1.0"}):
        raise ConfigError("did not start")

    assert (tmp_path / "lakehouse/packages/downloaded").read_text() == ""


def test_without_a_folder_for_the_lock_spark_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lakehouse").symlink_to(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    with jars.downloaded_by_one({"spark.jars.packages": "org:first:1.0"}):
        assert not (tmp_path / "packages").exists()
