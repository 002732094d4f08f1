"""Reads the Spark settings that the package contains as `*.conf` files."""

from __future__ import annotations

from importlib import resources


def read_spark_conf(name: str) -> dict[str, str]:
    """Return the settings of a file in `lakehouse/spark`, in the format of `spark-defaults.conf`.

    Args:
        name: The file's name.
    """
    return parse_spark_conf((resources.files("lakehouse") / "spark" / name).read_text(encoding="utf-8"))


def parse_spark_conf(text: str) -> dict[str, str]:
    """Return the settings of a text in the format of `spark-defaults.conf`.

    >>> parse_spark_conf("# where\\nspark.master  local[2]")
    {'spark.master': 'local[2]'}

    Args:
        text: The text.
    """
    pairs = (line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {key: value.strip() for key, value in pairs}
