"""Full snapshots in; change log, bronze mirror, clean silver and gold cubes out, on open-source Delta Lake.

From a notebook:

    lakehouse.run("conf/loyalty")                                       # or one stage: lakehouse.stages.silver(...)
    lakehouse.diff("conf/loyalty", "clientes")                          # what a run would change
    lakehouse.as_of("conf/loyalty", "clientes", "2025-10-03T17:05:52Z") # a table as it was
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["as_of", "diff", "run"]


def __getattr__(name: str) -> Any:
    """The functions for notebooks, looked up at first use: importing the package imports nothing else."""
    from importlib import import_module

    homes = {"as_of": "inspect.status", "diff": "inspect.diff", "run": "runner.stages"}
    if name in homes:
        return getattr(import_module(f"lakehouse.{homes[name]}"), name)
    if name == "stages":
        return import_module("lakehouse.stages")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
