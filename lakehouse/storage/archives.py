"""Packed files, unpacked with suspicion: nothing leaves its folder, and nothing grows without end.

A file is packed by its name: `x.csv.gz` holds one file, `x.zip` any number. What is packed inside a packed file is not
looked into; whoever unpacks a whole snapshot may take it out as it is.
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

# CSV and JSON shrink to a twentieth, the dullest to a hundredth; deflate can grow a byte to a thousand.
MAX_EXPANSION = 200
# Up to this size a file may grow as it likes: it does no harm.
ALWAYS_ALLOWED_BYTES = 100 << 20
MAX_MEMBERS = 10_000
_MAX_NAME_BYTES = 200  # bytes, of one part of a path

_UNSUPPORTED_SUFFIXES = (".bz2", ".xz", ".zst", ".lz4", ".snappy", ".deflate", ".7z", ".rar", ".tar", ".tgz")
_SUPPORTED_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# What the two libraries raise at damage; a zip's own list can be damaged so that it asks for anything.
_DAMAGE_ERRORS = (EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, ValueError)


def is_packed(name: str) -> bool:
    """Whether a file is packed, or seems to be."""
    return name.lower().endswith((".gz", ".zip", *_UNSUPPORTED_SUFFIXES))


def unpack(
    packed: Path, file: LandedFile, folder: Path, may_contain_archives: bool = False
) -> Iterator[tuple[LandedFile, Path]]:
    """The files in a packed one, written below `folder`, each as if it had landed by itself.

    Args:
        may_hold_packed: whether a zip's members may be packed themselves; they stay so.

    Raises:
        DataRefused: it is damaged, encrypted, of another kind than gzip and zip, grows beyond measure, or holds
            names that lead out of the folder.
    """
    try:
        if file.name.lower().endswith((".tar.gz", *_UNSUPPORTED_SUFFIXES)):
            raise _archive_error(file.name, packed, "is packed in a way that is not read here")
        if file.name.lower().endswith(".zip"):
            yield from _unpack_zip(packed, file, folder, may_contain_archives)
        else:
            yield from _unpack_gzip(packed, file, folder)
    except (*_DAMAGE_ERRORS, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # a full disk is no fault of the file; a place before its beginning is
        raise _archive_error(
            file.name, packed, f"is cut short or damaged: {str(error) or type(error).__name__}"
        ) from error


@dataclass
class _SizeBudget:
    """How much may still come out of a packed file; shared by its members."""

    packed: Path
    remaining: int

    @classmethod
    def for_archive(cls, packed: Path) -> _SizeBudget:
        return cls(packed, max(ALWAYS_ALLOWED_BYTES, MAX_EXPANSION * packed.stat().st_size))

    def spend(self, size: int) -> None:
        self.remaining -= size
        if self.remaining < 0:
            raise _archive_error(
                self.packed.name,
                self.packed,
                f"unpacks to more than {ALWAYS_ALLOWED_BYTES >> 20} MiB and {MAX_EXPANSION} times its size",
            )


@dataclass
class _BudgetedReader:
    """Bytes that are paid for out of a budget as they are read."""

    source: ByteSource
    budget: _SizeBudget

    def read(self, size: int, /) -> bytes:
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
        # All of it is looked at before a byte is written.
        members = [one for one in archive.infolist() if not (one.is_dir() or _is_hidden(one.filename))]
        _check_members(members, packed, may_contain_archives)
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
    """Raises: DataRefused, for what the archive's own list says of its members."""
    paths = [PurePosixPath(member.filename.lower()) for member in members]
    faults = {
        "holds no file": not members,
        f"holds more than {MAX_MEMBERS:,} files": len(members) > MAX_MEMBERS,
        "holds several files of one name": len(set(paths)) < len(paths),
        "holds a file and a folder of one name": not {up for path in paths for up in path.parents}.isdisjoint(paths),
    }
    for member in members:
        name = member.filename
        faults |= {
            f"holds {name!r}, which is no name below its folder": not _is_safe_name(name),
            f"holds {name!r}, a link": stat.S_ISLNK(member.external_attr >> 16),
            f"holds {name!r}, which is encrypted": bool(member.flag_bits & 1),
            f"holds {name!r}, which is packed itself": is_packed(name) and not may_contain_archives,
            f"holds {name!r}, packed by method {member.compress_type}": member.compress_type not in _SUPPORTED_METHODS,
        }
    for found, is_so in faults.items():
        if is_so:
            raise _archive_error(packed.name, packed, found)
    _SizeBudget.for_archive(packed).spend(sum(member.file_size for member in members))


def _is_safe_name(name: str) -> bool:
    """Whether a name stays in its folder, by the rules of any system: elsewhere `\\` separates and `C:` is a drive."""
    either = (PurePosixPath(name), PureWindowsPath(name))
    if "\\" in name or any(path.anchor or ".." in path.parts for path in either):
        return False
    return all(len(part.encode(errors="replace")) <= _MAX_NAME_BYTES for part in either[0].parts)


def _is_hidden(name: str) -> bool:
    """What macOS and others leave beside the files. Two dots are no hidden name but a way out."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") and not part.startswith("..") for part in parts)


def _archive_error(name: str, packed: Path, found: str) -> DataRefused:
    return DataRefused(
        f"{name} {found}",
        expected="a whole gzip or zip file (stored or deflated, no password) of plain files",
        where=str(packed),
        next_step="have the source hand out the file again, under a time of its own",
    )
