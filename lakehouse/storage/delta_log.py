"""What a Delta table's log tells without Spark: its version, its size, and who made which commit.

A stage asks this of every table it reads or writes, on every run; most often the answer is that nothing has changed.
Read by Delta's protocol (github.com/delta-io/delta, PROTOCOL.md: "Delta Log Entries", "Version Checksum File").
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from threading import Lock
from typing import Any, overload

from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath

# Operations that leave every row as it was. Any other commit that is not ours is taken for a foreign write.
ROW_PRESERVING_OPERATIONS = frozenset(
    {"OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "ADD COLUMNS"}
    | {"CHANGE COLUMN", "UPGRADE PROTOCOL", "COMPUTE STATS", "CLUSTER BY", "REORG", "DROP FEATURE"}
    | {"ADD CONSTRAINT", "DROP CONSTRAINT", "DOMAIN METADATA", "ROW TRACKING BACKFILL"}
)
_BATCH_SIZE = 16  # files of commits


@dataclass(frozen=True)
class Commit:
    """One version of a table. `ours` is what this project recorded with it, empty for anybody else's."""

    version: int
    operation: str
    metadata: dict[str, Any]

    @classmethod
    def from_log(cls, version: int, operation: str, user_metadata: str | None) -> Commit:
        try:
            document = json.loads(user_metadata or "")
        except ValueError:
            document = None
        ours = document.get("lakehouse") if isinstance(document, dict) else None
        return cls(version, operation, ours if isinstance(ours, dict) else {})

    @property
    def changes_rows(self) -> bool:
        return self.operation not in ROW_PRESERVING_OPERATIONS


@dataclass(frozen=True)
class TableVersion:
    """A table as it is now: its id, its newest version, and its commits, newest first."""

    id: str
    version: int
    size: int  # bytes
    commits: Sequence[Commit]

    def recorded_progress(self) -> dict[str, Any] | None:
        """What the last run of ours recorded, if the rows are still as it left them; else None."""
        for commit in self.commits:
            if commit.metadata:
                return commit.metadata
            if commit.changes_rows:
                return None
        return None

    @property
    def last_refresh_version(self) -> int:
        """The newest version that a refresh of ours made; -1 if there is none that the log still knows."""
        return next((c.version for c in self.commits if "inputs" in c.metadata), -1)

    def has_changed_since(self, version: int) -> bool:
        """Whether rows may differ from those of `version`; True also where the log no longer tells."""
        later = list(takewhile(lambda commit: commit.version > version, self.commits))
        return len(later) != self.version - version or any(c.changes_rows for c in later)


@dataclass(frozen=True)
class CommitLog(Sequence[Commit]):
    """The commits of a log from `newest` back to the oldest that is there, each read when it is asked for, and once.

    Several threads may ask.
    """

    log: StorePath
    newest: int
    _loaded: list[Commit] = field(default_factory=list, repr=False, compare=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def __iter__(self) -> Iterator[Commit]:
        at = 0
        while at < len(self._loaded) or self._load_more(at):
            yield self._loaded[at]
            at += 1

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, at: int) -> Commit: ...
    @overload
    def __getitem__(self, at: slice) -> list[Commit]: ...
    def __getitem__(self, at: int | slice) -> Commit | list[Commit]:
        return list(self)[at]

    def _load_more(self, at: int) -> bool:
        """Read on to the commit that stands at this place; False: there is none, or Delta has cleaned it up."""
        with self._lock:
            if at < len(self._loaded):
                return True  # another thread has
            last = self.newest - at
            versions = range(last, max(last - _BATCH_SIZE, -1), -1)
            files = file_io.read_files(_log_file(self.log, version, "json") for version in versions)
            there = takewhile(lambda pair: pair[1] is not None, zip(versions, files, strict=True))
            found = [_parse_commit(version, content) for version, content in there if content is not None]
            self._loaded.extend(found)
            return bool(found)


def read_current_version(table: StorePath) -> TableVersion | None:
    """A table's head, as far as files tell; None if there is no table, or the newest commit has no checksum file.

    Delta writes that file after each commit if it can, but for those of RESTORE; other writers need not. Spark is to be
    asked then.
    """
    newest, log = newest_version(table), table / "_delta_log"
    checksum = _read_checksum(log, newest) if newest >= 0 else None
    if checksum is None:
        return None
    return TableVersion(checksum["metadata"]["id"], newest, checksum["tableSizeBytes"], CommitLog(log, newest))


def newest_version(table: StorePath) -> int:
    """The newest version in a Delta table's log, read from its file names alone; -1 without one."""
    versions = (
        name.removesuffix(".json") for name in file_io.list_names(table / "_delta_log") if name.endswith(".json")
    )
    return max((int(v) for v in versions if v.isdigit()), default=-1)


def commit_id(table: StorePath, version: int) -> str | None:
    """What tells a commit of a Delta table from every other one, also from one of the same version in a copy of the
    table that went another way; None where the log has it no more.
    """
    (content,) = file_io.read_files([_log_file(table / "_delta_log", version, "json")])
    told = _commit_info(content).get("txnId") if content is not None else None
    return told if isinstance(told, str) else None


def _log_file(log: StorePath, version: int, kind: str) -> StorePath:
    return log / f"{version:020d}.{kind}"


def _read_checksum(log: StorePath, version: int) -> dict[str, Any] | None:
    """The checksum file of a version, if it is there and has what is wanted of it."""
    (content,) = file_io.read_files([_log_file(log, version, "crc")])
    try:
        document = json.loads(content or b"")
        return document if document["metadata"]["id"] and document["tableSizeBytes"] >= 0 else None
    except (ValueError, TypeError, KeyError):
        return None


def _parse_commit(version: int, content: bytes) -> Commit:
    info = _commit_info(content)
    return Commit.from_log(version, str(info.get("operation")), info.get("userMetadata"))


def _commit_info(content: bytes) -> dict[str, Any]:
    """The entry of a commit that says what made it: mostly the first, and small, where others may be many."""
    for line in content.splitlines():
        if b'"commitInfo"' in line:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("commitInfo"), dict):
                return dict(entry["commitInfo"])
    return {}
