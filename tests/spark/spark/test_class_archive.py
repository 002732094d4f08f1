"""When a local session uses an archive of classes, and when Spark is started as it would be without.

Java, Spark and the jars are files without a content that matters.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from pyspark import SparkContext

from lakehouse.errors import InfrastructureError
from lakehouse.spark import build_class_archive, class_archive, session
from lakehouse.spark.class_archive import Archive, after_start, faster_launch, find_archive, make_room
from lakehouse.spark.launch import Launch
from lakehouse.storage.paths import Lake

DAY = 86_400.0
PLAIN = Launch({"spark.jars.packages": "io.delta:delta:4.4.0", "spark.driver.extraJavaOptions": "-Xss4m"})


class Machine:
    """A Java, a Spark and the jars of a package, below one folder."""

    def __init__(self, folder: Path) -> None:
        self.java, self.spark, self.cache = folder / "java", folder / "spark", folder / "cache" / "lakehouse"
        self.jars = [folder / "ivy" / "delta.jar", folder / "ivy" / "storage.jar"]
        for file in ("bin/java", "release", "lib/modules", "lib/server/libjvm.so", "lib/server/classes.jsa"):
            write(self.java / file, "17.0.15")
        (self.java / "bin" / "java").chmod(0o755)
        for file in [self.spark / "jars" / "slf4j-api-2.jar", self.spark / "jars" / "spark-core.jar", *self.jars]:
            write(file, file.name)

    def resolve(self) -> None:
        after_start(PLAIN, ",".join(jar.as_uri() for jar in self.jars), None)

    def archive(self) -> Archive:
        archive = find_archive([str(jar) for jar in self.jars])
        assert archive is not None
        return archive

    def build(self) -> Archive:
        archive = self.archive()
        write(archive.file, "classes")
        archive.describe()
        return archive


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def options(launch: Launch) -> str:
    return launch.settings["spark.driver.extraJavaOptions"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    for name in (*class_archive._USERS_OWN, *class_archive._JAVA_VARIABLES, class_archive.SWITCH):
        monkeypatch.delenv(name, raising=False)
    for name in ("_lower_priority", "_log_to"):  # they would change this process
        monkeypatch.setattr(build_class_archive, name, lambda *arguments: None)
    machine = Machine(tmp_path)
    monkeypatch.setenv("JAVA_HOME", str(machine.java))
    monkeypatch.setenv("SPARK_HOME", str(machine.spark))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return machine


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The class paths for which a build was started."""
    started: list[str] = []
    monkeypatch.setattr(class_archive, "_start_build", started.append)
    yield started


# --- the sequence of sessions ---------------------------------------------------------------------------------


def test_the_first_session_uses_packages_and_starts_no_build(machine: Machine, builds: list[str]) -> None:
    """A container that is thrown away after one command would build archives that nobody uses."""
    assert faster_launch(PLAIN) == PLAIN
    machine.resolve()
    assert builds == []


def test_the_second_session_has_the_jars_on_its_class_path_and_starts_a_build(
    machine: Machine, builds: list[str]
) -> None:
    machine.resolve()

    launch = faster_launch(PLAIN)

    class_path = ":".join(map(str, machine.jars))
    assert launch.settings == {"spark.driver.extraJavaOptions": "-Xss4m"}
    assert launch.environment == {
        "SPARK_CONF_DIR": str(machine.cache / "spark-conf"),
        class_archive.CLASS_PATH: class_path,
    }
    assert list((machine.cache / "spark-conf").iterdir()) == []
    after_start(launch, "", os.getpid())
    assert builds == [class_path]


def test_later_sessions_use_the_archive(machine: Machine, builds: list[str]) -> None:
    machine.resolve()
    archive = machine.build()

    launch = faster_launch(PLAIN)
    with archive.file.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):  # as the JVM does
        after_start(launch, "", os.getpid())

    assert archive.exists()
    assert options(launch).startswith(f"-Xss4m -XX:SharedArchiveFile={archive.file} -Xshare:auto ")
    assert builds == []
    assert options(class_archive.without_archive(launch)) == "-Xss4m"


def test_the_cache_folder_is_for_its_user_only(machine: Machine) -> None:
    machine.resolve()
    assert machine.cache.stat().st_mode & 0o077 == 0


# --- an archive that does not fit ------------------------------------------------------------------------------


def test_an_archive_of_another_java_is_not_used(machine: Machine) -> None:
    machine.resolve()
    machine.build()
    write(machine.java / "release", "17.0.16, the next build")
    assert "SharedArchiveFile" not in options(faster_launch(PLAIN))
    machine.build()
    os.utime(machine.java / "lib" / "server" / "classes.jsa", (1, 1))  # Java's own archive, which ours extends
    assert "SharedArchiveFile" not in options(faster_launch(PLAIN))


