"""Describes how a new Spark on this machine is started."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Launch:
    """How a new Spark on this machine is started.

    Attributes:
        settings: The settings of Spark, which include the options of the JVM.
        environment: The environment variables that the JVM gets in addition to those of this process.
    """

    settings: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)


def permission_settings() -> dict[str, str]:
    """Return the setting by which Spark gives its files the permissions that this process gives its own.

    Hadoop sets the permissions of each file by a mask of its own, 022, regardless of the umask of the JVM.
    """
    return {"spark.hadoop.fs.permissions.umask-mode": f"{_umask():03o}"}


def _umask() -> int:
    try:  # reading it with `os.umask` would change it for a moment, for all threads
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1], 8) for line in status.splitlines() if line.startswith("Umask:"))
    except (OSError, StopIteration):
        mask = os.umask(0o077)
        os.umask(mask)
        return mask
