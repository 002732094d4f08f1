"""Reads and writes the lake's files, on a disk (`pathlib.Path`) or on S3 (`S3Path`, which has the same methods).

The code above this module does not distinguish the two.

    write_atomically   a file; a reader sees the old one or the complete new one
    atomic_rewrite     the same, for a new content made from the old one
    atomic_folder      a folder that is visible only when it is complete
    shared_temp_dir    a temporary folder whose files can be shown to Spark's executors
    remove             deletes a file or a folder
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO, TypeVar

from lakehouse.failpoints import failpoint
from lakehouse.storage import s3, temp_dirs
from lakehouse.storage.s3 import S3Path, WriteConflict

StorePath = Path | S3Path
# The folder, in a temporary one, of files that were rewritten in UTF-8, because their encoding has no U+FFFD.
UTF8_COPIES = "rewritten-in-utf-8"
T = TypeVar("T")

_PARALLEL_REQUESTS = 16
_COPY_CHUNK_BYTES = 1 << 20
_TIME_FORMAT = "%Y%m%d_%H%M%S"
_MAX_AGE = timedelta(days=1)  # of a folder on S3; no process works that long


def store_path(root: str) -> StorePath:
    """Return the path of a root: on S3 for an s3a:// URL, else on the disk."""
    return S3Path.from_url(root) if root.startswith(s3.SCHEME) else Path(root)


def spark_settings(root: StorePath) -> dict[str, str]:
    """Return the settings that a Spark session needs to read and write below `root`."""
    return s3.spark_settings() if isinstance(root, S3Path) else {}


def is_utf8_copy(path: StorePath) -> bool:
    """Return whether a file is in UTF-8, regardless of the encoding of its table: a copy in `UTF8_COPIES`."""
    return f"/{UTF8_COPIES}/" in str(path)


def list_names(folder: StorePath) -> list[str]:
    """Return the sorted names of the files and folders directly in a folder; none if it does not exist."""
    if isinstance(folder, Path) and not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir())


def list_files(folder: StorePath) -> list[StorePath]:
    """Return all files below a folder, sorted; none if it does not exist."""
    if isinstance(folder, S3Path):
        return list(folder.list_files())
    files: list[StorePath] = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(files, key=str)


def file_sizes(folder: StorePath) -> dict[str, int]:
    """Return the bytes of each file below a folder, by its relative path; empty if the folder does not exist."""
    if isinstance(folder, S3Path):
        return folder.file_sizes()
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob("*") if file.is_file()}


def read_files(files: Iterable[StorePath]) -> list[bytes | None]:
    """Return the content of each file, or None for a file that does not exist; files on S3 are read in parallel."""

    def read(file: StorePath) -> bytes | None:
        try:
            return file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    return map_paths(read, files)


def map_paths(function: Callable[[StorePath], T], paths: Iterable[StorePath]) -> list[T]:
    """Return the result of `function` for each path, in order; paths on S3 are processed in parallel."""
    all_paths = list(paths)
    if len(all_paths) < 2 or isinstance(all_paths[0], Path):
        return [function(path) for path in all_paths]
    with ThreadPoolExecutor(_PARALLEL_REQUESTS) as pool:
        return list(pool.map(function, all_paths))


def write_atomically(file: StorePath, content: bytes) -> None:
    """Write a file; a reader sees the old one or the complete new one, never a part."""
    if isinstance(file, S3Path):
        failpoint("before_file_visible", file)
        file.put(content)
        failpoint("after_file_visible", file)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    try:
        _write_new(partial, content)
        failpoint("before_file_visible", file)
        partial.replace(file)
    except OSError:  # for example a full disk, on which a part would take what is left
        partial.unlink(missing_ok=True)
        raise
    failpoint("after_file_visible", file)


def write_if_absent(file: StorePath, content: bytes) -> bool:
    """Write a file that another writer must not have written, such as a commit of Delta.

    Args:
        file: The file.
        content: Its bytes.

    Returns:
        Whether it was written; not if there is such a file.
    """
    failpoint("before_file_visible", file)
    if isinstance(file, S3Path):
        try:
            file.put(content, IfNoneMatch="*")
        except WriteConflict:
            return False
        return True
    partial = file.with_name(f".{file.name}.partial")
    try:
        _write_new(partial, content)
        os.link(partial, file)  # unlike a rename, it replaces nothing
    except FileExistsError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _write_new(file: Path, content: bytes) -> None:
    with _create_new(file) as target:
        target.write(content)
        target.flush()
        os.fsync(target.fileno())


@contextmanager
def atomic_rewrite(file: StorePath, local_root: Path) -> Iterator[tuple[Path, Path]]:
    """Give the local copy of a file and an empty path beside it; the new file replaces the old one after the block.

    If the block raises, the file stays unchanged.

    Args:
        file: The file to replace.
        local_root: The folder on this machine for the copy of a file on S3.

    Yields:
        The path to read the file from, and the path to write the new content to.
    """
    if isinstance(file, S3Path):
        with temp_dirs.temp_dir(local_root) as folder:
            old, new = folder / file.name, folder / f".{file.name}.partial"
            _download(file, old)
            yield old, new
            file.upload(lambda: new.open("rb"))
        return
    with replace_when_complete(file) as partial:
        yield file, partial
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)  # Hadoop's checksum of the old content


@contextmanager
def replace_when_complete(file: Path) -> Iterator[Path]:
    """Give an empty file beside a file, which it replaces after the block; if the block raises, the file stays.

    Args:
        file: The file, which may not exist yet.

    Yields:
        The path to write to.
    """
    partial = file.with_name(f".{file.name}.partial")
    _create_new(partial).close()
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        failpoint("before_rewrite_visible", file)
        partial.replace(file)
        failpoint("after_rewrite_visible", file)
    finally:
        partial.unlink(missing_ok=True)


