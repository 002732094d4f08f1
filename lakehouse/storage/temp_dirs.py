"""Creates temporary folders, which are deleted at the end of a block or after the death of their process.

A killed process leaves its folder behind; the next process that creates a folder below the same root deletes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temp_dir(root: Path) -> Iterator[Path]:
    """Create a folder below `root` and delete it at the end of the block.

    The folder is locked, so that other processes see that it is in use for as long as this process lives.

    Args:
        root: The parent folder, which is created.
    """
    root.mkdir(parents=True, exist_ok=True)
    with lock_folder(root):  # no other process deletes the new folder before it is locked
        _remove_unused(root)
        folder = Path(tempfile.mkdtemp(dir=root))
        lock = _flock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def unused_folders(root: Path) -> list[Path]:
    """Return the temporary folders below `root` that no process uses: those of killed ones.

    Args:
        root: The parent folder, which may not exist.
    """
    return [folder for folder in root.iterdir() if _is_unused(folder)] if root.is_dir() else []


def _is_unused(folder: Path) -> bool:
    try:
        os.close(_flock(folder, fcntl.LOCK_NB))
    except OSError:  # in use, or just deleted
        return False
    return True


def _remove_unused(root: Path) -> None:
    for folder in root.iterdir():
        try:
            lock = _flock(folder, fcntl.LOCK_NB)
        except OSError:  # in use, or just deleted
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder until the end of the block; other processes that lock it wait."""
    lock = _flock(folder)
    try:
        yield
    finally:
        os.close(lock)


def _flock(folder: Path, flags: int = 0) -> int:
    """Return a file descriptor that locks a folder until it is closed; the death of the process closes it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
