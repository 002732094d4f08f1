"""Checks whether the lake can be written to, who has locked it, and the expendable files below `_state`."""

from __future__ import annotations

import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from lakehouse.doctor.finding import Finding, Subject
from lakehouse.errors import ExitCode, InfrastructureError, LakehouseError
from lakehouse.storage import file_io, lock, temp_dirs
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.paths import Lake
from lakehouse.storage.s3 import S3Path
from lakehouse.text import counted

_LITTLE_BYTES, _TOO_LITTLE_BYTES = 2 << 30, 100 << 20
_TEMPORARY_FOLDERS = ("plain", "extract")
_MAX_NAMED = 3


def check_access(lake: Lake, is_private: bool) -> Iterator[Finding]:
    """Yield whether this user can list, write, read and delete files of a lake.

    Args:
        lake: The lake.
        is_private: Whether nobody else may read it (`access: owner`).
    """
    root = lake.path()
    if isinstance(root, S3Path):
        yield _check_bucket(lake)
        return
    subject = Subject("lake", lake.root)
    parent = next((each for each in (root, *root.parents) if each.exists()), root)
    if not parent.is_dir():
        yield subject.wrong(f"{parent} is no folder", f"remove {parent}, or correct `lake`", ExitCode.USAGE)
        return
    if problem := _write_problem(lake, parent):
        yield problem
        return
    yield _check_space(parent)
    yield subject.ok("can be written to" if parent == root else "does not exist yet: the first run makes it")
    if is_private and parent == root and root.stat().st_mode & 0o077:
        mode = stat.S_IMODE(root.stat().st_mode)
        found = f"other users may open it (mode {mode:04o}), and `access` is owner"
        yield Subject("lake", "permissions").warning(found, f"chmod -R go= {root}", partial(_close_to_others, root))


def _close_to_others(root: Path) -> str:
    root.chmod(stat.S_IMODE(root.stat().st_mode) & ~0o077)
    return f"{root} is closed to other users"


def _write_problem(lake: Lake, folder: Path) -> Finding | None:
    """Return why this user cannot write to a lake, found by writing and deleting a file."""
    folders = [folder, *(path for layer in file_io.list_names(folder) if (path := folder / layer).is_dir())]
    for each in folders if folder == lake.path() else folders[:1]:
        if not os.access(each, os.R_OK | os.W_OK | os.X_OK):
            found = f"{each} cannot be read and written by this user; it belongs to uid {each.stat().st_uid}"
            next_step = f"run as that user, or: chown -R {os.getuid()} {each}"
            return Subject("lake", lake.root).wrong(found, next_step, ExitCode.INFRASTRUCTURE)
    probe = folder / f".doctor-{uuid.uuid4().hex}.partial"
    try:
        file_io.write_atomically(probe, b"x" * 4096)
        probe.unlink()
    except OSError as error:
        probe.unlink(missing_ok=True)
        found = f"nothing can be written to {folder}: {error.strerror}"
        next_step = f"df {folder}; mount | grep {folder}"
        return Subject("lake", lake.root).wrong(found, next_step, ExitCode.INFRASTRUCTURE)
    return None


