"""Refuses versions of Java that damage the files that Spark writes."""

from __future__ import annotations

import re

from lakehouse.errors import ConfigError

# The collector G1 of these versions may move memory that native code works on (JDK-8377811), and then compressed
# Parquet files are damaged. Pinned memory came with 22 (JEP 423); 22 to 24 get no repairs any more.
_FIRST_DAMAGING, _FIRST_REPAIRED = (22, 0, 0), (25, 0, 3)


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
