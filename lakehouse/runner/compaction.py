"""Compacts tables that have come to many small files: each run adds some, and each read opens all of them.

It is the last step of a command that wrote to the lake. The rows stay as they are, and so do the positions of those who
read a table's changes.
"""

from __future__ import annotations

from collections.abc import Iterator

from lakehouse.config.layers import MODEL_LAYERS
from lakehouse.runner.context import Run, run_in_parallel
from lakehouse.runner.outcome import Outcome, Report
from lakehouse.storage import small_files
from lakehouse.storage.delta_damage import find_lost_files
from lakehouse.storage.delta_log import newest_version

COMPACT = "compact"
_IDLE = ("nothing new", "current")  # statuses of a stage that wrote nothing
_TABLES_OF_A_RUN = 4  # tables that grow at the same pace would else all be compacted by the same run


def compact_written(run: Run, report: Report) -> list[Outcome]:
    """Compact those tables that a command wrote and that have the most small files; return an outcome for each.

    Args:
        run: The command, which has locked the lake. Tables in a catalog are left to it.
        report: What it did.
    """
    if report.stopped_before or run.lake.catalog:
        return []
    names = dict.fromkeys(_written_tables(report))
    counts = {name: small_files.count_small_files(run.lake.path(*name.split("."))) for name in names}
    most_first = sorted(counts, key=lambda name: -counts[name])[:_TABLES_OF_A_RUN]
    chosen = [name for name in most_first if counts[name] >= small_files.MANY]
    if not chosen:
        return []
    from lakehouse.lake import delta
    from lakehouse.spark.session import isolated_session

    run.progress.begin(COMPACT, len(chosen))

    def work(name: str) -> Iterator[Outcome]:
        folder = run.lake.path(*name.split("."))
        if not find_lost_files(folder, newest_version(folder)):  # else a command that reads it, or `doctor`, repairs it
            delta.optimize(isolated_session(run.spark), run.lake.table(name), small_files.SMALL_BYTES)
            yield Outcome(COMPACT, name, "compacted", {"files": counts[name]})

    return run_in_parallel(run, COMPACT, chosen, work)


def _written_tables(report: Report) -> Iterator[str]:
    """Yield the names of the Delta tables that a command may have written, as folders of the lake."""
    stages = {outcome.stage for outcome in report.outcomes if outcome.status not in _IDLE}
    if "ingest" in stages:
        yield "raw.ledger"
    if stages.intersection(MODEL_LAYERS):
        yield "quality.results"
    for outcome in report.outcomes:
        table = outcome.name.rpartition(".")[2]
        if outcome.stage in ("bronze", *MODEL_LAYERS) and any(outcome.counts.values()):
            yield f"{outcome.stage}.{table}"
        if outcome.counts.get("quarantined"):
            yield f"quarantine.{table}"
