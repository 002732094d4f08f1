"""Checks the ledger, the change sets that it names, the landed snapshots, and how far bronze is. Starts no JVM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NoReturn

from lakehouse.doctor.finding import Finding, Subject
from lakehouse.errors import ExitCode, InfrastructureError, LakehouseError
from lakehouse.storage import delta_log, file_io, landing
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake, snapshot_name, snapshot_time
from lakehouse.text import counted

if TYPE_CHECKING:
    from lakehouse.lake.ledger import LedgerHistory

_LEDGER = Subject("ledger")
_MAX_NAMED = 3


def check_evidence(lake: Lake, declared: Iterable[str]) -> Iterator[Finding]:
    """Yield whether the ledger can be read, and whether what it names is there.

    Args:
        lake: The lake.
        declared: The tables of the pipeline; those that have landed are added.
    """
    tables = sorted({*declared, *file_io.list_names(lake.path("landing"))})
    tables = [name for name in tables if not name.startswith(".")]
    if not lake.catalog and not file_io.list_names(lake.path("raw", "ledger")):
        yield _LEDGER.ok("there is none yet: no snapshot was decided")
        return
    try:
        histories = _read_histories(lake, tables)
    except _NeedsSpark as error:
        yield _LEDGER.ok(f"not checked: {error.found}")
        return
    except LakehouseError as error:
        yield _LEDGER.failed(error)
        return
    yield _LEDGER.ok(f"{counted(sum(len(h.entries) for h in histories.values()), 'decision')} can be read")
    for name, history in histories.items():
        findings = [
            *_check_change_sets(lake, name, history),
            *_check_landing(lake, name, history),
            *_check_position(lake, name, history),
        ]
        yield from findings or [Subject("evidence", name).ok(_summary(history))]


def _summary(history: LedgerHistory) -> str:
    sets = counted(len(history.entries_to_fold), "change set")
    return f"{sets}, and the landed snapshots, are complete"


class _NeedsSpark(InfrastructureError):
    """Only Spark can read the ledger."""


def _read_histories(lake: Lake, tables: list[str]) -> dict[str, LedgerHistory]:
    """Return the decisions about each table, read by the driver."""
    from lakehouse.lake import ledger
    from lakehouse.spark.lazy_session import lazy_session

    def refuse() -> NoReturn:
        raise _NeedsSpark("only Spark can read it (lakehouse verify)")

    if lake.catalog:
        refuse()
    return ledger.read_histories(lazy_session(refuse), lake, tables)


# --- change sets ------------------------------------------------------------------------------------------------------


def _check_change_sets(lake: Lake, table: str, history: LedgerHistory) -> Iterator[Finding]:
    """Yield one finding for all change sets that bronze is folded from and that are not complete."""
    from lakehouse.lake.lost_change_sets import find_lost_change_sets, replay_start

    lost = find_lost_change_sets(lake, history)
    if not lost:
        return
    shown = "; ".join(f"{each.entry.path} {each.fault}" for each in lost[:_MAX_NAMED])
    found, start = f"{counted(len(lost), 'change set')} not complete: {shown}", replay_start(lake, table, history, lost)
    next_step = f"restore from a backup, or: lakehouse ingest PIPELINE {table} --full-refresh"
    if start and history.accepted and start > history.accepted[0].snapshot_time:
        next_step += f" --from {snapshot_name(start)}"
    yield Subject("change sets", table).wrong(found, next_step, ExitCode.REFUSED)


# --- landing ----------------------------------------------------------------------------------------------------------


def _check_landing(lake: Lake, table: str, history: LedgerHistory) -> Iterator[Finding]:
    """Yield the landed snapshots that are not complete: those that wait are needed, others are only for replays."""
    folder = lake.landing_path(table)
    landed = landing.list_snapshots(lake, table)
    names = [name for name in file_io.list_names(folder) if snapshot_time(name)]
    incomplete = {snapshot_name(each.time): fault for each in landed if (fault := _landing_fault(each))}
    known = {snapshot_name(each.time) for each in landed}
    incomplete |= {name: "has no manifest" for name in names if name not in known}
    for name, fault in sorted(incomplete.items()):
        time = snapshot_time(name)
        entry = history.entry_at(time) if time else None
        found = f"snapshot {name} {fault}"
        next_step = (
            f"mv {folder / name} {lake.state_path(f'{table}_{name}')}; then lakehouse run PIPELINE lands it again"
        )
        subject = Subject("landing", table)
        if entry is None or entry.status == "held":
            yield subject.wrong(found, next_step, ExitCode.REFUSED)
        else:
            yield subject.warning(f"{found}; it was {entry.status}, and cannot be decided again", next_step)


def _landing_fault(snapshot: LandedSnapshot) -> str:
    if snapshot.expired:
        return ""
    sizes = file_io.file_sizes(snapshot.folder)
    lost = [file.name for file in snapshot.files if file.name not in sizes]
    if lost:
        return f"lacks {', '.join(lost[:_MAX_NAMED])}"
    cut = [f.name for f in snapshot.files if f.as_received and sizes[f.name] != f.size]
    return f"has a file of another size: {', '.join(cut[:_MAX_NAMED])}" if cut else ""


# --- bronze -----------------------------------------------------------------------------------------------------------


def _check_position(lake: Lake, table: str, history: LedgerHistory) -> Iterator[Finding]:
    """Yield how bronze differs from the ledger; the next run repairs it."""
    subject, bronze = Subject("position", f"bronze.{table}"), lake.path("bronze", table)
    accepted = history.last_accepted
    if accepted is None:
        return
    if reason := _position_reason(bronze, accepted.sequence or 0):
        yield subject.warning(f"{reason}: the next run compares it with its change sets", "lakehouse run PIPELINE")


def _position_reason(bronze: StorePath, last: int) -> str:
    if delta_log.newest_version(bronze) < 0:
        return "it does not exist"
    current = delta_log.read_current_version(bronze)
    if current is None:
        return ""
    progress = current.recorded_progress()
    if progress is None:
        return "another writer changed its rows"
    sequence = progress.get("sequence", 0)
    return f"it is at change set {sequence}, ahead of the ledger's {last}" if sequence > last else ""
