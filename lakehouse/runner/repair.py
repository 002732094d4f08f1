"""Repairs tables of which files were lost, so that the next stages compute their rows again from the layer before.

Nothing is deleted. Lost files are left out of a table by a commit, and its stage then writes the rows that differ. A
table whose log cannot be read is moved to `_state/damaged`. Both are only for tables that a run computes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from lakehouse.config.layers import MODEL_LAYERS, TABLE_LAYERS
from lakehouse.errors import ExitCode
from lakehouse.runner.context import Run
from lakehouse.runner.outcome import FAILED, WAITING, Outcome, Report
from lakehouse.storage import delta_damage, delta_log, file_io
from lakehouse.storage.delta_files import DataFile
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.paths import LAYERS, Lake, snapshot_name
from lakehouse.text import counted

REPAIR = "repair"
_READING_STAGES = ("ingest", "bronze", *MODEL_LAYERS)
_REPEATED = (FAILED, WAITING, "held", "nothing new", "current")  # statuses that the same stage reports again
_OTHER_TABLES = (("quality", "results"), ("forgotten",))


@dataclass(frozen=True)
class StoredTable:
    """A table of the lake.

    Attributes:
        lake: The lake.
        parts: Its folder below the root, such as `bronze` and `items`.
    """

    lake: Lake
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name, such as `bronze.items`."""
        return ".".join(self.parts)

    @property
    def folder(self) -> StorePath:
        """The folder."""
        return self.lake.path(*self.parts)

    @property
    def is_computed(self) -> bool:
        """Whether a run computes it from the layer before."""
        return self.parts[0] in TABLE_LAYERS

    @property
    def can_be_moved(self) -> bool:
        """Whether it is on a disk, and computed again if it is gone; results of expectations are expendable."""
        return isinstance(self.folder, Path) and (self.is_computed or self.parts[0] == "quality")

    @property
    def damaged_folder(self) -> StorePath:
        """A folder to move it to, where nobody reads it."""
        return self.lake.state_path("damaged", f"{self.name}_{snapshot_name(datetime.now(timezone.utc))}")

    def move_away(self) -> str:
        """Move the table to its damaged folder, and return what was done."""
        target = self.damaged_folder
        assert isinstance(target, Path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(str(self.folder), target)
        return f"{self.name} could not be read and was moved to {target}; a run computes it again"

    def leave_out(self, version: int, lost: list[DataFile], run_id: str) -> str:
        """Leave lost files out of the table, or else move it away; return what was done.

        Args:
            version: Its newest version.
            lost: The files.
            run_id: The id of the command.
        """
        if not delta_damage.drop_lost_files(self.folder, version, lost, run_id):
            return self.move_away()
        files = counted(len(lost), "lost file")
        return f"{self.name}: {files} left out of version {version + 1}; a run writes the rows again"


def list_tables(lake: Lake) -> list[StoredTable]:
    """Return the Delta tables of a lake, as its folders show them; none of a catalog.

    Args:
        lake: The lake.
    """
    if lake.catalog:
        return []
    found = [(layer, name) for layer in LAYERS for name in file_io.list_names(lake.path(layer))]
    tables = [StoredTable(lake, parts) for parts in (*found, *_OTHER_TABLES)]
    return [table for table in tables if "_delta_log" in file_io.list_names(table.folder)]


def repair_tables(lake: Lake, run_id: str) -> Iterator[Outcome]:
    """Repair the tables of bronze, silver and gold of which files were lost, and yield an outcome for each.

    Args:
        lake: The lake, which this command has locked.
        run_id: The id of the command.
    """
    for table in (each for each in list_tables(lake) if each.is_computed):
        damage = delta_damage.find_log_damage(table.folder)
        version = delta_log.newest_version(table.folder)
        if any(each.is_fatal for each in damage):
            if table.can_be_moved:
                yield Outcome(REPAIR, table.name, "repaired", note=table.move_away())
        elif version >= 0 and (lost := delta_damage.find_lost_files(table.folder, version)):
            yield Outcome(REPAIR, table.name, "repaired", note=table.leave_out(version, lost, run_id))


def repair_failed(run: Run, report: Report, stages: tuple[str, ...]) -> tuple[str, ...]:
    """Repair tables if a stage that reads them failed, and add an outcome for each to the report.

    Args:
        run: The command, which has locked the lake.
        report: Its report so far, from which the outcomes are removed that the stages report again.
        stages: The stages that it ran.

    Returns:
        The stages to run once more; empty if nothing was repaired.
    """
    failed = [each.stage for each in report.outcomes if each.status == FAILED and each.stage in _READING_STAGES]
    is_busy = any(outcome.code == ExitCode.BUSY for outcome in report.outcomes)
    if not failed or is_busy or report.stopped_before or "bronze" not in stages:
        return ()
    repaired = [*repair_tables(run.lake, run.id), *_plan_replays(run, stages)]
    if not repaired:
        return ()
    for outcome in repaired:
        run.on_outcome(outcome)
        run.log.warning("a damaged table is computed again", table=outcome.name, reason=outcome.note)
    first = min((*failed, "bronze", *(["ingest"] if run.replays else [])), key=stages.index)
    again = stages[stages.index(first) :]
    kept = [each for each in report.outcomes if each.stage not in again or each.status not in _REPEATED]
    report.outcomes = [*kept, *repaired]
    run.blocked.clear()
    return again


def _plan_replays(run: Run, stages: tuple[str, ...]) -> Iterator[Outcome]:
    """Have `ingest` write lost change sets again from the landed snapshots, and yield an outcome for each table."""
    from lakehouse.lake import ledger
    from lakehouse.lake.lost_change_sets import find_lost_change_sets, replay_start

    if "ingest" not in stages:
        return
    for name, history in ledger.read_histories(run.spark, run.lake, run.selected_tables()).items():
        lost = find_lost_change_sets(run.lake, history)
        if lost and (start := replay_start(run.lake, name, history, lost)):
            run.replays[name] = start
            sets = f"{counted(len(lost), 'change set')} of {name} {'was' if len(lost) == 1 else 'were'} lost"
            note = f"{sets}: the landed snapshots from {snapshot_name(start)} on are compared again"
            yield Outcome(REPAIR, name, "repaired", note=note)
