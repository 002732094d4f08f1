"""Reads the Spark settings that the package contains as `*.conf` files."""

from __future__ import annotations

from importlib import resources


def read_spark_conf(name: str) -> dict[str, str]:
    """Return the settings of a file in `lakehouse/spark`, in the format of `spark-defaults.conf`.

    Args:
        name: The file's name.
    """
    text = (resources.files("lakehouse") / "spark" / name).read_text(encoding="utf-8")
    pairs = (line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {key: value.strip() for key, value in pairs}