def _create_new(file: Path) -> IO[bytes]:
    """Open a new file for writing, in place of one that a killed run left there.

    A link there is removed and never followed: it would lead to a file that somebody else has chosen.
    """
    _discard(file)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(file, flags, 0o666), "wb")  # noqa: PTH123 - a descriptor


def _discard(path: Path) -> None:
    """Delete a file, a link or a folder; do nothing if it does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _download(file: S3Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as source, copy.open("wb") as target:
        shutil.copyfileobj(source, target, _COPY_CHUNK_BYTES)


def remove(path: StorePath) -> None:
    """Delete a file, or a folder with its content; do nothing if it does not exist."""
    failpoint("before_remove", path)
    if isinstance(path, S3Path):
        path.remove()
    else:
        _discard(path)
    failpoint("after_remove", path)


# --- a folder that becomes visible when it is complete --------------------------------------------------------


@contextmanager
def atomic_folder(folder: StorePath, replace: bool = False) -> Iterator[StorePath]:
    """Give the path to write the files of a new folder to; readers see the folder after the block.

    On S3 nothing can be renamed: the files are written to their final place, so a reader must check for the file that
    is written last. Files that a killed run left there are deleted first; on a disk, by `remove_partial_folders`.

    Args:
        folder: The new folder.
        replace: Whether there is one already, which is removed first; if the process is killed then, there is none.
    """
    if isinstance(folder, S3Path):
        folder.remove()
        yield folder
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    _discard(partial)
    partial.mkdir()
    yield partial
    failpoint("before_folder_visible", folder)
    if replace:
        remove(folder)
    partial.rename(folder)
    failpoint("after_folder_visible", folder)


def remove_partial_folders(parent: Path) -> None:
    """Delete the folders that an `atomic_folder` of a killed run left unfinished.

    Args:
        parent: The folder of the new folders, which may not exist.
    """
    for unfinished in parent.glob(".*.partial") if parent.is_dir() else ():
        _discard(unfinished)


def copy_stream(file: StorePath, open_stream: Callable[[], AbstractContextManager[IO[bytes]]]) -> None:
    """Copy a stream into a file of an `atomic_folder`.

    Args:
        file: The new file.
        open_stream: Opens the stream from its beginning; called again if an upload is retried.
    """
    if isinstance(file, S3Path):
        file.upload(open_stream)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with open_stream() as source, file.open("wb") as target:
        target.write(source.read(_COPY_CHUNK_BYTES))
        failpoint("in_file_copy", file)
        shutil.copyfileobj(source, target, _COPY_CHUNK_BYTES)
        target.flush()
        os.fsync(target.fileno())


# --- a temporary folder that executors can read ---------------------------------------------------------------


@dataclass(frozen=True)
class SharedTempDir:
    """A temporary folder on this machine, with another on S3 if the lake is there.

    Attributes:
        local: The folder on this machine.
        remote: The folder on S3 for files that executors read; None if executors see this machine's disk.
    """

    local: Path
    remote: S3Path | None = None

    def local_copy(self, file: StorePath, name: str) -> Path:
        """Return the path of a file on this machine, which is downloaded at the first call if it is on S3.

        Args:
            file: A file of the lake.
            name: The relative path of the copy.
        """
        if isinstance(file, Path):
            return file
        copy = file.local_copy or self._downloads / name
        if not copy.exists():
            _download(file, copy)
        return copy

    def with_local_copy(self, file: StorePath, name: str) -> StorePath:
        """Return a file that Spark reads from its place and Python from this machine.

        Args:
            file: A file of the lake.
            name: The relative path of the copy.
        """
        return file.with_local_copy(self.local_copy(file, name)) if isinstance(file, S3Path) else file

    def executor_path(self, file: Path) -> StorePath:
        """Return the path by which executors read a file of this folder; for a lake on S3 the file is uploaded."""
        if self.remote is None:
            return file
        uploaded = self.remote / file.relative_to(self.local).as_posix()
        uploaded.upload(lambda: file.open("rb"))
        return uploaded.with_local_copy(file)

    def with_received_names(self, text: str, received: str) -> str:
        """Return a message with the paths of this folder replaced by those of the received files.

        Args:
            text: A message that names files of this folder.
            received: The folder of the received files.
        """
        for folder in (self._downloads, self.local, *([self.remote] if self.remote else [])):
            text = text.replace(f"{folder}/{UTF8_COPIES}", received).replace(str(folder), received)
        return text

    @property
    def _downloads(self) -> Path:
        return self.local / ".received"


@contextmanager
def shared_temp_dir(root: StorePath, local_root: Path) -> Iterator[SharedTempDir]:
    """Create a temporary folder below `local_root`, and one below `root` if that is on S3; both are deleted at the end.

    The next call deletes the folders of killed processes: on a disk the kernel knows which folder is in use, on S3 the
    name of a folder contains its time.

    Args:
        root: The parent folder in the lake.
        local_root: The parent folder on this machine.
    """
    with temp_dirs.temp_dir(local_root) as local:
        if isinstance(root, Path):
            yield SharedTempDir(local)
            return
        now = datetime.now(timezone.utc)
        for folder in root.iterdir():
            if folder.name < f"{now - _MAX_AGE:{_TIME_FORMAT}}":
                folder.remove()
        remote = root / f"{now:{_TIME_FORMAT}}_{local.name}"
        try:
            yield SharedTempDir(local.resolve(), remote)
        finally:
            remote.remove()


def escape_glob(path: StorePath | str) -> str:
    """Return a path with the characters escaped that Spark's readers would take for a glob pattern."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", str(path))
