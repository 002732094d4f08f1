"""Where everything lies in a lake: its folders, its file names, its clock. No Spark here.

<root>/landing/<table>/<YYYYMMDD_HHMMSS>/<file>      bytes as received
<root>/raw/full-load/<table>.parquet                 change set 1
<root>/raw/cdc/<table>_<YYYYMMDD_HHMMSS>.parquet     change sets 2, 3, ...
<root>/raw/ledger                                    what was decided about each snapshot
<root>/bronze|silver|gold/<name>                     Delta tables
<root>/quarantine/<table>                            rows that were refused
<root>/_state/...                                    expendable: locks, checkpoints, caches
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lakehouse.errors import ConfigError

SNAPSHOT_TIME = "%Y%m%d_%H%M%S"
_SNAPSHOT_NAME = re.compile(r"\d{8}_\d{6}")


def snapshot_name(time: datetime) -> str:
    """The folder name of a snapshot taken at `time` (aware).

    >>> snapshot_name(datetime(2025, 10, 3, 17, 5, 52, tzinfo=timezone.utc))
    '20251003_170552'
    """
    return time.astimezone(timezone.utc).strftime(SNAPSHOT_TIME)


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
        return datetime.strptime(name, SNAPSHOT_TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def utc(time: datetime | str) -> datetime:
    """A time as this project counts it.

    >>> utc("2025-10-03T14:05:52-03:00").isoformat()
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
    """The places of one lake. `root` is a local path, relative to the working directory or absolute."""

    root: str

    @property
    def ledger(self) -> str:
        return f"{self.root}/raw/ledger"

    def landing(self, table: str) -> Path:
        return Path(self.root, "landing", table)

    def change_set(self, table: str, sequence: int, time: datetime, taken: frozenset[str] = frozenset()) -> str:
        """The path, relative to the lake, of a change set that is about to be written.

        `taken` are the paths that the ledger already names for this table: a second change set of the
        same second gets its sequence appended.
        """
        if sequence == 1:
            return f"raw/full-load/{table}.parquet"
        path = f"raw/cdc/{table}_{snapshot_name(time)}.parquet"
        return path if path not in taken else f"raw/cdc/{table}_{snapshot_name(time)}_{sequence}.parquet"

    def at(self, path: str) -> str:
        """A path relative to the lake, as Spark is to read it."""
        return f"{self.root}/{path}"

    def bronze(self, table: str) -> str:
        return f"{self.root}/bronze/{table}"

    def model(self, name: str) -> str:
        """`silver.clientes` -> `<root>/silver/clientes`; the same for `bronze.` and `gold.`"""
        layer, _, short = name.partition(".")
        return f"{self.root}/{layer}/{short}"

    def quarantine(self, table: str) -> str:
        return f"{self.root}/quarantine/{table}"

    def state(self, *parts: str) -> Path:
        return Path(self.root, "_state", *parts)


def newest_version(table: str) -> int:
    """The newest version in a local Delta table's log, read from its file names alone; -1 without one."""
    log = Path(table, "_delta_log")
    versions = (p.stem for p in log.glob("*.json")) if log.is_dir() else ()
    return max((int(v) for v in versions if v.isdigit()), default=-1)


def write_json(path: Path, document: Any) -> None:
    """Put `document` at `path` so that a reader sees the old file or the whole new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1, sort_keys=True, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
