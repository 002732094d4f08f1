"""The lake's files, wherever they lie: on a disk (`pathlib.Path`) or on S3 (`S3Path`, which knows as much of a path).

Nobody above this module asks which of the two a place is. What both give:

    write     a file whole: a reader sees the old one or the new one
    rewriting the same, made of what the file holds
    filling   a folder that is not there before all of it is
    scratch   a folder to work in, of which Spark's executors can be shown files
    remove    a file or a folder, with all in it
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

from lakehouse.storage import s3
from lakehouse.storage import temp_dirs as scratches
from lakehouse.storage.s3 import S3Path

StorePath = Path | S3Path
T = TypeVar("T")

_PARALLEL_REQUESTS = 16  # requests
_TIME_FORMAT = "%Y%m%d_%H%M%S"
_MAX_AGE = timedelta(days=1)  # no reading takes that long


def store_path(root: str) -> StorePath:
    """The place that a lake's root names."""
    return S3Path.from_url(root) if root.startswith(s3.SCHEME) else Path(root)


def spark_settings(root: StorePath) -> dict[str, str]:
    """What a Spark must be started with to reach `root`."""
    return s3.spark_settings() if isinstance(root, S3Path) else {}


def list_names(folder: StorePath) -> list[str]:
    """What lies right below a folder, in order; nothing where there is no such folder."""
    if isinstance(folder, Path) and not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir())


def list_files(folder: StorePath) -> list[StorePath]:
    """All files below a folder, in order; none where there is no such folder."""
    if isinstance(folder, S3Path):
        return list(folder.list_files())
    files: list[StorePath] = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(files, key=str)


def file_sizes(folder: StorePath) -> dict[str, int]:
    """Bytes of every file below a folder, by its path from there; nothing where there is no such folder."""
    if isinstance(folder, S3Path):
        return folder.file_sizes()
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob("*") if file.is_file()}


def read_files(files: Iterable[StorePath]) -> list[bytes | None]:
    """The bytes of these files, each None where it is not there."""

    def content(file: StorePath) -> bytes | None:
        try:
            return file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    return map_paths(content, files)


def map_paths(function: Callable[[StorePath], T], paths: Iterable[StorePath]) -> list[T]:
    """What `found` finds of each place; those on S3 side by side."""
    wanted = list(paths)
    if len(wanted) < 2 or isinstance(wanted[0], Path):
        return [function(each) for each in wanted]
    with ThreadPoolExecutor(_PARALLEL_REQUESTS) as pool:
        return list(pool.map(function, wanted))


def write_atomically(file: StorePath, content: bytes) -> None:
    """Put `content` at `file` so that a reader sees the old one or the whole new one, never a part."""
    if isinstance(file, S3Path):
        file.put(content)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("wb") as target:
        target.write(content)
        target.flush()
        os.fsync(target.fileno())
    partial.replace(file)


@contextmanager
def atomic_rewrite(file: StorePath, local_root: Path) -> Iterator[tuple[Path, Path]]:
    """The file on this machine's disk, and one beside it to be filled, which takes the file's place whole after the
    block. If the block raises, all is as it was.

    Args:
        here: where on this machine an object on S3 is worked on.
    """
    if isinstance(file, S3Path):
        with scratches.temp_dir(local_root) as own:
            old, new = own / file.name, own / f".{file.name}.partial"
            _download(file, old)
            yield old, new
            file.upload(lambda: new.open("rb"))
        return
    partial = file.with_name(f".{file.name}.partial")
    try:
        yield file, partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)  # Hadoop's sum of what was there before
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _download(file: S3Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as source, copy.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def remove(path: StorePath) -> None:
    """Remove a file, or a folder with all in it; nothing there is as well."""
    if isinstance(path, S3Path):
        path.remove()
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# --- a folder that is filled, and then there ----------------------------------------------------------------------


@contextmanager
def atomic_folder(folder: StorePath) -> Iterator[StorePath]:
    """Where to put the files of `folder`, which nobody sees before the block has ended.

    On S3 nothing can be renamed: files lie where they will lie in the end, so a reader must ask for the one that is put
    last. What a killed run had begun to put there is gone.
    """
    if isinstance(folder, S3Path):
        folder.remove()
        yield folder
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(".*.partial"):
        shutil.rmtree(left, ignore_errors=True)
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir()
    yield partial
    partial.rename(folder)


def copy_stream(file: StorePath, open_stream: Callable[[], AbstractContextManager[IO[bytes]]]) -> None:
    """Copy a stream into a file of a folder that is being filled.

    Args:
        opened: gives the stream anew, each time it is asked.
    """
    if isinstance(file, S3Path):
        file.upload(open_stream)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with open_stream() as source, file.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(target.fileno())


# --- a folder to work in ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SharedTempDir:
    """A folder on this machine for the time of one reading.

    Attributes:
        shared: where executors find what is shown to them; None: they see this machine's disk.
    """

    local: Path
    remote: S3Path | None = None

    def local_copy(self, file: StorePath, name: str) -> Path:
        """The file on this machine's disk."""
        if isinstance(file, Path):
            return file
        copy = file.copy or self._downloads / name
        if not copy.exists():
            _download(file, copy)
        return copy

    def with_local_copy(self, file: StorePath, name: str) -> StorePath:
        """The file, to be read by Spark where it lies and by Python on this machine's disk."""
        return file.with_local_copy(self.local_copy(file, name)) if isinstance(file, S3Path) else file

    def executor_path(self, file: Path) -> StorePath:
        """A file of this folder, as executors can read it."""
        if self.remote is None:
            return file
        there = self.remote / file.relative_to(self.local).as_posix()
        there.upload(lambda: file.open("rb"))
        return there.with_local_copy(file)

    def with_received_names(self, text: str, received: str) -> str:
        """A text that names files of this folder, as naming those that were received."""
        for folder in (self._downloads, self.local, *([self.remote] if self.remote else [])):
            text = text.replace(str(folder), received)
        return text

    @property
    def _downloads(self) -> Path:
        return self.local / ".received"


@contextmanager
def shared_temp_dir(root: StorePath, local_root: Path) -> Iterator[SharedTempDir]:
    """A new folder below `here`, on this machine, and for a lake on S3 another below `root`; gone after the block.

    What a killed process left is swept away by the next one: on a disk the kernel knows which folder is in use, on S3 a
    folder's name tells its age.
    """
    with scratches.temp_dir(local_root) as own:
        if isinstance(root, Path):
            yield SharedTempDir(own)
            return
        now = datetime.now(timezone.utc)
        for left in root.iterdir():
            if left.name < f"{now - _MAX_AGE:{_TIME_FORMAT}}":
                left.remove()
        shared = root / f"{now:{_TIME_FORMAT}}_{own.name}"
        try:
            yield SharedTempDir(own.resolve(), shared)
        finally:
            shared.remove()


def escape_glob(path: StorePath | str) -> str:
    """A path as Spark's readers take it, which else take some of its characters for a pattern."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", str(path))
