"""Unpacks gzip and zip files safely: no file leaves its folder, and none needs memory or disk without limit.

The directory of a zip is checked while it is read, so that a large one is refused before it is held in memory.
The name of a file decides: `x.csv.gz` contains one file, `x.zip` any number. An archive inside an archive is not
unpacked; code that unpacks the archive of a complete snapshot may keep it as it is.
"""

from __future__ import annotations

import errno
import gzip
import io
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from lakehouse.errors import DataRefused
from lakehouse.storage import landing
from lakehouse.storage.landing import ByteSource, LandedFile
from lakehouse.text import visible

# CSV and JSON compress to a twentieth, the most repetitive to a hundredth; deflate could reach a thousandth.
MAX_EXPANSION = 200  # times the size of the archive
# Up to this size the expansion is not limited, because it does no harm.
ALWAYS_ALLOWED_BYTES = 100 << 20
# Of one archive, however large it is and however much disk there is.
MAX_UNPACKED_BYTES = 256 << 30
# Of the disk that is free, the rest of which Spark and the tables need.
_MAX_DISK_SHARE = 0.9
MAX_MEMBERS = 10_000
_MAX_ENTRIES = 2 * MAX_MEMBERS  # of a zip's directory: macOS adds a hidden one to each file
_MAX_DIRECTORY_BYTES = 8 << 20
MAX_PARTS, MAX_NAME_BYTES = 32, 1_000  # of a path
_MAX_PART_BYTES = 200
_DENSITY = 4  # about how many bytes of text a byte of a packed or a Parquet file stands for

_UNSUPPORTED_SUFFIXES = (
    *(".bz2", ".xz", ".zst", ".lz4", ".snappy", ".deflate", ".7z", ".rar", ".tar", ".tgz", ".tbz2", ".txz", ".lzma"),
    *(".zipx", ".br"),
)
_SUPPORTED_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENTRY_SIGNATURE = b"PK\x01\x02"
# What the two libraries raise for a damaged file; a damaged directory of a zip can request anything.
_DAMAGE_ERRORS = (
    *(EOFError, zlib.error, zipfile.BadZipFile, ValueError, RuntimeError, LookupError, OverflowError, struct.error),
)


def is_packed(name: str) -> bool:
    """Return whether a file is an archive by its name, of a supported kind or not."""
    return name.lower().endswith((".gz", ".zip", *_UNSUPPORTED_SUFFIXES))


def text_bytes(files: Iterable[LandedFile]) -> int:
    """Return about how large files would be as plain text: how much work they are.

    Args:
        files: Files as received.
    """
    return sum(f.size * (_DENSITY if is_packed(f.name) or f.name.lower().endswith(".parquet") else 1) for f in files)


def member_names(packed: Path) -> list[str]:
    """Return the names of the files in a zip; none if it is damaged.

    Args:
        packed: The zip file.

    Raises:
        DataRefused: Its directory is too large to be held in memory.
    """
    try:
        with _ZipBytes(packed) as content, zipfile.ZipFile(content) as archive:
            content.directory_is_read = True
            return [m.filename for m in archive.infolist() if not (m.is_dir() or _is_hidden(m.filename))]
    except (*_DAMAGE_ERRORS, OSError):
        return []


