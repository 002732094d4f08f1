"""Finds when the grace of missing keys ends, for sources without snapshot times: a run then takes equal files again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone

from lakehouse import extract
from lakehouse.runner.context import Run


def due_times(run: Run, tables: Iterable[str]) -> dict[str, datetime]:
    """Return when the grace of the first missing key of each table ends.

    Only tables that give a duration have such a time, and only if the source has no snapshot times: where it has, a key
    expires with a snapshot of a later time, which is new.

    Args:
        run: The command.
        tables: The tables to look at.
    """
    durations = {n: grace.duration for n in tables if (grace := run.pipeline.tables[n].grace) and grace.duration}
    if not durations or extract.has_snapshot_times(run.pipeline):
        return {}
    from lakehouse import bronze  # Spark, which other pipelines do not need here

    missing = {name: bronze.find_missing(run.table_ref(name, run.lazy_spark)).since for name in durations}
    last = datetime.max.replace(tzinfo=timezone.utc)
    return {n: since + durations[n] for n, since in missing.items() if since and last - since > durations[n]}
