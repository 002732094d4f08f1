"""Unpacks gzip and zip files safely: no file leaves its folder, and none grows without limit.

The name of a file decides: `x.csv.gz` contains one file, `x.zip` any number. An archive inside an archive is not
unpacked; code that unpacks the archive of a complete snapshot may keep it as it is.
"""

from __future__ import annotations

import errno
import gzip
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from lakehouse.errors import DataRefused
from lakehouse.storage import landing
from lakehouse.storage.landing import ByteSource, LandedFile

# CSV and JSON compress to a twentieth, the most repetitive to a hundredth; deflate could reach a thousandth.
MAX_EXPANSION = 200  # times the size of the archive
# Up to this size the expansion is not limited, because it does no harm.
ALWAYS_ALLOWED_BYTES = 100 << 20
MAX_MEMBERS = 10_000
_MAX_NAME_BYTES = 200  # of one part of a path

_UNSUPPORTED_SUFFIXES = (".bz2", ".xz", ".zst", ".lz4", ".snappy", ".deflate", ".7z", ".rar", ".tar", ".tgz")
_SUPPORTED_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# What the two libraries raise for a damaged file; a damaged directory of a zip can request anything.
_DAMAGE_ERRORS = (EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, ValueError)


def is_packed(name: str) -> bool:
    """Return whether a file is an archive by its name, of a supported kind or not."""
    return name.lower().endswith((".gz", ".zip", *_UNSUPPORTED_SUFFIXES))


def member_names(packed: Path) -> list[str]:
    """Return the names of the files in a zip; none if it is damaged.

    Args:
        packed: The zip file.
    """
    try:
        with zipfile.ZipFile(packed) as archive:
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
        DataRefused: The archive is damaged, encrypted, neither gzip nor zip, expands too much, or contains names that
            lead out of the folder.
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

    @classmethod
    def for_archive(cls, packed: Path) -> _SizeBudget:
        """Return the budget of an archive that has not been unpacked."""
        return cls(packed, max(ALWAYS_ALLOWED_BYTES, MAX_EXPANSION * packed.stat().st_size))

    def spend(self, size: int) -> None:
        """Raise `DataRefused` if `size` further bytes exceed the budget."""
        self.remaining -= size
        if self.remaining < 0:
            raise _archive_error(
                self.packed.name,
                self.packed,
                f"unpacks to more than {ALWAYS_ALLOWED_BYTES >> 20} MiB and {MAX_EXPANSION} times its size",
            )


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
        yield _write_member(_BudgetedReader(source, _SizeBudget.for_archive(packed)), file, folder, inner)


def _unpack_zip(
    packed: Path, file: LandedFile, folder: Path, may_contain_archives: bool
) -> Iterator[tuple[LandedFile, Path]]:
    with zipfile.ZipFile(packed) as archive:
        members = [member for member in archive.infolist() if not (member.is_dir() or _is_hidden(member.filename))]
        _check_members(members, packed, may_contain_archives)  # all of them before any byte is written
        budget = _SizeBudget.for_archive(packed)
        for member in members:
            with archive.open(member) as source:
                yield _write_member(_BudgetedReader(source, budget), file, folder, member.filename)


def _write_member(source: ByteSource, file: LandedFile, folder: Path, inner: str) -> tuple[LandedFile, Path]:
    name = f"{file.name}/{inner}"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return landing.copy_and_inspect(source, path, name, file.signature), path


def _check_members(members: list[zipfile.ZipInfo], packed: Path, may_contain_archives: bool) -> None:
    """Raise `DataRefused` if the directory of a zip has a member that is not safe or not supported."""
    paths = [PurePosixPath(member.filename.lower()) for member in members]
    folders = {parent for path in paths for parent in path.parents}
    faults = {
        "contains no file": not members,
        f"contains more than {MAX_MEMBERS:,} files": len(members) > MAX_MEMBERS,
        "contains several files with the same name": len(set(paths)) < len(paths),
        "contains a file and a folder with the same name": not folders.isdisjoint(paths),
    }
    for member in members:
        name = member.filename
        faults |= {
            f"contains {name!r}, which is not a valid name below its folder": not _is_safe_name(name),
            f"contains {name!r}, a link": stat.S_ISLNK(member.external_attr >> 16),
            f"contains {name!r}, which is encrypted": bool(member.flag_bits & 1),
            f"contains {name!r}, which is an archive itself": is_packed(name) and not may_contain_archives,
            f"contains {name!r}, packed by method {member.compress_type}": member.compress_type
            not in _SUPPORTED_METHODS,
        }
    for fault, is_present in faults.items():
        if is_present:
            raise _archive_error(packed.name, packed, fault)
    _SizeBudget.for_archive(packed).spend(sum(member.file_size for member in members))


def _is_safe_name(name: str) -> bool:
    """Return whether a name stays in its folder on every system: on some, `\\` separates and `C:` is a drive."""
    posix = PurePosixPath(name)
    if "\\" in name or any(path.anchor or ".." in path.parts for path in (posix, PureWindowsPath(name))):
        return False
    return all(len(part.encode(errors="replace")) <= _MAX_NAME_BYTES for part in posix.parts)


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