def unpack(
    packed: Path, file: LandedFile, folder: Path, may_contain_archives: bool = False
) -> Iterator[tuple[LandedFile, Path]]:
    """Unpack the files of an archive, each as if it had landed by itself.

    Args:
        packed: The archive on this machine.
        file: The archive as a landed file; the names of its files begin with its name.
        folder: The folder to write below.
        may_contain_archives: Whether a zip may contain archives, which are then not unpacked.

    Yields:
        Each file, and the path where it was written.

    Raises:
        DataRefused: The archive is damaged, encrypted, neither gzip nor zip, expands too much or to more than the disk
            has, or contains too many names, long or deep ones, or names that lead out of the folder.
    """
    try:
        if file.name.lower().endswith((".tar.gz", *_UNSUPPORTED_SUFFIXES)):
            raise _archive_error(file.name, packed, "is an archive of a kind that is not supported")
        if file.name.lower().endswith(".zip"):
            yield from _unpack_zip(packed, file, folder, may_contain_archives)
        else:
            yield from _unpack_gzip(packed, file, folder)
    except (*_DAMAGE_ERRORS, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # a full disk is not the fault of the file; a negative position (EINVAL) is
        raise _archive_error(
            file.name, packed, f"is truncated or damaged: {str(error) or type(error).__name__}"
        ) from error


@dataclass
class _SizeBudget:
    """The bytes that an archive may still unpack to, shared by its members."""

    packed: Path
    remaining: int
    limit: str

    @classmethod
    def for_archive(cls, packed: Path, folder: Path) -> _SizeBudget:
        """Return the budget of an archive that has not been unpacked.

        Args:
            packed: The archive.
            folder: An existing folder on the disk to write to.
        """
        expansion = max(ALWAYS_ALLOWED_BYTES, MAX_EXPANSION * packed.stat().st_size)
        free = int(_MAX_DISK_SHARE * shutil.disk_usage(folder).free)
        limits = {
            f"{ALWAYS_ALLOWED_BYTES >> 20} MiB and {MAX_EXPANSION} times its size": expansion,
            f"{MAX_UNPACKED_BYTES >> 30} GiB": MAX_UNPACKED_BYTES,
            f"{_MAX_DISK_SHARE:.0%} of the free disk ({free >> 20:,} MiB)": free,
        }
        limit = min(limits, key=limits.__getitem__)
        return cls(packed, limits[limit], limit)

    def spend(self, size: int) -> None:
        """Raise `DataRefused` if `size` further bytes exceed the budget."""
        self.remaining -= size
        if self.remaining < 0:
            raise _archive_error(self.packed.name, self.packed, f"unpacks to more than {self.limit}")


class _ZipBytes(io.BufferedReader):
    """Reads a zip, and raises `DataRefused` if its directory is too large to be held in memory."""

    def __init__(self, packed: Path) -> None:
        super().__init__(io.FileIO(packed))
        self._packed, self.directory_is_read = packed, False

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        if self.directory_is_read:
            return super().read(size)
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            fault = f"contains more than {MAX_MEMBERS:,} files, or names and comments of {size >> 20} MiB"
            raise _archive_error(self._packed.name, self._packed, fault)
        content = super().read(size)
        # zipfile reads a directory with one call. The number of its entries that the zip states may be wrong.
        if content.count(_ENTRY_SIGNATURE) > _MAX_ENTRIES:
            raise _archive_error(self._packed.name, self._packed, f"contains more than {MAX_MEMBERS:,} files")
        return content


@dataclass
class _BudgetedReader:
    """Subtracts the bytes that are read from a budget."""

    source: ByteSource
    budget: _SizeBudget

    def read(self, size: int, /) -> bytes:
        """Return the next bytes of the source."""
        chunk = self.source.read(size)
        self.budget.spend(len(chunk))
        return chunk


def _unpack_gzip(packed: Path, file: LandedFile, folder: Path) -> Iterator[tuple[LandedFile, Path]]:
    inner = PurePosixPath(file.name).name[: -len(".gz")] or "file"
    if is_packed(inner):
        raise _archive_error(file.name, packed, "is packed twice")
    with gzip.open(packed) as source:
        yield _write_member(_BudgetedReader(source, _SizeBudget.for_archive(packed, folder)), file, folder, inner)


def _unpack_zip(
    packed: Path, file: LandedFile, folder: Path, may_contain_archives: bool
) -> Iterator[tuple[LandedFile, Path]]:
    with _ZipBytes(packed) as content, zipfile.ZipFile(content) as archive:
        content.directory_is_read = True
        # All of them before any byte is written.
        members = _checked_members(archive.infolist(), packed, may_contain_archives)
        budget = _SizeBudget.for_archive(packed, folder)
        replace(budget).spend(sum(member.file_size for member in members))
        for member in members:
            with archive.open(member) as source:
                yield _write_member(_BudgetedReader(source, budget), file, folder, member.filename)


def _write_member(source: ByteSource, file: LandedFile, folder: Path, inner: str) -> tuple[LandedFile, Path]:
    name = f"{file.name}/{inner}"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return landing.copy_and_inspect(source, path, name, file.signature), path


def _checked_members(entries: list[zipfile.ZipInfo], packed: Path, may_contain_archives: bool) -> list[zipfile.ZipInfo]:
    """Return the files of a zip without those that a system added.

    Raises:
        DataRefused: There are too many, or one of them is not safe or not supported.
    """
    for entry in entries:  # a name is measured before it is split
        if fault := _name_fault(entry.filename):
            raise _archive_error(packed.name, packed, f"contains '{visible(entry.filename, 80)}', {fault}")
    members = [entry for entry in entries if not (entry.is_dir() or _is_hidden(entry.filename))]
    if not members or len(members) > MAX_MEMBERS:
        fault = f"contains more than {MAX_MEMBERS:,} files" if members else "contains no file"
        raise _archive_error(packed.name, packed, fault)
    for member in members:
        if fault := _member_fault(member, may_contain_archives):
            raise _archive_error(packed.name, packed, f"contains '{visible(member.filename, 80)}', {fault}")
    paths = {"/".join(_parts(member.filename.lower())) for member in members}
    if len(paths) < len(members):
        raise _archive_error(packed.name, packed, "contains several files with the same name")
    if any(parent in paths for path in paths for parent in _parents(path)):
        raise _archive_error(packed.name, packed, "contains a file and a folder with the same name")
    return members


def _name_fault(name: str) -> str:
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        return f"a name of more than {MAX_NAME_BYTES:,} bytes"
    if name.count("/") >= 2 * MAX_PARTS or len(_parts(name)) > MAX_PARTS:
        return f"a path of more than {MAX_PARTS} parts"
    return ""


def _member_fault(member: zipfile.ZipInfo, may_contain_archives: bool) -> str:
    if not _is_safe_name(member.filename):
        return "which is not a valid name below its folder"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "a link"
    if member.flag_bits & 1:
        return "which is encrypted"
    if is_packed(member.filename) and not may_contain_archives:
        return "which is an archive itself"
    is_supported = member.compress_type in _SUPPORTED_METHODS
    return "" if is_supported else f"packed by method {member.compress_type}"


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _parents(path: str) -> Iterator[str]:
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)


def _is_safe_name(name: str) -> bool:
    """Return whether a name stays in its folder on every system: on some, `\\` separates and `C:` is a drive."""
    posix = PurePosixPath(name)
    if "\\" in name or any(path.anchor or ".." in path.parts for path in (posix, PureWindowsPath(name))):
        return False
    return all(len(part.encode(errors="replace")) <= _MAX_PART_BYTES for part in posix.parts)


def _is_hidden(name: str) -> bool:
    """Return whether macOS or another system added a file; `..` is not a hidden name but leads out of the folder."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") and not part.startswith("..") for part in parts)


def _archive_error(name: str, packed: Path, fault: str) -> DataRefused:
    return DataRefused(
        f"{name} {fault}",
        expected="a complete gzip or zip file (stored or deflated, no password) of plain files",
        where=str(packed),
        next_step="have the source deliver the file again, as a snapshot with a new time",
    )
