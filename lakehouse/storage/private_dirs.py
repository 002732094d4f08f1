"""Finds this user's folder for expendable files, and makes sure that it is nobody else's.

Such a folder has a name that others can predict. If they could create it, or a link in its place, they would choose
which files of the user are read, appended to or emptied. So it must be a real folder, owned by the user and closed to
everybody else; in it, nobody else can create anything.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from lakehouse.errors import ConfigError

_PRIVATE = 0o700


def cache_folder(*parts: str) -> Path:
    """Return a folder of the project in the user's cache folder, which is created if it is missing.

    Without a usable cache folder it is in `XDG_RUNTIME_DIR`, or in the folder for temporary files.

    Args:
        parts: The names of folders in the project's folder.

    Raises:
        ConfigError: Another user owns the project's folder, or it is a link.
    """
    refused = ""
    for folder in _candidates():
        try:
            folder.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            create_private(folder)
        except OSError as error:  # no home folder, or one that cannot be written to
            refused = f"{folder}: {error.strerror}"
            continue
        for depth in range(len(parts)):
            create_private(folder.joinpath(*parts[: depth + 1]))
        return folder.joinpath(*parts)
    raise ConfigError(
        f"there is no folder for temporary files: {refused}",
        expected="a folder that this user can write to",
        next_step="set XDG_CACHE_HOME to one",
    )


def create_private(folder: Path) -> None:
    """Create a folder if it is missing, and make sure that only this user can open it.

    Args:
        folder: The folder; its parent exists.

    Raises:
        ConfigError: Another user owns it or can write to it, or it is a link.
        OSError: It cannot be created.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=_PRIVATE)
    status = folder.lstat()
    faults = {
        "is a link": stat.S_ISLNK(status.st_mode),
        "is no folder": not stat.S_ISDIR(status.st_mode),
        "belongs to another user": status.st_uid != os.getuid(),
        "can be written to by others": bool(status.st_mode & 0o022),  # who may have put files there
    }
    if found := next((fault for fault, is_present in faults.items() if is_present), ""):
        raise ConfigError(
            f"{folder} {found}: somebody else could read or replace what a run writes there",
            expected="a folder that only the user who runs the command can open",
            where=str(folder),
            next_step="remove it, or set XDG_CACHE_HOME to another folder",
        )
    if status.st_mode & 0o077:
        folder.chmod(_PRIVATE)


def open_private(path: Path, flags: int) -> IO[str]:
    """Open a file of a private folder as text, created for its owner only; a link is not followed.

    Args:
        path: The file.
        flags: The flags of `os.open`.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    mode = {os.O_RDWR: "r+", os.O_WRONLY: "w"}[flags & os.O_ACCMODE]
    return open(descriptor, "a" if flags & os.O_APPEND else mode, encoding="utf-8")  # noqa: PTH123 - a descriptor


def _candidates() -> Iterator[Path]:
    if cache := os.environ.get("XDG_CACHE_HOME"):
        yield Path(cache).absolute() / "lakehouse"
    else:
        with suppress(RuntimeError):  # a user without a home folder, as in some containers
            yield Path.home() / ".cache" / "lakehouse"
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime).absolute() / "lakehouse"
    yield Path(tempfile.gettempdir(), f"lakehouse-{os.getuid()}")
