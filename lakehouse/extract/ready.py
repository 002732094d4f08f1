"""Finds the snapshot folders of a source that are not ready to be taken (`ready`), and remembers looks at them.

A folder that is not ready holds back later ones that were not taken. A folder that some table has landed was ready. The
looks are in `_state/ready.json`: losing them costs one more look. Commands that take snapshots record a look under the
lock of the lake; all others only read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lakehouse.config import Files, Pipeline
from lakehouse.extract.folder import all_table_files
from lakehouse.storage import file_io, landing
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.paths import Lake, read_json, snapshot_name, write_json
from lakehouse.text import counted, visible

_Folders = Sequence[tuple[datetime | None, Path]]


@dataclass(frozen=True)
class NotReady:
    """A snapshot's folder that is not ready.

    Attributes:
        folder: The folder.
        reasons: What is missing.
        later: The later folders that wait for it.
    """

    folder: Path
    reasons: tuple[str, ...]
    later: tuple[Path, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that are not to be taken yet."""
        return (self.folder, *self.later)

    @property
    def message(self) -> str:
        """The folder, the reasons, and how many others wait."""
        wait = f"; {counted(len(self.later), 'later one waits', 'later ones wait')}" if self.later else ""
        return f"{visible(self.folder.name)} is not ready: {' and '.join(self.reasons)}{wait}"


def record_look(pipeline: Pipeline, lake: Lake, folders: _Folders, now: datetime) -> None:
    """Record how the folders that were not taken look now, if `ready` asks for two looks.

    Args:
        pipeline: A pipeline with a source of type `files`.
        lake: The lake, which is locked.
        folders: The snapshots' folders with their times, oldest first; a single one without a time.
        now: The time of the look.
    """
    assert isinstance(pipeline.source, Files)
    if pipeline.source.ready is None or pipeline.source.ready.settle is None:
        return
    known = _read_looks(lake)
    looks = {}
    for time, folder in _not_taken(pipeline, lake, folders):
        listing, (seen_listing, seen) = _listing(pipeline, time, folder), known.get(folder.name, ("", now))
        is_known = listing == seen_listing and seen <= now  # a clock may be set back
        looks[folder.name] = (listing, seen if is_known else now)
    if looks != known:
        document = {name: {"listing": listing, "seen": seen.isoformat()} for name, (listing, seen) in looks.items()}
        write_json(_looks_file(lake), document)


def find_not_ready(pipeline: Pipeline, lake: Lake, folders: _Folders, now: datetime) -> NotReady | None:
    """Return the first folder that is not ready, with those that wait for it; None if none is.

    Args:
        pipeline: A pipeline with a source of type `files`.
        lake: The lake, which knows the folders that were taken and the looks.
        folders: The snapshots' folders with their times, oldest first; a single one without a time.
        now: The time to compare the looks with.
    """
    assert isinstance(pipeline.source, Files)
    ready = pipeline.source.ready
    if ready is None:
        return None
    looks = _read_looks(lake) if ready.settle else {}
    pending = _not_taken(pipeline, lake, folders)
    for at, (time, folder) in enumerate(pending):
        reasons = []
        if ready.file and not any(path.is_file() for path in folder.glob(ready.file)):
            reasons.append(f"no {visible(ready.file)}")
        if ready.settle:
            listing, seen = looks.get(folder.name, ("", now))
            if now - seen < ready.settle or not listing or listing != _listing(pipeline, time, folder):
                seconds = int(ready.settle.total_seconds())
                reasons.append(f"it was not yet seen unchanged for {_duration_text(seconds)} (settle)")
        if reasons:
            return NotReady(folder, tuple(reasons), tuple(later for _, later in pending[at + 1 :]))
    return None


def _not_taken(pipeline: Pipeline, lake: Lake, folders: _Folders) -> _Folders:
    """Return the folders that no table has landed; one without a time has files of several snapshots, one by one."""
    taken = {name for table in pipeline.tables for name in file_io.list_names(lake.landing_path(table))}
    return [(time, folder) for time, folder in folders if time is None or snapshot_name(time) not in taken]


def _listing(pipeline: Pipeline, time: datetime | None, folder: Path) -> str:
    """Return a hash of the names, sizes and times of change of a folder's files; empty if they change now.

    Of a source's own folder these are the files of the tables: beside them there may be anything.
    """
    try:
        files = [path for path in folder.rglob("*") if path.is_file()] if time else all_table_files(pipeline, folder)
        signatures = {path.relative_to(folder).as_posix(): landing.file_signature(path) for path in files}
    except FileNotFoundError:  # removed, or renamed, since it was listed
        return ""
    return hashlib.sha256(json.dumps(signatures, sort_keys=True).encode()).hexdigest()


def _duration_text(seconds: int) -> str:
    """Return a duration as a configuration has it."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _read_looks(lake: Lake) -> dict[str, tuple[str, datetime]]:
    """Return the recorded looks by folder: its listing, and when it was first seen so; empty if they are lost."""
    try:
        looks = read_json(_looks_file(lake)).items()
        return {name: (str(look["listing"]), datetime.fromisoformat(look["seen"])) for name, look in looks}
    except (ValueError, TypeError, KeyError):
        return {}


def _looks_file(lake: Lake) -> StorePath:
    return lake.state_path("ready.json")
