"""Reads the log of a Delta table without Spark: its version, its size and its commits.

Every stage reads the log of each of its tables on every run, and mostly learns that nothing has changed. The format is
Delta's protocol (github.com/delta-io/delta, PROTOCOL.md: "Delta Log Entries", "Version Checksum File").
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from threading import Lock
from typing import Any, overload

from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath

# Operations that change no row. Any other commit without metadata of this project counts as a foreign write.
ROW_PRESERVING_OPERATIONS = frozenset(
    {"OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "ADD COLUMNS"}
    | {"CHANGE COLUMN", "UPGRADE PROTOCOL", "COMPUTE STATS", "CLUSTER BY", "REORG", "DROP FEATURE"}
    | {"ADD CONSTRAINT", "DROP CONSTRAINT", "DOMAIN METADATA", "ROW TRACKING BACKFILL"}
)
_BATCH_SIZE = 16  # commits that are read together


@dataclass(frozen=True)
class Commit:
    """One commit of a table.

    Attributes:
        version: The version of the table that it made.
        operation: Delta's name of the operation, such as MERGE.
        metadata: The metadata of this project; empty for the commits of others.
    """

    version: int
    operation: str
    metadata: dict[str, Any]

    @classmethod
    def from_log(cls, version: int, operation: str, user_metadata: str | None) -> Commit:
        """Return a commit with this project's part of its user metadata.

        Args:
            version: The version of the table that the commit made.
            operation: Delta's name of the operation.
            user_metadata: The text of `userMetadata` in the log, by any writer.
        """
        try:
            document = json.loads(user_metadata or "")
        except ValueError:
            document = None
        metadata = document.get("lakehouse") if isinstance(document, dict) else None
        return cls(version, operation, metadata if isinstance(metadata, dict) else {})

    @property
    def changes_rows(self) -> bool:
        """Whether the commit may have changed rows."""
        return self.operation not in ROW_PRESERVING_OPERATIONS


@dataclass(frozen=True)
class TableVersion:
    """The newest version of a table.

    Attributes:
        id: Delta's id of the table, which changes if the table is replaced.
        version: The number of the newest version.
        size: The bytes of its data files.
        commits: The commits, newest first.
    """

    id: str
    version: int
    size: int
    commits: Sequence[Commit]

    def recorded_progress(self) -> dict[str, Any] | None:
        """Return the metadata of this project's last commit, or None if others may have changed rows since."""
        for commit in self.commits:
            if commit.metadata:
                return commit.metadata
            if commit.changes_rows:
                return None
        return None

    @property
    def last_refresh_metadata(self) -> Mapping[str, Any]:
        """The metadata of the newest refresh of a model, even if others changed rows since; empty if there is none."""
        return next((c.metadata for c in self.commits if "inputs" in c.metadata), {})

    @property
    def last_refresh_version(self) -> int:
        """The newest version that a refresh of a model made; -1 if the log has none."""
        return next((c.version for c in self.commits if "inputs" in c.metadata), -1)

    def has_unread_changes(self, table_id: str, version: int) -> bool:
        """Return whether this table may have rows that a reader has not read.

        This is also the case if the table was replaced since, or if the log no longer has the commits in between.

        Args:
            table_id: The id of the table that the reader has read.
            version: The version up to which it has read that table.
        """
        return table_id != self.id or self.has_changed_since(version)

    def has_changed_since(self, version: int) -> bool:
        """Return whether rows may differ from those of `version`; also if the log no longer has the commits between."""
        later = list(takewhile(lambda commit: commit.version > version, self.commits))
        return len(later) != self.version - version or any(c.changes_rows for c in later)

    def has_missing_commits_since(self, version: int) -> bool:
        """Return whether the log lacks a commit after `version`, so that changes since then cannot all be read.

        Delta does not notice this itself if checkpoints make the table readable: its Change Data Feed skips a commit
        whose file is missing.
        """
        later = [commit.version for commit in takewhile(lambda commit: commit.version > version, self.commits)]
        if isinstance(self.commits, CommitLog):
            return len(later) != self.version - version
        # A history that Spark returned ends at its limit: commits before the oldest one in it are unknown, not missing.
        oldest = self.commits[-1].version if self.commits else self.version + 1
        return later != list(range(self.version, max(version, oldest - 1), -1))


