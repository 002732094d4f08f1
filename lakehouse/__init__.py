"""Builds a change log, a bronze mirror, clean silver tables and gold cubes from full snapshots, on Delta Lake.

From a notebook:

    lakehouse.run("conf/loyalty")                                       # or one stage: lakehouse.stages.silver(...)
    lakehouse.diff("conf/loyalty", "clientes")                          # the changes that a run would make
    lakehouse.time_travel("conf/loyalty", "clientes", "20251003_170552") # a table as it was; earlier name: as_of
    lakehouse.sql("conf/loyalty", "SELECT ...")                         # rows of tables and models, as an Arrow table
    lakehouse.report("conf/loyalty")                                    # the report, below the cell

All of them are described in docs/guide/python.md.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["as_of", "diff", "report", "run", "sql", "time_travel"]


def __getattr__(name: str) -> Any:
    """Return a function for notebooks at its first use, so that importing the package imports nothing else."""
    from importlib import import_module

    modules = {"as_of": "inspect.status", "diff": "inspect.diff", "run": "runner.stages", "sql": "inspect.query"}
    modules["time_travel"] = modules["as_of"]
    if name in modules:
        return getattr(import_module(f"lakehouse.{modules[name]}"), name)
    if name in ("report", "stages"):
        return import_module(f"lakehouse.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
