"""Finds the Java that Spark will run on, and refuses versions that damage data."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from lakehouse.errors import ConfigError

# The collector G1 of these versions may move memory that native code works on (JDK-8377811), and then compressed
# Parquet files are damaged. Pinned memory came with 22 (JEP 423); 22 to 24 get no repairs any more.
_FIRST_DAMAGING, _FIRST_REPAIRED = (22, 0, 0), (25, 0, 3)


def find_java_home() -> Path | None:
    """Return the folder of the Java that `spark-submit` starts, or None if there is none or it cannot be told.

    A `java` on the PATH may be a script that chooses a Java; then nothing is known before it runs.
    """
    home = os.environ.get("JAVA_HOME")
    program = Path(home) / "bin" / "java" if home else Path(shutil.which("java") or "")
    if not program.is_file():
        return None
    found = program.resolve().parents[1]
    return found if (found / "lib" / "server" / "libjvm.so").exists() else None


def java_version(home: Path) -> tuple[int, ...]:
    """Return the version of a Java by its file `release`; empty if it has none.

    Args:
        home: The folder of the Java.
    """
    try:
        found = re.search(r'^JAVA_VERSION="([^"]+)"', (home / "release").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return ()
    return _numbers(found[1]) if found else ()


def require_safe_java(version: str) -> None:
    """Raise if a version of Java damages the files that Spark writes with it.

    Args:
        version: The version, as in the property `java.version`.

    Raises:
        ConfigError: The version is one of those.
    """
    if _FIRST_DAMAGING <= _numbers(version) < _FIRST_REPAIRED:
        raise ConfigError(
            f"Java {version} can damage the Parquet files that Spark writes (JDK-8377811)",
            expected="Java 17, 21, or 25.0.3 and later",
            next_step="update Java, or set JAVA_HOME to another one",
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first three numbers of a version: `25-ea` is 25.0.0."""
    found = re.findall(r"\d+", re.split(r"[-+]", version)[0])
    return tuple(map(int, [*found, "0", "0"][:3]))
