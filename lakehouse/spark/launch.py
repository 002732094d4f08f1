"""Describes how a new Spark on this machine is started."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Launch:
    """How a new Spark on this machine is started.

    Attributes:
        settings: The settings of Spark, which include the options of the JVM.
        environment: The environment variables that the JVM gets in addition to those of this process.
    """

    settings: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
