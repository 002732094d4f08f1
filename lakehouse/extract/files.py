"""A source of type `files`: a folder with the files of one snapshot, or with a folder per snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from lakehouse import landing
from lakehouse.config import Files, Pipeline, Table
from lakehouse.errors import ConfigError
from lakehouse.lake import Lake, snapshot_name, snapshot_time


@dataclass(frozen=True)
class Extracted:
    """What `extract` did for one table: the snapshots landed now, and what a reader should know."""

    table: str
    landed: tuple[datetime, ...] = ()
    warnings: tuple[str, ...] = ()


def snapshots(root: Path) -> list[tuple[datetime, Path]]:
    """The snapshot folders of a source, oldest first; empty if `root` holds the files themselves."""
    found = [(time, p) for p in root.iterdir() if p.is_dir() and (time := snapshot_time(p.name))]
    return sorted(found)


def source_root(pipeline: Pipeline) -> Path:
    """The source's folder.

    Raises:
        ConfigError: it is not there.
    """
    assert isinstance(pipeline.source, Files)
    root = Path(pipeline.source.path)
    if not root.is_dir():
        raise ConfigError(
            f"the source folder {root} is not there" if not root.exists() else f"the source {root} is a file",
            expected="a folder with the files of one snapshot, or with folders named YYYYMMDD_HHMMSS",
            where=f"{pipeline.path}: source.path",
            next_step="mend source.path, or mount what it names",
        )
    return root


def source_signature(pipeline: Pipeline, tables: dict[str, Table]) -> dict[str, str]:
    """A signature per file of the source, from metadata alone: equal means nothing new to land.

    A snapshot's folder counts by itself: without any file it is a snapshot that lacks every table's.
    """
    root = source_root(pipeline)
    dated = [folder for _, folder in snapshots(root)]
    files = (f for folder in dated or [root] for table in tables.values() for f in matching(folder, table))
    return {f"{folder.name}/": "" for folder in dated} | {
        file.relative_to(root).as_posix(): landing.signature(file) for file in files
    }


def matching(folder: Path, table: Table) -> list[Path]:
    """The files of `table` in one snapshot's folder, by name or glob; never one from outside it."""
    inside = folder.resolve()
    return sorted(p for p in folder.glob(table.file) if p.is_file() and p.resolve().is_relative_to(inside))


def extract(pipeline: Pipeline, lake: Lake, table: str, now: datetime, as_of: datetime | None) -> Extracted:
    """Land what the source has and the lake has not, for one table.

    Args:
        now: the run's clock, the time of a snapshot that has none.
        as_of: the time to give to it instead.

    Raises:
        ConfigError: `as_of` names a snapshot that has landed with other bytes.
    """
    root = source_root(pipeline)
    dated = snapshots(root)
    if dated:
        return _extract_dated(pipeline, lake, table, dated, as_of)
    return _extract_current(pipeline, lake, table, root, now, as_of)


def _extract_dated(
    pipeline: Pipeline, lake: Lake, table: str, dated: list[tuple[datetime, Path]], as_of: datetime | None
) -> Extracted:
    new, warnings = [], []
    if as_of:
        warnings.append("--as-of is ignored: the source's folders name the time of each snapshot")
    for time, folder in dated:
        files = matching(folder, pipeline.tables[table])
        there = lake.landing(table) / snapshot_name(time)
        if not there.exists():
            landing.land(lake, table, time, files, folder)
            new.append(time)
        elif _changed(landing.load(there, table, time), folder, files):
            warnings.append(_changed_since(folder))
    return Extracted(table, tuple(new), tuple(warnings))


def _extract_current(
    pipeline: Pipeline, lake: Lake, table: str, root: Path, now: datetime, as_of: datetime | None
) -> Extracted:
    files = matching(root, pipeline.tables[table])
    last = landing.newest(lake, table)
    if last and not _changed(last, root, files):
        return Extracted(table)
    warnings = []
    time = as_of.replace(microsecond=0) if as_of else _time_of_current(now, last)
    if time > now and not as_of:
        warnings.append(f"the clock says {now:%Y-%m-%d %H:%M:%S}, not later than the last snapshot; taken as {time}")
    there = lake.landing(table) / snapshot_name(time)
    if there.exists():
        if not _changed(landing.load(there, table, time), root, files):
            return Extracted(table)
        raise ConfigError(
            f"the snapshot of {table} at {snapshot_name(time)} has landed already, with other bytes",
            expected="one snapshot per table and time",
            where=str(there),
            next_step="give --as-of a time of its own",
        )
    landing.land(lake, table, time, files, root)
    return Extracted(table, (time,), tuple(warnings))


def _time_of_current(now: datetime, last: landing.Landed | None) -> datetime:
    """Of a snapshot without a time. Order comes from the landing zone, not from a clock that may have been set back."""
    time = now.replace(microsecond=0)
    return max(time, last.time + timedelta(seconds=1)) if last else time


def _changed_since(folder: Path) -> str:
    return (
        f"{folder} changed after it was taken; the landed copy stands. "
        "Hand out a correction as a new snapshot, under its own time"
    )


def peek(pipeline: Pipeline, lake: Lake, table: str, now: datetime) -> tuple[landing.Landed, str]:
    """The source's newest snapshot as `extract` would land it, and a warning or "". Nothing is copied.

    What has landed already is taken from landing; else `folder` is the source's own, and its files are read there.
    """
    root = source_root(pipeline)
    if dated := snapshots(root):
        time, folder = dated[-1]
        there = lake.landing(table) / snapshot_name(time)
        last = landing.load(there, table, time) if there.exists() else None
    else:
        last = landing.newest(lake, table)
        time, folder = _time_of_current(now, last), root
    files = matching(folder, pipeline.tables[table])
    changed = last is not None and _changed(last, folder, files)
    if last and (dated or not changed):
        return last, _changed_since(folder) if changed else ""
    read = tuple(landing.inspect(f, name=f.relative_to(folder).as_posix()) for f in files)
    return landing.Landed(table, time, folder, read), ""


def _changed(last: landing.Landed, folder: Path, files: list[Path]) -> bool:
    """Whether the source's files differ from what landed; reads them only if their metadata does."""
    names = [f.relative_to(folder).as_posix() for f in files]
    if [f.name for f in last.files] != names:
        return True
    if all(f.signature == landing.signature(p) for f, p in zip(last.files, files, strict=True)):
        return False
    return last.content != tuple((n, landing.inspect(p).sha256) for n, p in zip(names, files, strict=True))
