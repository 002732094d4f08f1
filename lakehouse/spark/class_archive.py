"""Starts local sessions from an archive of loaded classes (class-data sharing of the JVM), in the user's cache folder.

A session loads thousands of classes, which takes half of the CPU of its start. The JVM can map them from
a file instead. The file fits one Java and one class path, and the JVM ignores it if it does not.

    1st session   downloads Delta's packages as before; the jars that Spark resolved are recorded
    2nd session   has these jars on its class path, without Spark's search for packages; a process of the lowest
                  priority starts to build the archive (build_class_archive.py)
    later ones    use the archive

So a container that is thrown away after one command never builds any. A failure here makes a start slower and
nothing else. `LAKEHOUSE_CLASS_ARCHIVE=off` turns all of it off. docs/decisions/0021-class-archive.md has measurements.

Below `$XDG_CACHE_HOME/lakehouse` (by default `~/.cache/lakehouse`), for this user only:

    spark-conf/                  an empty folder: no archive is made of a class path with a folder that has files
    jars/<key>.json              the jars of a list of packages
    class-archives/<key>.jsa     an archive; the key is a hash of everything that it depends on
    class-archives/<key>.json    its inputs; its time is that of the last use
    class-archives/<key>.lock    locked while a process builds it; its text counts the attempts
    class-archives/<key>.log     the output of its build
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pyspark.find_spark_home import _find_spark_home

import lakehouse
from lakehouse.spark.jars import list_digest
from lakehouse.spark.java import find_java_home, java_version
from lakehouse.spark.launch import Launch
from lakehouse.storage.file_io import write_atomically
from lakehouse.storage.spark_conf import parse_spark_conf, read_spark_conf

SWITCH = "LAKEHOUSE_CLASS_ARCHIVE"
RECORDING = "-XX:ArchiveClassesAtExit="
# Spark's launcher puts this variable behind Spark's own jars, whose versions of shared libraries win, as they do with
# packages. `spark.driver.extraClassPath` is in front of them: Spark does not start with the older Netty of the AWS SDK.
CLASS_PATH = "SPARK_DIST_CLASSPATH"
_OPTIONS = "spark.driver.extraJavaOptions"
_PACKAGES = ("spark.jars.packages", "spark.jars.excludes")

# With one of these the class path or the settings are the user's: Spark starts as it does without this module.
_USERS_OWN = (
    "SPARK_CONF_DIR",
    "HADOOP_CONF_DIR",
    "YARN_CONF_DIR",
    CLASS_PATH,
    "SPARK_PREPEND_CLASSES",
    "SPARK_TESTING",
    "PYSPARK_SUBMIT_ARGS",
)
_JAVA_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")  # may change how classes are loaded
# A build gets no other variables: it runs longer than the command, whose secrets it does not need.
_BUILD_VARIABLES = ("HOME", "JAVA_HOME", "LANG", "LC_ALL", "PATH", "SPARK_HOME", "TMPDIR", "XDG_CACHE_HOME")

_FORMAT = 1  # part of the key: increase it when archives have to be rebuilt
_KEPT = 3
_UNUSED_SECONDS = 86_400.0  # an archive that was used within a day is not removed to make room
_EXPIRED_SECONDS = 60 * 86_400.0
_ATTEMPTS = 3
_RETRY_SECONDS = 86_400.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """The archive of one Java and one class path, whether it exists or not.

    Attributes:
        folder: The folder of all archives.
        parts: Everything that the archive depends on: the files with size and time, and the environment.
    """

    folder: Path
    parts: dict[str, Any]

    @property
    def key(self) -> str:
        """The hash of the parts."""
        return _digest(self.parts)

    @property
    def file(self) -> Path:
        """The archive."""
        return self.folder / f"{self.key}.jsa"

    @property
    def description(self) -> Path:
        """The file that is written after the archive, and names its parts and size."""
        return self.folder / f"{self.key}.json"

    @property
    def lock(self) -> Path:
        """The file that the process that builds it locks."""
        return self.folder / f"{self.key}.lock"

    @property
    def log(self) -> Path:
        """The file for the output of a build."""
        return self.folder / f"{self.key}.log"

    def exists(self) -> bool:
        """Return whether there is a complete archive."""
        try:
            return bool(_read_json(self.description)["size"] == self.file.stat().st_size)
        except (OSError, KeyError):
            return False

    def describe(self) -> None:
        """Write the description, which completes the archive."""
        document = {"size": self.file.stat().st_size, "parts": self.parts}
        write_atomically(self.description, json.dumps(document).encode())

    def discard(self) -> None:
        """Remove the archive, because it cannot be used; no other is built for a day."""
        for file in (self.description, self.file):
            file.unlink(missing_ok=True)
        self.lock.write_text(str(_ATTEMPTS), encoding="utf-8")

    def may_be_built(self) -> bool:
        """Return whether there is no archive, and a build may succeed: it has not failed several times today."""
        try:
            is_blocked = time.time() - self.lock.stat().st_mtime < _RETRY_SECONDS and self.attempts() >= _ATTEMPTS
        except OSError:
            is_blocked = False
        return not is_blocked and not self.exists()

    def attempts(self) -> int:
        """Return how many builds have not ended."""
        try:
            return int(self.lock.read_text(encoding="utf-8") or 0)
        except (OSError, ValueError):
            return 0


def faster_launch(launch: Launch) -> Launch:
    """Return a launch with the jars of its packages on the class path, and with the archive if there is one.

    The launch is returned unchanged if these jars are not known yet, if the user has configured Spark, or if the cache
    folder cannot be used.

    Args:
        launch: The launch of a local Spark.
    """
    try:
        jars = _recorded_jars(launch)
        archive = find_archive(jars) if jars else None
        if archive is None:
            return launch
        settings = {key: value for key, value in launch.settings.items() if key not in _PACKAGES}
        if archive.exists():
            os.utime(archive.description)
            settings[_OPTIONS] = f"{settings.get(_OPTIONS, '')} {archive_options(archive.file)}".strip()
        environment = {"SPARK_CONF_DIR": str(_cache_folder() / "spark-conf"), CLASS_PATH: ":".join(jars)}
        return replace(launch, settings=settings, environment=launch.environment | environment)
    except (OSError, ValueError) as error:  # ValueError: a file of Spark's conf folder cannot be read
        _log.debug("no class archive: %s", error)
        return launch


def archive_options(file: Path) -> str:
    """Return the options with which a JVM uses an archive.

    Warnings of the JVM, such as that the archive does not fit, go to stderr: stdout belongs to the command. From Java
    24 on it reports as an error that Java's own archive was made without Spark's module options, which is harmless.

    Args:
        file: The archive.
    """
    java = find_java_home()
    quiet = " -Xlog:cds=off:stderr" if java and java_version(java) >= (24,) else ""
    return f"-XX:SharedArchiveFile={file} -Xshare:auto -Xlog:disable -Xlog:all=warning:stderr{quiet}"


def uses_archive(launch: Launch) -> bool:
    """Return whether a launch uses an archive."""
    return "-XX:SharedArchiveFile=" in launch.settings.get(_OPTIONS, "")


def without_archive(launch: Launch) -> Launch:
    """Return a launch with the same class path, without the archive.

    Args:
        launch: A launch that uses an archive.
    """
    options = launch.settings[_OPTIONS].partition("-XX:SharedArchiveFile=")[0].strip()
    return replace(launch, settings=launch.settings | {_OPTIONS: options})


def discard_archive(launch: Launch) -> None:
    """Remove the archive of a launch, which the JVM did not accept.

    Args:
        launch: A launch that uses an archive.
    """
    if archive := find_archive(launch.environment[CLASS_PATH].split(":")):
        _log.info("the class archive %s is removed, because Java cannot use it", archive.file)
        archive.discard()


def after_start(launch: Launch, spark_jars: str, jvm_pid: int | None) -> None:
    """Prepare the next start: record the jars that were resolved, build a missing archive, or remove an unusable one.

    Args:
        launch: The launch of the session.
        spark_jars: The session's setting `spark.jars`.
        jvm_pid: The process id of its JVM.
    """
    try:
        if _PACKAGES[0] in launch.settings and spark_jars and _is_usable():
            jars = [unquote(urlsplit(url).path) for url in spark_jars.split(",")]
            file = _jars_file(launch)
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(file, json.dumps(_stat(jars)).encode())
        elif uses_archive(launch):
            if not _is_mapped(launch, jvm_pid):
                discard_archive(launch)
        elif CLASS_PATH in launch.environment and RECORDING not in launch.settings[_OPTIONS]:
            _start_build(launch.environment[CLASS_PATH])
    except (OSError, ValueError) as error:
        _log.debug("no class archive: %s", error)


def _is_mapped(launch: Launch, jvm_pid: int | None) -> bool:
    """Return whether a JVM has mapped the archive of its launch into its memory, or True if that cannot be told."""
    (file,) = re.findall(r"-XX:SharedArchiveFile=(\S+)", launch.settings[_OPTIONS])
    try:
        return file in Path(f"/proc/{jvm_pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return True


def find_archive(jars: list[str]) -> Archive | None:
    """Return the archive for a class path, or None if there can be none.

    Args:
        jars: The jars behind Spark's own.
    """
    java, spark_home = find_java_home(), Path(_find_spark_home())
    if java is None or not (java / "lib" / "server" / "classes.jsa").exists():  # new archives extend Java's own
        return None
    folder, conf = _cache_folder() / "class-archives", _cache_folder() / "spark-conf"
    conf.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    with os.scandir(spark_home / "jars") as entries:
        spark_jars = [entry.path for entry in entries]  # not sorted: Java reads them in this order, too
    paths = [folder, conf, spark_home, *jars]
    if any(conf.iterdir()) or any(character in str(path) for path in paths for character in " :\"'\\$*"):
        return None
    names = ("release", "lib/modules", "lib/server/libjvm.so", "lib/server/classes.jsa")
    java_files = [str(java / name) for name in names if (java / name).exists()]
    parts = {
        "format": _FORMAT,
        "files": _stat([*java_files, *spark_jars, *jars]),
        "conf": str(conf),
        "environment": {name: os.environ[name] for name in _JAVA_VARIABLES if os.environ.get(name)},
    }
    return Archive(folder, parts)


def make_room(archive: Archive) -> bool:
    """Remove archives that cannot be used any more, or were not used for long; return whether another one may be built.

    Args:
        archive: The archive to make room for.
    """
    others = [file for file in archive.folder.glob("*.json") if file != archive.description]
    others.sort(key=lambda file: file.stat().st_mtime)
    kept = len(others)
    for description in others:
        unused = time.time() - description.stat().st_mtime
        is_needless = kept >= _KEPT and unused > _UNUSED_SECONDS
        if is_needless or unused > _EXPIRED_SECONDS or not _is_valid(_read_json(description)):
            for suffix in (".json", ".jsa", ".lock", ".log"):
                description.with_suffix(suffix).unlink(missing_ok=True)
            kept -= 1
    return kept < _KEPT


def _is_valid(description: dict[str, Any]) -> bool:
    """Return whether the files that an archive was made of are still the same."""
    files = description.get("parts", {}).get("files", {})
    try:
        return bool(files) and _stat(list(files)) == files
    except OSError:
        return False


def _recorded_jars(launch: Launch) -> list[str]:
    """Return the jars of a launch's packages; none if they are not known, or have changed."""
    if not launch.settings.get(_PACKAGES[0]) or CLASS_PATH in launch.environment or not _is_usable():
        return []
    recorded = _read_json(_jars_file(launch))
    return list(recorded) if recorded and _stat(list(recorded)) == recorded else []