def _check_space(folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    subject, found = Subject("lake", "disk space"), f"{usage.free / 1e9:.1f} GB are free"
    next_step = "make room, or set `retention`: lakehouse expire PIPELINE --dry-run shows what would go"
    if usage.free < _TOO_LITTLE_BYTES:
        return subject.wrong(found, next_step, ExitCode.INFRASTRUCTURE)
    return subject.warning(found, next_step) if usage.free < _LITTLE_BYTES else subject.ok(found)


def _check_bucket(lake: Lake) -> Finding:
    """Return whether a probe object can be written, listed, read and deleted, by the lake's own client."""
    subject, probe = Subject("lake", lake.root), lake.state_path("doctor", uuid.uuid4().hex)
    assert isinstance(probe, S3Path)
    try:
        probe.put(b"probe")
        if probe.name not in file_io.list_names(probe.parent) or probe.read_bytes() != b"probe":
            raise InfrastructureError(f"{probe} was written, and is not there")
        probe.remove()
    except LakehouseError as error:
        return subject.failed(error)
    return subject.ok("an object can be written, listed, read and deleted")


# --- the lock ---------------------------------------------------------------------------------------------------------


def check_lock(lake: Lake) -> Iterator[Finding]:
    """Yield who has locked a lake. A run that works is nothing wrong.

    Args:
        lake: The lake.
    """
    subject = Subject("lock")
    try:
        state = lock.read_lock(lake)
    except LakehouseError as error:
        yield subject.failed(error)
        return
    if state.is_held:
        yield subject.ok(f"a run has locked the lake: {state.holder}")
    elif state.live_jvm:
        found = f"a run was killed ({state.holder}), and its JVM, process {state.live_jvm}, still runs"
        yield subject.warning(found, f"wait some seconds; then kill {state.live_jvm}")
    elif state.holder and lake.is_on_s3:
        yield subject.ok(f"a run was killed ({state.holder}), and its lease has ended: the next run does its work")
    elif state.holder:
        found = f"a run was killed ({state.holder}): the next run does its work"
        yield subject.warning(found, "lakehouse run PIPELINE", partial(_empty_lock, lake))
    else:
        yield subject.ok("nobody has locked the lake")


def _empty_lock(lake: Lake) -> str:
    """Return what was done: the command that repairs holds the lock, and empties it at its end."""
    return f"the lock of a killed run was taken over: {lake.state_path('lock')}"


# --- state ------------------------------------------------------------------------------------------------------------


def check_state(lake: Lake) -> Iterator[Finding]:
    """Yield whether the files below `_state` can be read. Each of them is expendable.

    Args:
        lake: The lake.
    """
    damaged = [*_damaged_documents(lake), *_damaged_checkpoints(lake)]
    for path in damaged:
        found = "cannot be read; the next run does without it"
        yield Subject("state", _below(path, lake)).warning(found, f"rm -r {path}", partial(_remove, [path], lake))
    if not damaged:
        yield Subject("state").ok("its files can be read")
    left = _left_files(lake)
    if left:
        found = f"{counted(len(left), 'temporary file or folder', 'temporary files or folders')} of killed commands"
        shown = ", ".join(_below(path, lake) for path in left[:_MAX_NAMED])
        yield Subject("state", "temporary files").warning(
            f"{found}: {shown}", "lakehouse doctor PIPELINE --fix", partial(_remove, left, lake)
        )


def _damaged_documents(lake: Lake) -> list[StorePath]:
    folders = (lake.state_path(), lake.state_path("runs"))
    files = [folder / name for folder in folders for name in file_io.list_names(folder) if name.endswith(".json")]
    files = [file for file in files if not file.name.startswith(".")]
    contents = file_io.read_files(files)
    return [file for file, content in zip(files, contents, strict=True) if not _is_document(content)]


def _is_document(content: bytes | None) -> bool:
    if content is None:  # removed in the meantime
        return True
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def _damaged_checkpoints(lake: Lake) -> list[Path]:
    """Return the checkpoints of streams that have an empty or unreadable file; the stream then starts again."""
    streams = lake.local_path("bronze") if not lake.is_on_s3 else None
    found = sorted(streams.glob("*/checkpoint")) if streams and streams.is_dir() else []
    return [folder for folder in found if any(not _is_entry(file) for file in _entries(folder))]


def _entries(checkpoint: Path) -> Iterator[Path]:
    for name in ("metadata", "offsets", "commits"):
        path = checkpoint / name
        yield from [path] if path.is_file() else sorted(each for each in path.glob("*") if each.name.isdigit())


def _is_entry(file: Path) -> bool:
    """Return whether a file of a checkpoint has a version and JSON, or JSON alone."""
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and line != "-"]
        parts = lines if file.name == "metadata" else lines[1:]
        return bool(lines) and all(json.loads(line) is not None for line in parts)
    except (OSError, ValueError):
        return False


def _left_files(lake: Lake) -> list[Path]:
    """Return what killed commands left on this machine, and the next command of the same kind would delete."""
    left = [folder for name in _TEMPORARY_FOLDERS for folder in temp_dirs.unused_folders(lake.local_path(name))]
    root = lake.path()
    if isinstance(root, Path):
        patterns = ("landing/*/.*.partial", "raw/*/*/.*.partial", "raw/*/*/_temporary", "_state/.*.partial")
        left += [path for pattern in patterns for path in sorted(root.glob(pattern))]
    return left


def _remove(paths: Iterable[StorePath], lake: Lake) -> str:
    removed = list(paths)
    for path in removed:
        file_io.remove(path)
    shown = ", ".join(_below(path, lake) for path in removed[:_MAX_NAMED])
    more = f" and {len(removed) - _MAX_NAMED} more" if len(removed) > _MAX_NAMED else ""
    return f"removed {shown}{more}"


def _below(path: StorePath, lake: Lake) -> str:
    return str(path).removeprefix(f"{lake.root}/")
