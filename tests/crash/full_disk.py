"""Runs a command on a disk that becomes full at a chosen number of bytes, and again when there is space."""

from __future__ import annotations

import ctypes
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers import Project, Result

from crash.warm import Outcome, Unbroken, resume

_SIZE = 64 << 20
_NO_SPACE = ("no space left on device", "os error 28", "disk is full", "not enough disk space")
_CODES = (0, 3)
"""A command on a full disk ends with 3, or with 0 if what it could not write is not needed."""


class CannotMount(Exception):
    """This user or this machine may not mount a disk in memory."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk in memory at a folder for the time of a block.

    Raises:
        CannotMount: It is refused, with the reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={_SIZE}".encode()):
        raise CannotMount(f"mount of a tmpfs: {os.strerror(ctypes.get_errno())}")
    try:
        yield folder
    finally:
        libc.umount2(os.fsencode(folder), 2)  # also if a thread of Spark has still a file open there


def run_on_full_disk(unbroken: Unbroken, free_bytes: int, disk: Path) -> tuple[Outcome, int]:
    """Run a scenario's first command with this many bytes of free space, and all of them when there is enough.

    Args:
        unbroken: The scenario.
        free_bytes: The free space.
        disk: The folder of a small disk.

    Returns:
        The result, and the exit code of the command.
    """
    started, folder = time.monotonic(), disk / "case"
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    project = unbroken.prepared.copy(folder)
    filler = disk / "filler"
    filler.write_bytes(bytes(max(shutil.disk_usage(disk).free - free_bytes, 0)))
    done = project(*unbroken.prepared.scenario.commands[0])
    filler.unlink()
    faults = [*_faults_of_message(done), *resume(unbroken, project, 0, verify=False)]
    name = f"{unbroken.prepared.scenario.name}/{free_bytes >> 10} KB free"
    return Outcome(name, "full", faults, time.monotonic() - started), done.code


def needed_bytes(unbroken: Unbroken) -> int:
    """Return about how many bytes the commands of a scenario write."""
    sizes = [_size(project) for project in (unbroken.prepared.project, unbroken.project)]
    return max(sizes[1] - sizes[0], 0)


def _size(project: Project) -> int:
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in project.lake.rglob("*") if path.is_file())


def _faults_of_message(done: Result) -> list[str]:
    """Return what is wrong with how a command on a full disk ended."""
    if done.code not in _CODES:
        return [f"on a full disk it ended with {done.code}: {done.document} {done.stderr[-2000:]}"]
    error = done.document.get("error") or {}
    failed = [o["note"] for o in done.document.get("outcomes", []) if o["status"] == "failed"]
    texts = [*failed, *([str(error)] if error else [])]
    return [f"the message does not name the disk: {text}" for text in texts if not _names_disk(text)]


def _names_disk(text: str) -> bool:
    return any(words in text.lower() for words in _NO_SPACE)
