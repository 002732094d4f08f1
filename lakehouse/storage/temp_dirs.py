"""Folders for what is written only to be read once: gone with the block that asked for them, or with its process.

A killed process leaves its folder behind; the next one that wants a folder of the same kind sweeps it away.
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
    """A new folder below `root`, which the kernel knows to be in use for as long as this process lives."""
    root.mkdir(parents=True, exist_ok=True)
    with lock_folder(root):  # nobody sweeps between making a folder and locking it
        _remove_unused(root)
        own = Path(tempfile.mkdtemp(dir=root))
        held = _flock(own)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os.close(held)


def _remove_unused(root: Path) -> None:
    """Remove what nobody uses any more."""
    for left in root.iterdir():
        try:
            held = _flock(left, fcntl.LOCK_NB)
        except OSError:  # in use, or gone meanwhile
            continue
        shutil.rmtree(left, ignore_errors=True)
        os.close(held)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder's lock for the length of a `with` block; whoever wants it meanwhile waits."""
    held = _flock(folder)
    try:
        yield
    finally:
        os.close(held)


def _flock(folder: Path, flags: int = 0) -> int:
    """A descriptor that holds the lock of a folder until it is closed; killing its holder closes it."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | flags)
    except OSError:
        os.close(held)
        raise
    return held
