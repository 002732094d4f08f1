"""Checks this machine: Java, Python, the packages and Spark's jars. Nothing here imports Spark or starts a JVM."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from lakehouse.doctor.finding import Finding, Subject
from lakehouse.errors import ConfigError, ExitCode
from lakehouse.spark import jars
from lakehouse.spark.java import find_java_home, java_version, require_safe_java
from lakehouse.storage.spark_conf import read_spark_conf
from lakehouse.text import counted

_MIN_PYTHON, _MIN_JAVA = (3, 10), 17
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[.*?\])?(?P<range>[^;]*)(?P<marker>;.*)?")
_BOUND = re.compile(r"(<=|>=|<|>|==)\s*([0-9.]+)")
_PARTS_COMPARED = 3


def check_java() -> Iterator[Finding]:
    """Yield whether there is a Java that Spark can run on."""
    subject = Subject("java")
    home = find_java_home()
    if home is None:
        found = f"JAVA_HOME is {os.environ['JAVA_HOME']}, without a Java" if os.environ.get("JAVA_HOME") else "no Java"
        yield subject.wrong(found, "install Java 17, 21, or 25.0.3 and later, or set JAVA_HOME", ExitCode.USAGE)
        return
    version = java_version(home)
    text = ".".join(map(str, version))
    if not version:
        yield subject.warning(f"{home} does not state its version", "java -version; it has to be 17 or later")
    elif version[0] < _MIN_JAVA:
        next_step = "install Java 17, 21, or 25.0.3 and later, or set JAVA_HOME"
        yield subject.wrong(f"Java {text} in {home}: Spark needs 17 or later", next_step, ExitCode.USAGE)
    else:
        try:
            require_safe_java(text)
        except ConfigError as error:
            yield subject.failed(error)
        else:
            yield subject.ok(f"Java {text} in {home}")


def check_python() -> Iterator[Finding]:
    """Yield whether Python is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < _MIN_PYTHON:
        yield Subject("python").wrong(f"Python {version}", "install Python 3.10 or later", ExitCode.USAGE)
    else:
        yield Subject("python").ok(f"Python {version}")


def check_packages() -> Iterator[Finding]:
    """Yield whether the installed packages are those that this version was made for, and fit Spark's jars."""
    problems = []
    try:
        requirements = metadata.requires("lakehouse") or []
    except metadata.PackageNotFoundError:  # imported from a zip, as by spark-submit --py-files
        requirements = []
    for requirement in requirements:
        match = _REQUIREMENT.fullmatch(requirement.strip())
        if match is None or match["marker"]:  # of an extra: the check of what needs it reports it
            continue
        if problem := _package_problem(match["name"], match["range"]):
            problems.append(problem)
    if problem := _jar_problem():
        problems.append(problem)
    next_step = "make install, or pip install the versions of requirements.lock"
    for problem in problems:
        yield Subject("packages").wrong(problem, next_step, ExitCode.USAGE)
    if not problems:
        shown = ", ".join(f"{name} {metadata.version(name)}" for name in ("pyspark", "delta-spark", "pyarrow"))
        yield Subject("packages").ok(shown)


def _package_problem(name: str, versions: str) -> str:
    """Return what is wrong with an installed package; empty if nothing is."""
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is not installed; expected {versions or 'any version'}"
    return "" if is_in_range(installed, versions) else f"{name} {installed} is installed; expected {versions}"


def is_in_range(version: str, versions: str) -> bool:
    """Return whether a version meets each bound of a requirement.

    >>> is_in_range("4.2.0", "<4.3,>=4.2"), is_in_range("4.3.0", "<4.3,>=4.2"), is_in_range("3.0", "")
    (True, False, True)

    Args:
        version: The version; what follows its first three numbers does not count.
        versions: The bounds, separated by commas.
    """
    left = _numbers(version)
    tests = {"<": left.__lt__, "<=": left.__le__, ">": left.__gt__, ">=": left.__ge__, "==": left.__eq__}
    return all(tests[operator](_numbers(bound)) for operator, bound in _BOUND.findall(versions))


def _numbers(version: str) -> tuple[int, ...]:
    parts = re.findall(r"\d+", re.split(r"[-+a-z]", version)[0])
    return tuple(map(int, [*parts, *["0"] * _PARTS_COMPARED][:_PARTS_COMPARED]))


def _jar_problem() -> str:
    """Return what is wrong if the jar of Delta is for another Spark, or another Delta, than the packages."""
    coordinates = read_spark_conf("spark-defaults.conf")["spark.jars.packages"]
    match = re.search(r"delta-spark_(\d+\.\d+)_[\d.]+:([\d.]+)", coordinates)
    try:
        spark, delta = metadata.version("pyspark"), metadata.version("delta-spark")
    except metadata.PackageNotFoundError:
        return ""  # is reported as a package
    if match is None or (spark.startswith(f"{match[1]}.") and delta == match[2]):
        return ""
    return f"pyspark {spark} and delta-spark {delta} do not fit the jar {match[0]}"


def check_jars(folder: Path | None = None) -> Iterator[Finding]:
    """Yield whether the jars of Spark's packages are there, with the content that this version was made with.

    Args:
        folder: The folder in which Spark keeps them; None: that of the user.
    """
    subject = Subject("jars")
    folder = folder or _ivy_folder()
    known = jars.known_hashes()
    present = [jar for jar in sorted(folder.glob("*.jar")) if jar.name in known] if folder else []
    if not present:
        found = f"none in {folder or 'the folder of Ivy'}: the first run downloads them (13 MB)"
        yield subject.warning(found, "let this machine reach the Maven repositories once")
        return
    wrong = [jar.name for jar in present if jars.hash_file(jar) != known[jar.name]]
    if wrong and folder:
        found = f"{counted(len(wrong), 'jar')} in {folder} with another content than expected: {', '.join(wrong[:5])}"
        next_step = f"rm {' '.join(str(folder / name) for name in wrong)}, and run again: Spark downloads them"
        yield subject.wrong(found, next_step, ExitCode.USAGE)
    else:
        yield subject.ok(f"{counted(len(present), 'jar')} in {folder}, as {jars.LIST.name} lists them")


def _ivy_folder() -> Path | None:
    """Return the newest folder of Ivy's jars in the user's home."""
    try:
        found = [path / "jars" for path in Path.home().glob(".ivy2*") if (path / "jars").is_dir()]
    except RuntimeError:  # no home
        return None
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
