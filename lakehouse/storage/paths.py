"""Defines where everything is in a lake: folders, file names, tables, and how times are written in names.

<root>/landing/<table>/<YYYYMMDD_HHMMSS>/<file>      bytes as received
<root>/raw/full-load/<table>.parquet                 change set 1
<root>/raw/full-load/<table>_<YYYYMMDD_HHMMSS>.parquet   or the full state by which retention replaced older ones
<root>/raw/cdc/<table>_<YYYYMMDD_HHMMSS>.parquet     change sets 2, 3, ...
<root>/raw/ledger                                    the decision about each snapshot
<root>/bronze|silver|gold/<name>                     Delta tables
<root>/quarantine/<table>                            rejected rows
<root>/quality/results                               results of the models' expectations
<root>/forgotten                                     keys that were forgotten on request, as hashes
<root>/_state/...                                    expendable: locks, checkpoints, caches

With a catalog, the Delta tables are in the schemas <pipeline>_bronze, _silver and _gold, and the root is a volume that
contains files only (docs/decisions/0019-lake.md).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lakehouse.config.layers import TABLE_LAYERS
from lakehouse.errors import ConfigError
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.private_dirs import cache_folder
from lakehouse.storage.s3 import S3Path

LAYERS = ("raw", *TABLE_LAYERS, "quarantine")  # the folders of Delta tables
SNAPSHOT_TIME_FORMAT = "%Y%m%d_%H%M%S"
_IDENTIFIER = re.compile(r"[A-Za-z0-9_]+")
_SNAPSHOT_NAME = re.compile(r"\d{8}_\d{6}")


def snapshot_name(time: datetime) -> str:
    """Return the folder name of a snapshot taken at `time`, which must be aware.

    >>> snapshot_name(datetime(2025, 10, 3, 17, 5, 52, tzinfo=timezone.utc))
    '20251003_170552'
    """
    return time.astimezone(timezone.utc).strftime(SNAPSHOT_TIME_FORMAT)


def snapshot_time(name: str) -> datetime | None:
    """Return the UTC time of a snapshot's folder name, or None if the name is of another form.

    >>> snapshot_time("20251003_170552").isoformat()
    '2025-10-03T17:05:52+00:00'
    >>> snapshot_time("20251399_000000") is None
    True
    """
    if not _SNAPSHOT_NAME.fullmatch(name):
        return None
    try:
        return datetime.strptime(name, SNAPSHOT_TIME_FORMAT).replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def source_folder_time(name: str) -> datetime | None:
    """Return the UTC time of a snapshot's folder in a source; a day alone is its midnight.

    >>> source_folder_time("2025-10-03").isoformat(), source_folder_time("20251003").isoformat()
    ('2025-10-03T00:00:00+00:00', '2025-10-03T00:00:00+00:00')

    Args:
        name: YYYYMMDD_HHMMSS, YYYYMMDD or YYYY-MM-DD; None is returned for any other name.
    """
    day = re.fullmatch(r"(\d{4})(-?)(\d{2})\2(\d{2})", name, re.ASCII)
    return snapshot_time(f"{day[1]}{day[3]}{day[4]}_000000" if day else name)


def to_utc(time: datetime | str) -> datetime:
    """Return a time in UTC; a time without a zone is taken as UTC.

    >>> to_utc("2025-10-03T14:05:52-03:00").isoformat()
    '2025-10-03T17:05:52+00:00'

    Args:
        time: A time, or its text in ISO format.

    Raises:
        ConfigError: The text is no ISO time.
    """
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time.replace("Z", "+00:00"))
        except ValueError:
            expected = "a time such as 20251003_170552 or 2025-10-03T17:05:52Z"
            raise ConfigError(f"the time {time!r}", expected=expected) from None
    return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)


def parse_time(text: str) -> datetime:
    """Return the UTC time of a snapshot's name or of an ISO time.

    >>> parse_time("20251003_170552") == parse_time("2025-10-03T14:05:52-03:00")
    True

    Args:
        text: YYYYMMDD_HHMMSS, as the verbs print it, or an ISO time; without a zone it is UTC.

    Raises:
        ConfigError: The text is no time.
    """
    return snapshot_time(text) or to_utc(text)


def utc_text(time: datetime) -> str:
    """Return a time in UTC, to the second, as records and locks have it.

    >>> utc_text(datetime(2025, 10, 3, 17, 5, 52, tzinfo=timezone.utc))
    '2025-10-03T17:05:52+00:00'
    """
    return time.astimezone(timezone.utc).isoformat(timespec="seconds")


def utc_text_z(time: datetime) -> str:
    """Return a time in UTC, to the second, as documents for people have it.

    >>> utc_text_z(datetime(2025, 10, 3, 17, 5, 52, tzinfo=timezone.utc))
    '2025-10-03T17:05:52Z'
    """
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Lake:
    """The paths and tables of one lake.

    A `str` is for Spark, a `StorePath` or `Path` for Python on the driver. The `..._table` methods return the
    address of a table for Delta: its path, or its name if the lake has a catalog.

    Attributes:
        root: A path, relative to the working directory or absolute, or s3a://bucket/prefix.
        catalog: The prefix of the schemas, such as `main.loyalty`; empty if tables have paths.
    """

    root: str
    catalog: str = ""

    @classmethod
    def from_root(cls, root: str) -> Lake:
        """Return the lake at `root`, as an absolute path, so that the working directory may change afterwards."""
        path = file_io.store_path(root)
        return cls(str(path.absolute() if isinstance(path, Path) else path).rstrip("/"))

    @classmethod
    def in_catalog(cls, catalog: str, volume: str, pipeline: str, tables: Iterable[str]) -> Lake:
        """Return the lake of a pipeline whose tables are in a catalog and whose files are in a volume.

        Args:
            catalog: The name of the catalog.
            volume: The path of the volume.
            pipeline: The name of the pipeline; the names of the schemas begin with it.
            tables: The names of the pipeline's tables.

        Raises:
            ConfigError: A name is not possible for a schema, or reserved for the lake's internal tables.
        """
        for setting, name in (("lake.catalog", catalog), ("name", pipeline)):
            if not _IDENTIFIER.fullmatch(name):
                raise ConfigError(
                    f"{setting}: {name!r}", expected="letters, digits and _, because schemas are named after it"
                )
        if reserved := [name for name in tables if name.startswith("_")]:
            raise ConfigError(
                f"a table with the name {reserved[0]}", expected="in a catalog, names that do not begin with _"
            )
        return cls(Lake.from_root(volume).root, f"{catalog}.{pipeline}")

    @property
    def is_on_s3(self) -> bool:
        """Return whether the lake is on S3, so that other machines can write to it and a file lock is not enough."""
        return isinstance(file_io.store_path(self.root), S3Path)

    # Paths on the disk or on S3

    def path(self, *parts: str) -> StorePath:
        """Return a path below the root."""
        path = file_io.store_path(self.root)
        for part in parts:
            path = path / part
        return path

    def spark_path(self, path: str) -> str:
        """Return a path relative to the lake as Spark reads it."""
        return f"{self.root}/{path}"

    def landing_path(self, table: str) -> StorePath:
        """Return the folder of a table's landed snapshots."""
        return self.path("landing", table)

    def state_path(self, *parts: str) -> StorePath:
        """Return a path below `_state`, whose files can be lost without harm."""
        return self.path("_state", *parts)

    def change_set_path(
        self,
        table: str,
        sequence: int,
        time: datetime,
        used_paths: frozenset[str] = frozenset(),
        is_feed: bool = False,
    ) -> str:
        """Return the path, relative to the lake, of a new change set, or of a batch of a change feed.

        Args:
            table: The table's name in pipeline.yml.
            sequence: The number of the change set in the ledger.
            time: The time of its snapshot.
            used_paths: The paths that the ledger has for this table. A second change set of the same second gets its
                sequence appended.
            is_feed: Whether it is a batch of a change feed.
        """
        if sequence == 1 and not is_feed:
            path = f"raw/full-load/{table}.parquet"
            return path if path not in used_paths else self.compacted_path(table, sequence, time, used_paths)
        path = f"raw/cdc/{table}_{snapshot_name(time)}"
        return f"{path}.parquet" if f"{path}.parquet" not in used_paths else f"{path}_{sequence}.parquet"

    def compacted_path(self, table: str, sequence: int, time: datetime, used_paths: frozenset[str]) -> str:
        """Return the path, relative to the lake, of a full state that replaces the change sets up to `sequence`.

        Args:
            table: The table's name in pipeline.yml.
            sequence: The number of the last change set that the state contains.
            time: The time of that change set's snapshot.
            used_paths: The paths that the ledger has for this table.
        """
        path = f"raw/full-load/{table}_{snapshot_name(time)}"
        return f"{path}.parquet" if f"{path}.parquet" not in used_paths else f"{path}_{sequence}.parquet"

    # Paths on this machine

    def local_path(self, *parts: str) -> Path:
        """Return a path on this machine for expendable files: below `_state` if the lake is on a disk.

        Raises:
            ConfigError: For a lake on S3, this user has no folder that is closed to others.
        """
        state = self.state_path(*parts)
        if isinstance(state, Path):
            return state
        return cache_folder("lakes", hashlib.sha256(self.root.encode()).hexdigest()[:12]).joinpath(*parts)

    def checkpoint_path(self, table: str) -> str:
        """Return the checkpoint folder of the stream that starts bronze.

        It is on this machine, because each trigger would make about a hundred requests to S3.
        """
        path = self.local_path("bronze", table, "checkpoint")
        return f"file://{path}" if self.is_on_s3 else str(path)

    # Delta tables

    def table(self, name: str) -> str:
        """Return the path or the catalog name of `bronze.x`, `silver.x` or `gold.x`."""
        layer, _, short = name.partition(".")
        return f"{self.catalog}_{layer}.{short}" if self.catalog else f"{self.root}/{layer}/{short}"

    def bronze_table(self, table: str) -> str:
        """Return the path or the catalog name of the bronze table of a pipeline's table."""
        return self.table(f"bronze.{table}")

    def quarantine_table(self, table: str) -> str:
        """Return the path or the catalog name of the rejected rows of a table."""
        return self._internal_table(f"_quarantine_{table}", f"quarantine/{table}")

    @property
    def ledger_table(self) -> str:
        """The path or the catalog name of the ledger."""
        return self._internal_table("_ledger", "raw/ledger")

    @property
    def expectation_results_table(self) -> str:
        """The path or the catalog name of the results of expectations."""
        return self._internal_table("_quality", "quality/results")

    @property
    def forgotten_keys_table(self) -> str:
        """The path or the catalog name of the hashes of forgotten keys."""
        return self._internal_table("_forgotten", "forgotten")

    def _internal_table(self, name: str, path: str) -> str:
        return f"{self.catalog}_bronze.{name}" if self.catalog else f"{self.root}/{path}"


def write_json(file: StorePath, document: Any) -> None:
    """Write `document` to `file` as JSON; a reader sees the old file or the complete new one, never a part."""
    file_io.write_atomically(file, json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode())


def read_json(file: StorePath) -> dict[str, Any]:
    """Return the document of an expendable file; empty if there is none, or if it is damaged."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
