"""Checks the Delta tables of a lake: their logs, checkpoints and data files, and what models still have to read."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lakehouse.doctor.finding import WRONG, Finding, Subject
from lakehouse.errors import ExitCode
from lakehouse.runner.repair import StoredTable, list_tables
from lakehouse.storage import delta_damage, delta_files, delta_log, file_io
from lakehouse.storage.delta_damage import LogDamage
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.paths import Lake
from lakehouse.text import counted

_RUN = "lakehouse run PIPELINE"
_MAX_NAMED = 3


def check_tables(lake: Lake) -> Iterator[Finding]:
    """Yield the state of each table.

    Args:
        lake: The lake.
    """
    if lake.catalog:
        yield Subject("table").ok("not checked: only Spark can read the tables of a catalog (lakehouse verify)")
    for table in list_tables(lake):
        findings = [*_check_log(table)]
        if all(finding.result != WRONG for finding in findings):
            findings += [*_check_files(table), *_check_inputs(table)]
        yield from findings or [Subject("table", table.name).ok(_summary(table))]


def _summary(table: StoredTable) -> str:
    version = delta_log.newest_version(table.folder)
    if version < 0:
        return "its log is empty: the next run creates it"
    listed = delta_files.list_files(table.folder, version, with_vectors=True)
    files = f", {counted(len(listed.files), 'file')}" if listed else ""
    return f"version {version}{files}"


# --- the log ----------------------------------------------------------------------------------------------------------


def _check_log(table: StoredTable) -> Iterator[Finding]:
    subject, faults = Subject("table", table.name), delta_damage.find_log_damage(table.folder)
    if any(damage.is_fatal for damage in faults):
        found = "; ".join(damage.found for damage in faults if damage.is_fatal)
        yield _fatal(table, subject, f"{found}: the table cannot be read")
        return
    for damage in faults:
        if damage.expendable:
            next_step = f"rm {' '.join(map(str, damage.expendable))}; Delta writes it again"
            yield subject.warning(damage.found, next_step, partial(_remove, table, damage))
        else:
            yield subject.warning(damage.found, _RUN)


def _remove(table: StoredTable, damage: LogDamage) -> str:
    for file in damage.expendable:
        file_io.remove(file)
    return f"{table.name}: removed {', '.join(file.name for file in damage.expendable)}; Delta writes it again"


def _fatal(table: StoredTable, subject: Subject, found: str) -> Finding:
    """Return a finding about a table that cannot be read, with the way to write it again."""
    if table.parts == ("forgotten",):
        next_step = f"restore {table.folder} from a backup before the next run: forgotten keys would come back"
        return subject.wrong(found, next_step, ExitCode.REFUSED)
    target = table.damaged_folder
    is_on_disk = isinstance(table.folder, Path)
    moved = f"mkdir -p {target.parent} && mv {table.folder} {target}" if is_on_disk else f"remove {table.folder}"
    next_step = f"{moved}; then {_command(table)}"
    return subject.wrong(found, next_step, ExitCode.REFUSED, table.move_away if table.can_be_moved else None)


def _command(table: StoredTable) -> str:
    """Return the command that writes a table again, once its folder is gone."""
    match table.parts:
        case ("raw", "ledger"):
            return "lakehouse ingest PIPELINE --full-refresh"
        case ("quarantine", name):
            return f"lakehouse ingest PIPELINE {name} --full-refresh"
    return _RUN


# --- data files -------------------------------------------------------------------------------------------------------


def _check_files(table: StoredTable) -> Iterator[Finding]:
    subject, version = Subject("table", table.name), delta_log.newest_version(table.folder)
    lost = delta_damage.find_lost_files(table.folder, version) if version >= 0 else []
    if lost is None:
        yield subject.ok(f"version {version}; only Spark can list its files: lakehouse verify reads them")
    elif lost:
        names = ", ".join(file.path.name for file in lost[:_MAX_NAMED]) + (", ..." if len(lost) > _MAX_NAMED else "")
        found = f"{counted(len(lost), 'data file')} of version {version} missing or cut: {names}"
        if not table.is_computed:
            yield _fatal(table, subject, found)
            return
        next_step, repair = f"lakehouse doctor PIPELINE --fix; then {_RUN}", partial(table.leave_out, version, lost)
        yield subject.wrong(found, next_step, ExitCode.REFUSED, partial(repair, "doctor"))


# --- what a model still has to read -----------------------------------------------------------------------------------


def _check_inputs(table: StoredTable) -> Iterator[Finding]:
    """Yield each input of a model whose changes can no longer be read, so that the model is refreshed in full."""
    current = delta_log.read_current_version(table.folder)
    progress = (current.recorded_progress() if current else None) or {}
    for relation, recorded in progress.get("inputs", {}).items():
        layer, _, name = relation.partition(".")
        if reason := _unreadable_reason(table.lake.path(layer, name), recorded["id"], recorded["version"]):
            found = f"{relation}, which it reads, {reason}: the next run refreshes it in full"
            yield Subject("table", table.name).warning(found, _RUN)


def _unreadable_reason(folder: StorePath, table_id: str, version: int) -> str:
    current = delta_log.read_current_version(folder)
    if current is None:
        return "" if delta_log.newest_version(folder) >= 0 else "is missing"
    if current.id != table_id or current.version < version:
        return "was replaced"
    if not current.has_changed_since(version):
        return ""
    if current.has_missing_commits_since(version):
        return f"has a gap in its log after version {version}"
    listed = delta_files.list_files(folder, current.version, with_vectors=True)
    changes = delta_files.list_change_files(folder, version, current.version, listed.schema) if listed else None
    is_gone = any(not change.path.exists() for change in changes or ())
    return f"has lost the changes since version {version}" if is_gone else ""
