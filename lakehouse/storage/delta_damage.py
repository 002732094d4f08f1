"""Finds damage in a Delta table without Spark: gaps in its log, files that cannot be read, data files that are lost.

Delta reads a table from its newest checkpoint and the commits after it (PROTOCOL.md, "Checkpoints"). What is older
serves its history and its Change Data Feed only.

    find_log_damage    what of the log is missing or cannot be read
    find_lost_files    the data files that the newest version names, and that are missing or cut
    drop_lost_files    a commit that removes them from the table, so that it can be read and written again
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakehouse.errors import InfrastructureError
from lakehouse.storage import file_io
from lakehouse.storage.delta_files import DataFile, list_files
from lakehouse.storage.delta_log import log_file
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.s3 import S3Path

OPERATION = "REMOVE LOST FILES"
"""The operation of the commit of `drop_lost_files`, in the table's history."""

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10})|\.[0-9a-f-]{36})?\.(?:parquet|json)")
_MAX_NAMED = 5
_PARQUET_MARKS = (b"PAR1", b"PARE")  # the last four bytes; of a file with an encrypted footer, the second
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_B85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"


@dataclass(frozen=True)
class LogDamage:
    """A fault in the log of a table.

    Attributes:
        found: What is wrong.
        is_fatal: Whether the table cannot be read. If not, only its history is affected, or nothing.
        expendable: Files without which the table is read as well, and that are written again.
    """

    found: str
    is_fatal: bool = False
    expendable: tuple[StorePath, ...] = ()


def find_log_damage(table: StorePath) -> list[LogDamage]:
    """Return the faults of a table's log; none for a folder without a log.

    Args:
        table: The folder of the table.
    """
    log = table / "_delta_log"
    names = file_io.list_names(log)
    commits = {int(match[1]) for name in names if (match := _COMMIT.fullmatch(name))}
    checkpoints = _complete_checkpoints(names)
    if not commits and not checkpoints:
        return []
    newest = max(commits | checkpoints.keys())
    unreadable, base = [], -1
    for version in sorted(checkpoints, reverse=True):
        if all(_is_readable(log / name) for name in checkpoints[version]):
            base = version
            break
        unreadable.append(version)
    faults = list(_commit_faults(log, commits, base, newest))
    is_fatal = any(fault.is_fatal for fault in faults)  # then a checkpoint is the only thing that has the older files
    for version in unreadable:
        files = tuple(log / name for name in checkpoints[version])
        found = f"the checkpoint of version {version} cannot be read"
        faults.append(LogDamage(found, is_fatal, () if is_fatal else files))
    return [*faults, *_pointer_faults(log, checkpoints.keys() - set(unreadable))]


def _complete_checkpoints(names: Iterable[str]) -> dict[int, list[str]]:
    """Return the files of each checkpoint, without those of which a part is missing."""
    found: dict[int, list[str]] = {}
    parts: dict[int, int] = {}
    for name in names:
        if match := _CHECKPOINT.fullmatch(name):
            found.setdefault(int(match[1]), []).append(name)
            parts[int(match[1])] = int(match[3] or 1)
    return {version: files for version, files in found.items() if len(files) >= parts[version]}


def _commit_faults(log: StorePath, commits: set[int], base: int, newest: int) -> Iterator[LogDamage]:
    """Yield the faults of commits: those after the last readable checkpoint are needed to read the table."""
    needed = range(base + 1, newest + 1)
    if missing := [version for version in needed if version not in commits]:
        yield LogDamage(f"{_versions(missing)} of its log {_are(missing)} missing", is_fatal=True)
    present = [version for version in needed if version in commits]
    contents = file_io.read_files(log_file(log, version, "json") for version in present)
    bad = [v for v, content in zip(present, contents, strict=True) if not _is_commit(content or b"")]
    if bad:
        yield LogDamage(f"{_versions(bad)} of its log cannot be read", is_fatal=True)
    older = [version for version in commits if version <= base]
    if older and (gap := [version for version in range(min(older), base + 1) if version not in commits]):
        found = f"{_versions(gap)} of its log {_are(gap)} missing: what still has to read these changes"
        yield LogDamage(f"{found} is refreshed in full by the next run")


def _pointer_faults(log: StorePath, checkpoints: Iterable[int]) -> Iterator[LogDamage]:
    """Yield the fault of `_last_checkpoint`, which only saves a listing."""
    pointer = log / "_last_checkpoint"
    (content,) = file_io.read_files([pointer])
    if content is None:
        return
    try:
        is_right = json.loads(content)["version"] in set(checkpoints)
    except (ValueError, KeyError, TypeError):
        is_right = False
    if not is_right:
        yield LogDamage("its _last_checkpoint names no checkpoint that can be read", expendable=(pointer,))


