"""Full snapshots in; change log, bronze mirror, clean silver and gold cubes out, on open-source Delta Lake.

From a notebook: `lakehouse.run("conf/loyalty")`, or one stage: `lakehouse.stages.silver("conf/loyalty")`.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["run"]


def __getattr__(name: str) -> Any:
    """`run`, looked up at first use: importing the package imports nothing else."""
    if name in ("run", "stages"):
        from importlib import import_module

        stages = import_module("lakehouse.stages")
        return stages if name == "stages" else stages.run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
