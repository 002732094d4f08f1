"""Where everything lies in a lake: its folders, its file names, its clock. No Spark here.

<root>/landing/<table>/<YYYYMMDD_HHMMSS>/<file>      bytes as received
<root>/raw/full-load/<table>.parquet                 change set 1
<root>/raw/full-load/<table>_<YYYYMMDD_HHMMSS>.parquet   or the state that retention put in place of older ones
<root>/raw/cdc/<table>_<YYYYMMDD_HHMMSS>.parquet     change sets 2, 3, ...
<root>/raw/ledger                                    what was decided about each snapshot
<root>/bronze|silver|gold/<name>                     Delta tables
<root>/quarantine/<table>                            rows that were refused
<root>/quality/results                               what came of the models' expectations
<root>/forgotten                                     keys that were forgotten on request, as hashes
<root>/_state/...                                    expendable: locks, checkpoints, caches

A lake with a catalog has its Delta tables there, in the schemas <pipeline>_bronze, _silver and _gold, and files alone
below the root, which is a volume (docs/decisions/0019-lake.md).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lakehouse.errors import ConfigError
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.s3 import S3Path

LAYERS = ("raw", "bronze", "silver", "gold", "quarantine")  # the folders of Delta tables
SNAPSHOT_TIME_FORMAT = "%Y%m%d_%H%M%S"
_IDENTIFIER = re.compile(r"[A-Za-z0-9_]+")
_SNAPSHOT_NAME = re.compile(r"\d{8}_\d{6}")


def snapshot_name(time: datetime) -> str:
    """The folder name of a snapshot taken at `time` (aware).

    >>> snapshot_name(datetime(2025, 10, 3, 17, 5, 52, tzinfo=timezone.utc))
    '20251003_170552'
    """
    return time.astimezone(timezone.utc).strftime(SNAPSHOT_TIME_FORMAT)


def snapshot_time(name: str) -> datetime | None:
    """The UTC time that a folder name stands for, or None if it is not one.

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


def to_utc(time: datetime | str) -> datetime:
    """A time as this project counts it.

    >>> to_utc("2025-10-03T14:05:52-03:00").isoformat()
    '2025-10-03T17:05:52+00:00'

    Raises:
        ConfigError: text that is no ISO time.
    """
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time.replace("Z", "+00:00"))
        except ValueError:
            raise ConfigError(f"the time {time!r}", expected="an ISO time, such as 2025-10-03T17:05:52Z") from None
    return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)


@dataclass(frozen=True)
class Lake:
    """The places of one lake. `root` is a path, relative to the working directory or absolute, or s3a://bucket/prefix.

    Text is for Spark, a `Place` for the Python of the driver.

    Attributes:
        catalog: what its schemas begin with, such as `main.loyalty`, where tables have names; else they have paths.
    """

    root: str
    catalog: str = ""

    @classmethod
    def from_root(cls, root: str) -> Lake:
        """The lake that a pipeline names, whatever becomes of the working directory."""
        place = file_io.store_path(root)
        return cls(str(place.absolute() if isinstance(place, Path) else place).rstrip("/"))

    @classmethod
    def in_catalog(cls, catalog: str, volume: str, pipeline: str, tables: Iterable[str]) -> Lake:
        """The lake of a pipeline whose tables lie in a catalog, and whose files in a volume.

        Raises:
            ConfigError: a name that no schema can have, or that is kept for tables of the lake's own.
        """
        for what, name in (("lake.catalog", catalog), ("name", pipeline)):
            if not _IDENTIFIER.fullmatch(name):
                raise ConfigError(f"{what}: {name!r}", expected="letters, digits and _: schemas are called by it")
        if own := [name for name in tables if name.startswith("_")]:
            raise ConfigError(f"a table called {own[0]}", expected="no name that begins with _, in a catalog")
        return cls(Lake.from_root(volume).root, f"{catalog}.{pipeline}")

    @property
    def is_on_s3(self) -> bool:
        """Whether other machines write to it too, whom no lock of this one's kernel stops."""
        return isinstance(file_io.store_path(self.root), S3Path)

    @property
    def ledger_table(self) -> str:
        return self._internal_table("_ledger", "raw/ledger")

    def _internal_table(self, name: str, path: str) -> str:
        """A table that is in none of the three layers."""
        return f"{self.catalog}_bronze.{name}" if self.catalog else f"{self.root}/{path}"

    def path(self, *parts: str) -> StorePath:
        place = file_io.store_path(self.root)
        for part in parts:
            place = place / part
        return place

    def landing_path(self, table: str) -> StorePath:
        return self.path("landing", table)

    def change_set_path(
        self, table: str, sequence: int, time: datetime, used_paths: frozenset[str] = frozenset()
    ) -> str:
        """The path, relative to the lake, of a change set that is about to be written.

        `taken` are the paths that the ledger already names for this table: a second change set of the
        same second gets its sequence appended.
        """
        if sequence == 1:
            return f"raw/full-load/{table}.parquet"
        path = f"raw/cdc/{table}_{snapshot_name(time)}.parquet"
        return path if path not in used_paths else f"raw/cdc/{table}_{snapshot_name(time)}_{sequence}.parquet"

    def compacted_path(self, table: str, sequence: int, time: datetime, used_paths: frozenset[str]) -> str:
        """The same of the state as of a sequence, which takes the place of the change sets up to there."""
        path = f"raw/full-load/{table}_{snapshot_name(time)}"
        return f"{path}.parquet" if f"{path}.parquet" not in used_paths else f"{path}_{sequence}.parquet"

    def spark_path(self, path: str) -> str:
        """A path relative to the lake, as Spark is to read it."""
        return f"{self.root}/{path}"

    def bronze_table(self, table: str) -> str:
        return self.table(f"bronze.{table}")

    def table(self, name: str) -> str:
        """`silver.clientes` -> `<root>/silver/clientes`, or its name in a catalog; so for `bronze.` and `gold.`"""
        layer, _, short = name.partition(".")
        return f"{self.catalog}_{layer}.{short}" if self.catalog else f"{self.root}/{layer}/{short}"

    def quarantine_table(self, table: str) -> str:
        return self._internal_table(f"_quarantine_{table}", f"quarantine/{table}")

    @property
    def expectation_results_table(self) -> str:
        return self._internal_table("_quality", "quality/results")

    @property
    def forgotten_keys_table(self) -> str:
        return self._internal_table("_forgotten", "forgotten")

    def state_path(self, *parts: str) -> StorePath:
        return self.path("_state", *parts)

    def checkpoint_path(self, table: str) -> str:
        """Of the stream over the ledger: a trigger, which S3 would take a hundred requests for."""
        path = self.local_path("bronze", table, "checkpoint")
        return f"file://{path}" if self.is_on_s3 else str(path)

    def local_path(self, *parts: str) -> Path:
        """A place on this machine, for what may be lost: below `_state` of a lake on its disk."""
        state = self.state_path(*parts)
        if isinstance(state, Path):
            return state
        own = Path(tempfile.gettempdir(), f"lakehouse-{os.getuid()}")
        return own.joinpath(hashlib.sha256(self.root.encode()).hexdigest()[:12], *parts)


def write_json(file: StorePath, document: Any) -> None:
    """Put `document` at `file` so that a reader sees the old file or the whole new one, never a part."""
    file_io.write_atomically(file, json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode())
