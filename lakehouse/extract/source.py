"""Lands the snapshots of a source of any type: `extract_table` those of one table that have not landed yet.

A source is a list of snapshots, each with or without a time, and with a function that fetches a table's files.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lakehouse.config import Pipeline
from lakehouse.errors import ConfigError
from lakehouse.storage import landing
from lakehouse.storage.landing import LandedSnapshot, OnBytes, ignore_bytes
from lakehouse.storage.paths import Lake, snapshot_name

_LANDING_THREADS = 8  # of snapshots that wait for the disk or for S3


@dataclass(frozen=True)
class TableFiles:
    """The files of one table in a snapshot of a source.

    Attributes:
        folder: The folder that names are relative to.
        paths: The files, in the order of their names.
        hint: If there is none: the files found in their place, and the correction; empty if there are no files.
    """

    folder: Path
    paths: list[Path]
    hint: str = ""

    @property
    def names(self) -> list[str]:
        """The names under which the files land: their paths relative to the folder."""
        return [path.relative_to(self.folder).as_posix() for path in self.paths]


@dataclass(frozen=True)
class SourceSnapshot:
    """One snapshot that a source offers.

    Attributes:
        time: The time it was taken at; None if the source does not record it.
        fetch_files: Returns the files of a table; the call may take long, and raises the errors of the source.
        immutable: Whether the source never changes the files of this time, so that a landed copy needs no comparison.
        commit: The id of the commit that it is, in a git repository.
        first_commit: The id of the commit at which the history began.
        offsets: Of a topic of Kafka: the offset after the last message of each partition.
    """

    time: datetime | None
    fetch_files: Callable[[str], TableFiles]
    immutable: bool = False
    commit: str = ""
    first_commit: str = ""
    offsets: Mapping[str, int] | None = None

    @property
    def origin(self) -> dict[str, Any]:
        """Where the snapshot comes from, as its manifest keeps it."""
        if self.offsets is not None:
            return {"offsets": dict(self.offsets)}
        return {"commit": self.commit, "first_commit": self.first_commit}


@dataclass(frozen=True)
class Source:
    """An open source: any number of snapshots with a time, oldest first, or a single one without.

    Attributes:
        pipeline: The pipeline.
        lake: The lake to land in.
        snapshots: The snapshots.
        warnings: Parts of the source that were not taken; each table reports them.
        on_bytes: Called while files are copied.
        find_new: Returns the snapshots of a table that have not landed, oldest first, if the source itself knows them
            from the landed ones; it has no `snapshots` then. Their files are temporary.
        table_warnings: Further warnings about a table, by its name.
    """

    pipeline: Pipeline
    lake: Lake
    snapshots: tuple[SourceSnapshot, ...]
    warnings: tuple[str, ...] = ()
    on_bytes: OnBytes = ignore_bytes
    find_new: Callable[[str], Iterable[SourceSnapshot]] | None = None
    table_warnings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def snapshot_times(self) -> set[datetime]:
        """The times of the snapshots that have one."""
        return {snapshot.time for snapshot in self.snapshots if snapshot.time}

    def times_of(self, table: str) -> set[datetime]:
        """Return the times of the snapshots of one table that have one.

        Args:
            table: The table's name.
        """
        if self.find_new is None:
            return self.snapshot_times
        return {snapshot.time for snapshot in self.find_new(table) if snapshot.time}

    def warnings_of(self, table: str) -> tuple[str, ...]:
        """Return the warnings about the source and about one table.

        Args:
            table: The table's name.
        """
        return (*self.warnings, *self.table_warnings.get(table, ()))


@dataclass(frozen=True)
class ExtractResult:
    """The result of `extract_table`: the times of the snapshots that it landed, and warnings."""

    table: str
    landed_times: tuple[datetime, ...] = ()
    warnings: tuple[str, ...] = ()


def extract_table(
    source: Source, table: str, now: datetime, as_of: datetime | None, due: datetime | None = None
) -> ExtractResult:
    """Land the snapshots of one table that have not landed yet.

    Args:
        source: The open source.
        table: The table's name.
        now: The time of the run; it becomes the time of a snapshot that has none.
        as_of: A time to use instead of `now`.
        due: When the grace of the table's first missing key ends (`missing`): from then on, a snapshot without a time
            lands once more though its files are equal, since it deletes the key. None: no key is missing.

    Raises:
        ConfigError: A snapshot with other bytes has already landed at `as_of`.
        LakehouseError: The source cannot be read; nothing has landed.
    """
    if source.find_new:
        result = _extract_new(source, table, source.find_new(table), as_of)
    elif not source.snapshots:
        result = ExtractResult(table)  # none is ready
    elif source.snapshot_times:
        result = _extract_dated(source, table, as_of)
    else:
        result = _extract_undated(source, table, now, as_of, due)
    return replace(result, warnings=(*source.warnings_of(table), *result.warnings))


def _extract_new(
    source: Source, table: str, snapshots: Iterable[SourceSnapshot], as_of: datetime | None
) -> ExtractResult:
    """Land the snapshots of a source that tells which are new, whose folders are temporary."""
    landed_times = _land_in_order(source, table, snapshots, lambda folder: shutil.rmtree(folder, ignore_errors=True))
    return ExtractResult(table, tuple(landed_times), _as_of_warnings(as_of))


def _land_in_order(
    source: Source, table: str, snapshots: Iterable[SourceSnapshot], release: Callable[[Path], None]
) -> list[datetime]:
    """Land many snapshots: their bytes are written several at a time, and they land in order.

    Args:
        source: The open source.
        table: The table's name.
        snapshots: The snapshots, oldest first.
        release: Called with the folder of the files of each that has landed.

    Returns:
        Their times.
    """
    landed_times, begun = list[datetime](), deque[tuple[Future[ExitStack], datetime, Path]]()

    def finish_first() -> None:
        landing_snapshot, time, folder = begun.popleft()
        try:
            landing_snapshot.result().close()
        except BaseException:
            begun.clear()  # none may land after one that did not
            raise
        landed_times.append(time)
        release(folder)

    landing.remove_unfinished(source.lake, table)
    with ThreadPoolExecutor(_LANDING_THREADS) as pool:
        try:
            for snapshot in snapshots:
                files = snapshot.fetch_files(table)
                assert snapshot.time
                begun.append((pool.submit(_begin_landing, source, table, snapshot, files), snapshot.time, files.folder))
                if len(begun) > _LANDING_THREADS:
                    finish_first()
        finally:
            while begun:
                finish_first()
    return landed_times


def _begin_landing(source: Source, table: str, snapshot: SourceSnapshot, files: TableFiles) -> ExitStack:
    """Write the files of a snapshot, and return what lets it land when it is closed."""
    assert snapshot.time
    with ExitStack() as stack:
        stack.enter_context(
            landing.begin_landing(
                source.lake,
                table,
                snapshot.time,
                files.paths,
                files.folder,
                files.hint,
                on_bytes=source.on_bytes,
                origin=snapshot.origin,
            )
        )
        return stack.pop_all()


def _as_of_warnings(as_of: datetime | None) -> tuple[str, ...]:
    ignored = "--snapshot-time (--as-of) is ignored: the snapshots of this source have their own times"
    return (ignored,) if as_of else ()


def _extract_dated(source: Source, table: str, as_of: datetime | None) -> ExtractResult:
    warnings = [*_as_of_warnings(as_of)]

    def find_new() -> Iterator[SourceSnapshot]:
        for snapshot in source.snapshots:
            assert snapshot.time
            landed = landing.find_snapshot(source.lake, table, snapshot.time)
            if landed is None:
                yield snapshot
            elif not snapshot.immutable:
                warnings.extend(_change_warnings(source, landed, snapshot.fetch_files(table)))

    landed_times = _land_in_order(source, table, find_new(), lambda folder: None)
    return ExtractResult(table, tuple(landed_times), tuple(warnings))


def _extract_undated(
    source: Source, table: str, now: datetime, as_of: datetime | None, due: datetime | None
) -> ExtractResult:
    (snapshot,) = source.snapshots
    files = snapshot.fetch_files(table)
    newest = landing.newest_snapshot(source.lake, table)
    time = as_of.replace(microsecond=0) if as_of else _time_of_undated(now, newest)
    # One that landed since then may be held; it is not landed by each run until it is approved.
    is_due = newest is not None and due is not None and newest.time < due <= time
    if newest and not is_due and not _has_changed(newest, files):
        return ExtractResult(table)
    warnings = []
    if time > now and not as_of:
        late = f"the clock shows {now:%Y-%m-%d %H:%M:%S}, which is not later than the last snapshot"
        warnings.append(f"{late}; the time of the snapshot is set to {time}")
    if landed := landing.find_snapshot(source.lake, table, time):
        if not _has_changed(landed, files):
            return ExtractResult(table)
        raise ConfigError(
            f"a snapshot of {table} with other bytes has already landed at {snapshot_name(time)}",
            expected="one snapshot per table and time",
            where=str(landed.folder),
            next_step="use another time for --snapshot-time",
        )
    _land(source, table, time, files)
    return ExtractResult(table, (time,), tuple(warnings))


def _land(source: Source, table: str, time: datetime, files: TableFiles, again: bool = False) -> None:
    landing.land_snapshot(source.lake, table, time, files.paths, files.folder, files.hint, again, source.on_bytes)


def _time_of_undated(now: datetime, newest: LandedSnapshot | None) -> datetime:
    """Return a time later than the newest snapshot's, even if the clock was set back."""
    time = now.replace(microsecond=0)
    return max(time, newest.time + timedelta(seconds=1)) if newest else time