@pytest.mark.parametrize("change", ["spark's jar", "another jar of spark", "java options"])
def test_an_archive_of_other_jars_or_options_is_not_used(
    machine: Machine, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.resolve()
    machine.build()
    if change == "spark's jar":
        os.utime(machine.spark / "jars" / "spark-core.jar", (1, 1))
    elif change == "another jar of spark":
        write(machine.spark / "jars" / "more.jar", "")
    else:
        monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:+UseZGC")
    assert "SharedArchiveFile" not in options(faster_launch(PLAIN))


def test_a_changed_jar_of_a_package_is_resolved_again(machine: Machine) -> None:
    machine.resolve()
    machine.build()
    os.utime(machine.jars[0], (1, 1))
    assert faster_launch(PLAIN) == PLAIN


def test_other_packages_are_resolved_for_themselves(machine: Machine) -> None:
    machine.resolve()
    machine.build()
    other = Launch(PLAIN.settings | {"spark.jars.packages": "io.delta:delta:4.4.0,org.apache.hadoop:hadoop-aws:3.5.0"})
    assert faster_launch(other) == other


@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_an_incomplete_archive_is_not_used_and_is_built_again(machine: Machine, builds: list[str], damage: str) -> None:
    machine.resolve()
    archive = machine.build()
    if damage == "truncated":
        write(archive.file, "class")
    else:
        archive.file.unlink()

    launch = faster_launch(PLAIN)
    after_start(launch, "", os.getpid())

    assert "SharedArchiveFile" not in options(launch)
    assert len(builds) == 1


def test_an_archive_that_java_ignores_is_removed_and_not_built_again_on_the_same_day(
    machine: Machine, builds: list[str]
) -> None:
    machine.resolve()
    archive = machine.build()

    after_start(faster_launch(PLAIN), "", os.getpid())  # this process has not mapped the archive

    assert not archive.file.exists()
    assert not archive.may_be_built()


def test_a_java_that_does_not_start_with_an_archive_is_started_without(
    machine: Machine, builds: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine.resolve()
    archive = machine.build()
    launches: list[Launch] = []

    def create(launch: Launch, lake: Lake, log_to_stderr: bool) -> MagicMock:
        launches.append(launch)
        if "SharedArchiveFile" in options(launch):
            raise InfrastructureError("the JVM crashed")
        return MagicMock()

    monkeypatch.setattr(session, "_create_session", create)
    monkeypatch.setattr(SparkContext, "_gateway", None)
    session.start(faster_launch(PLAIN), Lake(str(tmp_path / "lake")), verbose=False)

    assert [options(launch).count("SharedArchiveFile") for launch in launches] == [1, 0]
    assert not archive.file.exists()


def test_a_damaged_record_of_jars_is_not_used(machine: Machine) -> None:
    machine.resolve()
    (record,) = (machine.cache / "jars").iterdir()
    write(record, '{"/ivy/del')
    assert faster_launch(PLAIN) == PLAIN


@pytest.mark.parametrize(("version", "is_quiet"), [("17.0.15", False), ("21.0.9", False), ("25.0.3", True)])
def test_java_25_reports_no_harmless_differences_of_its_own_archive(
    machine: Machine, version: str, is_quiet: bool
) -> None:
    write(machine.java / "release", f'JAVA_VERSION="{version}"\n')
    machine.resolve()
    machine.build()
    assert ("-Xlog:cds=off:stderr" in options(faster_launch(PLAIN))) is is_quiet


# --- Spark is started as it would be without --------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR", "PYSPARK_SUBMIT_ARGS"])
def test_a_spark_that_the_user_configures_is_left_alone(
    machine: Machine, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.resolve()
    machine.build()
    monkeypatch.setenv(variable, "/etc/spark")
    assert faster_launch(PLAIN) == PLAIN


def test_files_in_sparks_conf_folder_are_respected_except_our_own_defaults(machine: Machine) -> None:
    machine.resolve()
    machine.build()
    ours = Path(__file__).parents[3] / "lakehouse" / "spark" / "spark-defaults.conf"
    write(machine.spark / "conf" / "log4j2.properties.template", "")
    shutil.copy(ours, machine.spark / "conf" / "spark-defaults.conf")
    assert "SharedArchiveFile" in options(faster_launch(PLAIN))

    for text in ("spark.driver.memory 9g", "unreadable"):
        write(machine.spark / "conf" / "spark-defaults.conf", text)
        assert faster_launch(PLAIN) == PLAIN


def test_the_archive_can_be_switched_off(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.resolve()
    machine.build()
    monkeypatch.setenv(class_archive.SWITCH, "off")
    assert faster_launch(PLAIN) == PLAIN


def test_a_cache_folder_that_cannot_be_written_or_that_others_can_write_to_is_not_used(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine.resolve()
    machine.build()
    machine.cache.chmod(0o777)
    assert faster_launch(PLAIN) == PLAIN

    write(tmp_path / "file", "")  # no folder can be created below a file, not even by root
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert faster_launch(PLAIN) == PLAIN
    machine.resolve()


def test_a_java_without_an_archive_of_its_own_gets_none(machine: Machine) -> None:
    machine.resolve()
    (machine.java / "lib" / "server" / "classes.jsa").unlink()
    assert faster_launch(PLAIN) == PLAIN


# --- building ----------------------------------------------------------------------------------------------------


def test_a_build_gets_no_secrets_and_runs_on_its_own(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrX")
    started: list[tuple[list[str], dict[str, object]]] = []

    class Process:
        def __init__(self, command: list[str], **arguments: object) -> None:
            started.append((command, arguments))

    monkeypatch.setattr(subprocess, "Popen", Process)
    machine.resolve()
    after_start(faster_launch(PLAIN), "", os.getpid())

    ((command, arguments),) = started
    assert command[:3] == [sys.executable, "-m", "lakehouse.spark.build_class_archive"]
    assert arguments["start_new_session"] is True
    assert "wJalrX" not in json.dumps(arguments["env"])


def test_two_sessions_at_once_build_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def build(archive: Archive, class_path: str) -> None:
        built.append(class_path)
        if len(built) == 1:  # the other session starts its build while this one works
            assert build_class_archive.main(["--class-path", class_path]) == 0
        machine.build()

    monkeypatch.setattr(build_class_archive, "build", build)
    class_path = ":".join(map(str, machine.jars))
    assert faster_launch(PLAIN) == PLAIN
    assert build_class_archive.main(["--class-path", class_path]) == 0
    assert build_class_archive.main(["--class-path", class_path]) == 0
    assert built == [class_path]


def test_builds_that_fail_are_attempted_three_times_a_day(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[str] = []

    def build(archive: Archive, class_path: str) -> None:
        attempts.append(class_path)
        raise subprocess.CalledProcessError(134, "java")

    monkeypatch.setattr(build_class_archive, "build", build)
    class_path = ":".join(map(str, machine.jars))
    machine.resolve()
    for _ in range(3):
        with pytest.raises(subprocess.CalledProcessError):
            build_class_archive.main(["--class-path", class_path])
    assert build_class_archive.main(["--class-path", class_path]) == 1
    assert len(attempts) == 3
    assert "SharedArchiveFile" not in options(faster_launch(PLAIN))

    yesterday = time.time() - DAY - 1
    os.utime(machine.archive().lock, (yesterday, yesterday))
    assert machine.archive().may_be_built()


def test_no_archive_is_built_when_the_disk_is_nearly_full(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=500 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    machine.resolve()
    assert build_class_archive.main(["--class-path", ":".join(map(str, machine.jars))]) == 1
    assert faster_launch(PLAIN).environment[class_archive.CLASS_PATH]


# --- at most three archives ----------------------------------------------------------------------------------------


def other_archive(machine: Machine, name: str, unused_seconds: float) -> Archive:
    """Return an archive of another class path that was not used for a while."""
    jar = machine.jars[0].with_name(f"{name}.jar")
    write(jar, name)
    archive = find_archive([str(jar)])
    assert archive is not None
    write(archive.file, name)
    archive.describe()
    then = time.time() - unused_seconds
    os.utime(archive.description, (then, then))
    return archive


def test_the_archive_that_was_unused_longest_makes_room_for_a_fourth(machine: Machine) -> None:
    machine.resolve()
    ages = {"a": 3 * DAY, "b": 2 * DAY, "c": 0.0}
    archives = {name: other_archive(machine, name, age) for name, age in ages.items()}
    assert make_room(machine.archive())
    assert {name for name, archive in archives.items() if archive.exists()} == {"b", "c"}


def test_three_archives_in_daily_use_are_kept_and_no_fourth_is_built(machine: Machine) -> None:
    """Otherwise four environments in turn would remove each other's archives, and build all the time."""
    machine.resolve()
    archives = [other_archive(machine, name, 3600.0) for name in "abc"]
    assert not make_room(machine.archive())
    assert all(archive.exists() for archive in archives)


def test_an_archive_whose_files_have_changed_or_that_was_unused_for_months_is_removed(machine: Machine) -> None:
    machine.resolve()
    changed, old = other_archive(machine, "changed", 0.0), other_archive(machine, "old", 61 * DAY)
    write(machine.jars[0].with_name("changed.jar"), "another version")
    assert make_room(machine.archive())
    assert not changed.file.exists()
    assert not old.file.exists()