@dataclass(frozen=True)
class CommitLog(Sequence[Commit]):
    """The commits of a log from `newest` back to the oldest that still exists.

    Commits are read when they are needed, and once. Several threads may read.

    Attributes:
        log: The folder `_delta_log`.
        newest: The version of the newest commit.
    """

    log: StorePath
    newest: int
    _loaded: list[Commit] = field(default_factory=list, repr=False, compare=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def __iter__(self) -> Iterator[Commit]:
        index = 0
        while index < len(self._loaded) or self._load_more(index):
            yield self._loaded[index]
            index += 1

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, index: int) -> Commit: ...
    @overload
    def __getitem__(self, index: slice) -> list[Commit]: ...
    def __getitem__(self, index: int | slice) -> Commit | list[Commit]:
        return list(self)[index]

    def _load_more(self, index: int) -> bool:
        """Read commits up to `index`, and return whether there is one; Delta deletes old ones."""
        with self._lock:
            if index < len(self._loaded):
                return True  # another thread has read it
            last = self.newest - index
            versions = range(last, max(last - _BATCH_SIZE, -1), -1)
            files = file_io.read_files(log_file(self.log, version, "json") for version in versions)
            existing = takewhile(lambda pair: pair[1] is not None, zip(versions, files, strict=True))
            infos = [(version, _commit_info(content)) for version, content in existing if content is not None]
            commits = [Commit.from_log(v, str(info.get("operation")), info.get("userMetadata")) for v, info in infos]
            self._loaded.extend(commits)
            return bool(commits)


def read_current_version(table: StorePath) -> TableVersion | None:
    """Return the newest version of a table, or None if its files do not show it.

    This is the case if there is no table, or if the newest commit has no checksum file. Delta writes that file after
    each commit if it can, except after RESTORE; other writers need not. Then Spark has to be used.

    Args:
        table: The folder of the table.
    """
    newest, log = newest_version(table), table / "_delta_log"
    checksum = read_checksum(log, newest) if newest >= 0 else None
    if checksum is None:
        return None
    return TableVersion(checksum["metadata"]["id"], newest, checksum["tableSizeBytes"], CommitLog(log, newest))


def newest_version(table: StorePath) -> int:
    """Return the newest version in a table's log, read from the names of its files; -1 if there is no log."""
    versions = (
        name.removesuffix(".json") for name in file_io.list_names(table / "_delta_log") if name.endswith(".json")
    )
    return max((int(v) for v in versions if v.isdigit()), default=-1)


def commit_id(table: StorePath, version: int) -> str | None:
    """Return the unique id of a commit, or None if the log no longer has it.

    It differs between commits of the same version in copies of a table that were continued separately.

    Args:
        table: The folder of the table.
        version: The version that the commit made.
    """
    (content,) = file_io.read_files([log_file(table / "_delta_log", version, "json")])
    transaction = _commit_info(content).get("txnId") if content is not None else None
    return transaction if isinstance(transaction, str) else None


def log_file(log: StorePath, version: int, kind: str) -> StorePath:
    """Return the file of one version in a log.

    Args:
        log: The folder `_delta_log`.
        version: The version.
        kind: `json` for the commit, `crc` for the checksum file, or `checkpoint.parquet`.
    """
    return log / f"{version:020d}.{kind}"


def read_checksum(log: StorePath, version: int) -> dict[str, Any] | None:
    """Return the checksum file of a version, or None if it is missing or lacks the table's id or size.

    Args:
        log: The folder `_delta_log`.
        version: The version.
    """
    (content,) = file_io.read_files([log_file(log, version, "crc")])
    try:
        document = json.loads(content or b"")
        return document if document["metadata"]["id"] and document["tableSizeBytes"] >= 0 else None
    except (ValueError, TypeError, KeyError):
        return None


def _commit_info(content: bytes) -> dict[str, Any]:
    """Return the `commitInfo` of a commit; it is mostly the first line, so that the many others are not parsed."""
    for line in content.splitlines():
        if b'"commitInfo"' in line:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("commitInfo"), dict):
                return dict(entry["commitInfo"])
    return {}