def peek(source: Source, table: str, now: datetime) -> tuple[LandedSnapshot, str]:
    """Return the source's newest snapshot as `extract_table` would land it, and a warning or "". Nothing lands.

    Args:
        source: The open source. If the snapshot has not landed, its files are valid as long as the source is open.
        table: The table's name.
        now: The time of a snapshot that has none.

    Raises:
        LakehouseError: The source cannot be read.
    """
    if source.find_new:
        return _peek_new(source, table, source.find_new(table), now), ""
    if not source.snapshots:
        return _newest_landed(source, table), ""
    snapshot = source.snapshots[-1]
    if snapshot.time:
        landed = landing.find_snapshot(source.lake, table, snapshot.time)
        if landed and snapshot.immutable:
            return landed, ""
    else:
        landed = landing.newest_snapshot(source.lake, table)
    files = snapshot.fetch_files(table)
    if landed and snapshot.time:
        return landed, "".join(_change_warnings(source, landed, files))
    if landed and not _has_changed(landed, files):
        return landed, ""
    return _inspected(table, snapshot.time or _time_of_undated(now, landed), files), ""


def _peek_new(source: Source, table: str, snapshots: Iterable[SourceSnapshot], now: datetime) -> LandedSnapshot:
    """Return the newest snapshot that has not landed, else the newest landed one; without any, an empty one."""
    newest = deque(snapshots, maxlen=1)
    if newest and newest[0].time:
        return _inspected(table, newest[0].time, newest[0].fetch_files(table))
    folder = source.lake.landing_path(table) / snapshot_name(now)
    return landing.newest_snapshot(source.lake, table) or LandedSnapshot(table, now, folder, ())


