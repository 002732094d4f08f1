"""What every source comes to: snapshots on offer, each with its time or without one, and a table's files in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from lakehouse.config import Pipeline
from lakehouse.errors import ConfigError
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake, snapshot_name

TableFiles = tuple[Path, list[Path]]
"""A folder, and the files below it that are a table's; they land under their paths from there."""


@dataclass(frozen=True)
class SourceSnapshot:
    """One snapshot that a source hands out.

    Attributes:
        time: when it was taken; None where the source does not say.
        files: those of a table, fetched at need: the call may take long, and raises what goes wrong with it.
        lasting: what was handed out under its time never changes: once it has landed nobody looks at it again.
    """

    time: datetime | None
    fetch_files: Callable[[str], TableFiles]
    immutable: bool = False


@dataclass(frozen=True)
class Source:
    """An open source: either any number of offers with a time, oldest first, or a single one without."""

    pipeline: Pipeline
    lake: Lake
    snapshots: tuple[SourceSnapshot, ...]

    @property
    def snapshot_times(self) -> set[datetime]:
        return {offer.time for offer in self.snapshots if offer.time}


@dataclass(frozen=True)
class ExtractResult:
    """What `extract` did for one table: the snapshots landed now, and what a reader should know."""

    table: str
    landed_times: tuple[datetime, ...] = ()
    warnings: tuple[str, ...] = ()


def extract_table(source: Source, table: str, now: datetime, as_of: datetime | None) -> ExtractResult:
    """Land what the source has and the lake has not, for one table.

    Args:
        now: the run's clock, the time of a snapshot that has none.
        as_of: the time to give to it instead.

    Raises:
        ConfigError: `as_of` names a snapshot that has landed with other bytes.
        LakehouseError: the source cannot be read; nothing has landed.
    """
    if source.snapshot_times:
        return _extract_dated(source, table, as_of)
    return _extract_undated(source, table, now, as_of)


def _extract_dated(source: Source, table: str, as_of: datetime | None) -> ExtractResult:
    new, warnings = [], []
    if as_of:
        warnings.append("--as-of is ignored: the source names the time of each snapshot")
    for offer in source.snapshots:
        assert offer.time
        there = landing.find_snapshot(source.lake, table, offer.time)
        if there is None:
            folder, files = offer.fetch_files(table)
            landing.land_snapshot(source.lake, table, offer.time, files, folder)
            new.append(offer.time)
        elif not offer.immutable:
            warnings += _change_warnings(there, offer.fetch_files(table))
    return ExtractResult(table, tuple(new), tuple(warnings))


def _extract_undated(source: Source, table: str, now: datetime, as_of: datetime | None) -> ExtractResult:
    (offer,) = source.snapshots
    folder, files = offer.fetch_files(table)
    last = landing.newest_snapshot(source.lake, table)
    if last and not _has_changed(last, folder, files):
        return ExtractResult(table)
    warnings = []
    time = as_of.replace(microsecond=0) if as_of else _time_of_undated(now, last)
    if time > now and not as_of:
        warnings.append(f"the clock says {now:%Y-%m-%d %H:%M:%S}, not later than the last snapshot; taken as {time}")
    if there := landing.find_snapshot(source.lake, table, time):
        if not _has_changed(there, folder, files):
            return ExtractResult(table)
        raise ConfigError(
            f"the snapshot of {table} at {snapshot_name(time)} has landed already, with other bytes",
            expected="one snapshot per table and time",
            where=str(there.folder),
            next_step="give --as-of a time of its own",
        )
    landing.land_snapshot(source.lake, table, time, files, folder)
    return ExtractResult(table, (time,), tuple(warnings))


def _time_of_undated(now: datetime, landed: landing.LandedSnapshot | None) -> datetime:
    """Of a snapshot without a time. Order comes from the landing zone, not from a clock that may have been set back."""
    time = now.replace(microsecond=0)
    return max(time, landed.time + timedelta(seconds=1)) if landed else time


def peek(source: Source, table: str, now: datetime) -> tuple[landing.LandedSnapshot, str]:
    """The source's newest snapshot as `extract` would land it, and a warning or "". Nothing lands.

    What has landed already is taken from landing; else `folder` is where the source's files lie while it is open.
    """
    offer = source.snapshots[-1]
    last, time = landing.newest_snapshot(source.lake, table), offer.time
    if time:
        last = landing.find_snapshot(source.lake, table, time)
        if last and offer.immutable:
            return last, ""
    folder, files = offer.fetch_files(table)
    if last and time:
        return last, "".join(_change_warnings(last, (folder, files)))
    if last and not _has_changed(last, folder, files):
        return last, ""
    read = tuple(landing.inspect_file(f, name=f.relative_to(folder).as_posix()) for f in files)
    return landing.LandedSnapshot(table, time or _time_of_undated(now, last), folder, read), ""


def _change_warnings(landed: landing.LandedSnapshot, now: TableFiles) -> list[str]:
    folder, files = now
    if not _has_changed(landed, folder, files):
        return []
    return [
        f"{folder} changed after it was taken; the landed copy stands. "
        "Hand out a correction as a new snapshot, under its own time"
    ]


def _has_changed(landed: landing.LandedSnapshot, folder: Path, files: list[Path]) -> bool:
    """Whether the source's files differ from what landed; reads them only if their metadata does."""
    names = [f.relative_to(folder).as_posix() for f in files]
    if [f.name for f in landed.files] != names:
        return True
    if all(f.signature == landing.file_signature(p) for f, p in zip(landed.files, files, strict=True)):
        return False
    return landed.file_hashes != tuple((n, landing.inspect_file(p).sha256) for n, p in zip(names, files, strict=True))
