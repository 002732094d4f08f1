"""Computes the key of an engine: all that a JVM cannot change after its start. Only commands with that key use it.

The JVM of an engine gets the environment variables that are listed here and no others. So everything of the environment
that it can read is in its key, and a secret of one command, such as a password of PostgreSQL, reaches no other.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lakehouse

# Variables that Spark, Hadoop, the clients of stores, Java or Python read.
_ENVIRONMENT = re.compile(
    r"(AWS|AZURE|GOOGLE|SPARK|PYSPARK|HADOOP|YARN|HIVE|KRB5|JAVA|JDK|LD|LC|PYTHON|ARROW|OMP|SSL)_?.*"
    r"|_JAVA_OPTIONS|CLASSPATH|HOME|USER|LOGNAME|LANG|LANGUAGE|TZ|TMPDIR|(?i:(https?|ftp|all|no)_proxy)"
)
# Variables that the JVM gets but that differ between terminals without a difference for it: it needs PATH to find Java,
# whose file is in the key itself.
_ENVIRONMENT_WITHOUT_KEY = ("PATH", "SHELL", "HOSTNAME")
# Set by PySpark in a process that has started a Spark.
_SET_BY_PYSPARK = ("SPARK_AUTH_SOCKET_TIMEOUT", "SPARK_BUFFER_SIZE")
# Settings without a meaning for other commands.
_SETTINGS_WITHOUT_KEY = ("spark.app.name",)
_CREDENTIAL_FILES = {
    "AWS_SHARED_CREDENTIALS_FILE": ".aws/credentials",
    "AWS_CONFIG_FILE": ".aws/config",
}


def jvm_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the JVM of an engine gets.

    Args:
        environment: The environment of the command.
    """
    return {
        name: value
        for name, value in sorted(environment.items())
        if (_ENVIRONMENT.fullmatch(name) or name in _ENVIRONMENT_WITHOUT_KEY) and name not in _SET_BY_PYSPARK
    }


def engine_key(settings: Mapping[str, str], environment: Mapping[str, str], spark_home: Path) -> str:
    """Return the key of the engine that a command needs.

    Args:
        settings: The settings of a new Spark, which include the options of its JVM.
        environment: The environment of the command.
        spark_home: Spark's folder.
    """
    variables = jvm_environment(environment)
    if python := variables.get("PYSPARK_PYTHON"):  # the same program has several names: bin/python, bin/python3
        variables["PYSPARK_PYTHON"] = f"{Path(python).parent}: {Path(python).resolve()}"
    parts: dict[str, Any] = {
        "user": os.getuid(),
        "umask": _umask(),
        "versions": _versions(),
        "package": str(Path(lakehouse.__file__).parent),
        "settings": {name: value for name, value in sorted(settings.items()) if name not in _SETTINGS_WITHOUT_KEY},
        "environment": {name: value for name, value in variables.items() if name not in _ENVIRONMENT_WITHOUT_KEY},
        "files": [
            _file_state(path)
            for path in (
                java_program(environment),
                *_files_in(spark_home / "jars"),
                *_configuration_files(environment, spark_home),
                *_credential_files(environment),
            )
        ],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def describe(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the readable parts of a key, without any that could be secret.

    Args:
        settings: The settings of a new Spark.
        environment: The environment of the command.
    """
    options = settings.get("spark.driver.extraJavaOptions", "")
    return {
        "java": _java_version(environment),
        **_versions(),
        "data": "small" if "TieredStopAtLevel=1" in options else "large",
        "storage": "s3" if any(name.startswith("spark.hadoop.fs.s3a") for name in settings) else "disk",
    }


def java_program(environment: Mapping[str, str]) -> Path:
    """Return the program that Spark starts as Java.

    Args:
        environment: The environment of the command.
    """
    if home := environment.get("JAVA_HOME"):
        return (Path(home) / "bin" / "java").resolve()
    return Path(shutil.which("java", path=environment.get("PATH")) or "java").resolve()


def _java_version(environment: Mapping[str, str]) -> str:
    try:
        release = (java_program(environment).parents[1] / "release").read_text()
    except (OSError, IndexError):
        return "unknown"
    found = re.search(r'^JAVA_VERSION="([^"]+)"', release, re.MULTILINE)
    return found.group(1) if found else "unknown"


def _versions() -> dict[str, str]:
    versions = {"lakehouse": lakehouse.__version__}
    for name in ("pyspark", "delta-spark", "py4j"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    return versions


def _umask() -> str:
    """Return the mask for new files, which the JVM inherits; reading it with `os.umask` would change it."""
    status = Path("/proc/self/status").read_text()
    return next((line for line in status.splitlines() if line.startswith("Umask:")), "")


def _configuration_files(environment: Mapping[str, str], spark_home: Path) -> list[Path]:
    """Return the files of Spark's and Hadoop's own configuration."""
    folders = [Path(environment.get("SPARK_CONF_DIR") or spark_home / "conf")]
    folders += [Path(environment[name]) for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR") if environment.get(name)]
    return [path for folder in folders for path in _files_in(folder)]


def _credential_files(environment: Mapping[str, str]) -> list[Path]:
    home = Path(environment.get("HOME") or "/")
    return [Path(environment.get(name) or home / default) for name, default in _CREDENTIAL_FILES.items()]


def _files_in(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _file_state(path: Path) -> tuple[str, int, int]:
    """Return the path, size and time of change of a file: enough to notice that it was replaced."""
    try:
        stat = path.stat()
    except OSError:
        return str(path), -1, 0
    return str(path), stat.st_size, stat.st_mtime_ns
