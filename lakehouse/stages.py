"""Exports the stages as functions for notebooks: `lakehouse.stages.silver("conf/loyalty", "silver.clientes")`."""

from lakehouse.runner.stages import bronze, extract, gold, ingest, publish, run, silver

__all__ = ["bronze", "extract", "gold", "ingest", "publish", "run", "silver"]