def _inspected(table: str, time: datetime, files: TableFiles) -> LandedSnapshot:
    inspected = tuple(landing.inspect_file(p, name=n) for p, n in zip(files.paths, files.names, strict=True))
    return LandedSnapshot(table, time, files.folder, inspected, hint=files.hint)


def _newest_landed(source: Source, table: str) -> LandedSnapshot:
    """Return the newest snapshot that was taken from a source whose snapshots are not ready.

    Raises:
        ConfigError: None was taken yet.
    """
    if landed := landing.newest_snapshot(source.lake, table):
        return landed
    raise ConfigError(
        "\n".join(source.warnings),
        expected="a snapshot that is ready",
        where=f"{source.pipeline.path}: source.ready",
        next_step="wait for the source to complete it, or correct source.ready",
    )


def changed_snapshots(source: Source, landed_snapshots: Iterable[LandedSnapshot]) -> list[LandedSnapshot]:
    """Return the landed snapshots of a table whose files in the source changed after they were landed.

    Args:
        source: The open source.
        landed_snapshots: The landed snapshots of the table.
    """
    offered = {snapshot.time: snapshot for snapshot in source.snapshots if snapshot.time and not snapshot.immutable}
    return [
        landed
        for landed in landed_snapshots
        if landed.time in offered and _has_changed(landed, offered[landed.time].fetch_files(landed.table))
    ]


def land_again(source: Source, table: str, time: datetime) -> bool:
    """Land a snapshot of the source again, in the place of the earlier one; return whether the source has it.

    Args:
        source: The open source.
        table: The table.
        time: The time of the snapshot.
    """
    offered = [snapshot for snapshot in source.snapshots if snapshot.time == time]
    for snapshot in offered:
        _land(source, table, time, snapshot.fetch_files(table), again=True)
    return bool(offered)


def next_step_if_changed(pipeline: Pipeline, landed: LandedSnapshot) -> str:
    """Return the next step for a snapshot that changed after it was landed.

    Args:
        pipeline: The pipeline.
        landed: The snapshot as it was landed.
    """
    command = f"lakehouse approve {pipeline.argument} {landed.table} {snapshot_name(landed.time)}"
    return f"{command}, to take it again in its place"


def _change_warnings(source: Source, landed: LandedSnapshot, files: TableFiles) -> list[str]:
    if not _has_changed(landed, files):
        return []
    next_step = next_step_if_changed(source.pipeline, landed)
    return [f"{files.folder} changed after it was landed; the landed copy is kept; {next_step}"]


def _has_changed(landed: LandedSnapshot, files: TableFiles) -> bool:
    """Return whether the source's files differ from the landed ones; read them only if their metadata differs."""
    if [file.name for file in landed.files] != files.names:
        return True
    signatures = [landing.file_signature(path) for path in files.paths]
    if [file.signature for file in landed.files] == signatures:
        return False
    hashes = [landing.inspect_file(path).sha256 for path in files.paths]
    return landed.file_hashes != tuple(zip(files.names, hashes, strict=True))