def _jars_file(launch: Launch) -> Path:
    """Return the file for the jars of a launch's packages."""
    wanted = {key: value for key, value in launch.settings.items() if key.startswith("spark.jars")}
    wanted["sha256"] = list_digest()  # what was recorded was checked against this list
    return _cache_folder() / "jars" / f"{_digest(wanted)}.json"


def _is_usable() -> bool:
    """Return whether the cache folder is the user's own, and Spark is not configured by anybody else."""
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "false", "no") or any(map(os.environ.get, _USERS_OWN)):
        return False
    return not any(_foreign_conf_files(Path(_find_spark_home()) / "conf")) and _is_private(_cache_folder())


def _foreign_conf_files(folder: Path) -> Iterator[Path]:
    """Yield the files of Spark's folder for settings, except templates and the link to ours that `make` creates."""
    ours = read_spark_conf("spark-defaults.conf")
    for file in folder.iterdir() if folder.is_dir() else ():
        is_ours = file.name == "spark-defaults.conf" and parse_spark_conf(file.read_text(encoding="utf-8")) == ours
        if file.suffix != ".template" and not is_ours:
            yield file


def _cache_folder() -> Path:
    """Return the project's folder in the user's cache folder.

    Raises:
        OSError: There is no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "lakehouse"
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _is_private(folder: Path) -> bool:
    """Create a folder if it does not exist; return whether nobody else can write to it: jars are loaded from there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()  # a link could lead to a folder of others later
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def _start_build(class_path: str) -> None:
    """Start to build an archive in a process of its own, which runs on after this one has ended."""
    archive = find_archive(class_path.split(":"))
    package = Path(lakehouse.__file__).parent
    if archive is None or not archive.may_be_built() or not package.is_dir():
        return
    environment = {name: os.environ[name] for name in (*_BUILD_VARIABLES, *_JAVA_VARIABLES) if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([str(package.parent), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, "-m", "lakehouse.spark.build_class_archive", "--class-path", class_path],
        cwd=archive.folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    process.returncode = 0  # nobody waits for it; without this, Python warns that it still runs


def _stat(files: list[str]) -> dict[str, list[int]]:
    """Return size and time of each file.

    Raises:
        OSError: A file does not exist.
    """
    stats = {file: Path(file).stat() for file in files}
    return {file: [stat.st_size, stat.st_mtime_ns] for file, stat in stats.items()}


def _read_json(file: Path) -> dict[str, Any]:
    """Return the document of a file; empty if there is none or it is damaged."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _digest(document: dict[str, Any]) -> str:
    """Return a hash of a document, in which the order of keys counts: that of jars is the class path's."""
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:24]