def _is_commit(content: bytes) -> bool:
    try:
        actions = [json.loads(line) for line in content.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        return False
    return bool(actions) and all(isinstance(action, dict) for action in actions)


def _is_readable(checkpoint: StorePath) -> bool:
    """Whether a file of a checkpoint can be read to its end."""
    try:
        if checkpoint.name.endswith(".json"):
            return _is_commit(checkpoint.read_bytes())
        import pyarrow.parquet as pq

        with checkpoint.open("rb") as file:
            pq.ParquetFile(file).read()
    except (OSError, ValueError):  # PyArrow's errors are ValueErrors
        return False
    return True


def _versions(versions: list[int]) -> str:
    shown = ", ".join(map(str, versions[:_MAX_NAMED]))
    more = f" and {len(versions) - _MAX_NAMED} more" if len(versions) > _MAX_NAMED else ""
    return f"commit{'s' if len(versions) > 1 else ''} {shown}{more}"


def _are(versions: list[int]) -> str:
    return "are" if len(versions) > 1 else "is"


# --- data files -------------------------------------------------------------------------------------------------------


def find_lost_files(table: StorePath, version: int) -> list[DataFile] | None:
    """Return the data files of a version that are missing, have another size, or are cut, or whose vector is missing.

    Args:
        table: The folder of the table.
        version: The version.

    Returns:
        None if only Spark can list the files.
    """
    listed = list_files(table, version, with_vectors=True, max_files=sys.maxsize // 8)
    if listed is None:
        return None
    sizes = file_io.file_sizes(table) if isinstance(table, S3Path) else None
    return [file for file in listed.files if _is_lost(table, file, sizes)]


def _is_lost(table: StorePath, file: DataFile, sizes: Mapping[str, int] | None) -> bool:
    vector = _vector_name(file.action["add"].get("deletionVector") or {})
    if sizes is not None:
        name = str(file.path).removeprefix(f"{table}/")
        return sizes.get(name) != file.size or bool(vector and vector not in sizes)
    assert isinstance(file.path, Path)
    if vector and not (table / vector).exists():
        return True
    return not file.path.is_file() or file.path.stat().st_size != file.size or not _has_footer(file.path)


def _has_footer(file: Path) -> bool:
    with file.open("rb") as content:
        content.seek(-min(4, file.stat().st_size), os.SEEK_END)
        return content.read() in _PARQUET_MARKS


def _vector_name(vector: Mapping[str, Any]) -> str:
    """Return the file of a deletion vector, relative to the table; empty for one inside the log, or at another place.

    >>> _vector_name({"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^"})
    'ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin'
    """
    if vector.get("storageType") != "u":
        return ""
    prefix, encoded = vector["pathOrInlineDv"][:-20], vector["pathOrInlineDv"][-20:]
    digits = uuid.UUID(bytes=base64.b85decode(encoded.translate(str.maketrans(_Z85, _B85))))
    return f"{prefix}/deletion_vector_{digits}.bin" if prefix else f"deletion_vector_{digits}.bin"


def drop_lost_files(table: StorePath, version: int, files: Iterable[DataFile], run_id: str) -> bool:
    """Commit that a table does not have some files any more. Its stage then sees that rows differ, and writes them.

    Args:
        table: The folder of the table.
        version: Its newest version.
        files: The files.
        run_id: The id of the command, for the table's history.

    Returns:
        Whether it was committed; not for a table whose commits need more than this.

    Raises:
        InfrastructureError: Another writer committed in the meantime.
    """
    listed = list_files(table, version, with_vectors=True, max_files=sys.maxsize // 8)
    if listed is None or listed.properties.get("delta.enableInCommitTimestamps") == "true":
        return False
    now = int(time.time() * 1000)
    info = {"timestamp": now, "operation": OPERATION, "operationParameters": {}, "engineInfo": f"lakehouse {run_id}"}
    actions: list[dict[str, Any]] = [{"commitInfo": info}]
    for file in files:
        add = file.action["add"]
        parts = {name: add[name] for name in ("path", "size", "deletionVector") if add.get(name) is not None}
        known = {"deletionTimestamp": now, "dataChange": True, "extendedFileMetadata": True, "partitionValues": {}}
        actions.append({"remove": parts | known})
    content = "".join(json.dumps(action, separators=(",", ":")) + "\n" for action in actions)
    commit = log_file(table / "_delta_log", version + 1, "json")
    if not file_io.write_if_absent(commit, content.encode()):
        raise InfrastructureError(
            f"another writer committed version {version + 1} of the table in the meantime",
            expected="nobody else who writes it",
            where=str(table),
            next_step="run the same command again",
        )
    return True
