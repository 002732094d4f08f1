"""The landing zone: what a source handed out, byte for byte, and a manifest that says what that was.

A snapshot of a table has landed when its folder has a manifest, which is written last; so a crash leaves nothing that
could be taken for a snapshot.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Protocol, cast

from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.paths import Lake, snapshot_name, snapshot_time, write_json

MANIFEST = "_manifest.json"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class LandedFile:
    """One file as received.

    Attributes:
        size: bytes.
        sha256: of the bytes, in hex.
        signature: size, modification and change time of the source's file (nanoseconds): what `extract`
            looks at before it reads a byte.
        has_quote: whether a double quote occurs. Without one no CSV record can span lines.
        is_utf8: whether the bytes decode as UTF-8.
        as_received: whether the file is still that; else records were taken out of it since (`lakehouse forget`),
            and all the above is of what the source handed out, which is what it is compared with.
    """

    name: str
    size: int
    sha256: str
    signature: str
    has_quote: bool
    is_utf8: bool
    as_received: bool = True


@dataclass(frozen=True)
class LandedSnapshot:
    """One landed snapshot of one table. No files: the source's snapshot lacked the table's file.

    Attributes:
        expired: retention has taken the files; what they were still stands here.
        elsewhere: where files lie that are read not as they landed, but unpacked or mended, by their names.
    """

    table: str
    time: datetime
    folder: StorePath
    files: tuple[LandedFile, ...]
    expired: bool = False
    elsewhere: Mapping[str, StorePath] = field(default_factory=dict)

    @property
    def file_hashes(self) -> tuple[tuple[str, str], ...]:
        """Names and hashes: equal content means equal bytes."""
        return tuple((f.name, f.sha256) for f in self.files)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(f.size for f in self.files)

    @property
    def paths(self) -> list[StorePath]:
        return [self.elsewhere.get(f.name, self.folder / f.name) for f in self.files]


def file_signature(path: Path) -> str:
    """What tells, without reading it, whether a file may have changed."""
    stat = path.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"


class ByteSource(Protocol):
    """Whatever bytes are read from."""

    def read(self, size: int, /) -> bytes: ...


class HashingReader:
    """Bytes that are hashed, and seen for what the CSV reader has to know, while somebody else reads them."""

    def __init__(self, source: ByteSource) -> None:
        self._source, self._digest = source, hashlib.sha256()
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._size, self._has_quote, self._is_utf8 = 0, False, True

    def read(self, size: int = _CHUNK, /) -> bytes:
        chunk = self._source.read(size)
        self._size += len(chunk)
        self._digest.update(chunk)
        self._has_quote = self._has_quote or b'"' in chunk
        self._is_utf8 = self._is_utf8 and _is_decodable(self._decoder, chunk)
        return chunk

    def to_landed_file(self, name: str, signature: str) -> LandedFile:
        """What has been read, to its end, as a landed file."""
        is_utf8 = self._is_utf8 and _is_decodable(self._decoder, b"", final=True)
        return LandedFile(name, self._size, self._digest.hexdigest(), signature, self._has_quote, is_utf8)


def _is_decodable(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


def inspect_file(path: Path, name: str = "") -> LandedFile:
    """What a file would be, if it landed now."""
    before = file_signature(path)
    with path.open("rb") as source:
        looked = HashingReader(source)
        while looked.read():
            pass
    return looked.to_landed_file(name or path.name, before)


def copy_and_inspect(source: ByteSource, copy_to: Path, name: str, signature: str) -> LandedFile:
    """The same of bytes from anywhere, such as an archive, copied to a file."""
    looked = HashingReader(source)
    with copy_to.open("wb") as target:
        shutil.copyfileobj(cast(IO[bytes], looked), target, _CHUNK)
    return looked.to_landed_file(name, signature)


def land_snapshot(
    lake: Lake, table: str, time: datetime, sources: Iterable[Path], root: Path | None = None
) -> LandedSnapshot:
    """Copy `sources` into the landing zone as the snapshot of `table` at `time`, under their paths below `root`."""
    folder = lake.landing_path(table) / snapshot_name(time)
    if lake.is_on_s3:
        _remove_unfinished(lake, table)
    files = []
    with file_io.atomic_folder(folder) as filling:
        for source in sources:
            name = source.relative_to(root or source.parent).as_posix()
            files.append(_copy_file(source, filling / name, name))
        write_json(filling / MANIFEST, {"table": table, "files": [asdict(f) for f in files]})
    return LandedSnapshot(table, time, folder, tuple(files))


def _remove_unfinished(lake: Lake, table: str) -> None:
    """Remove folders without a manifest that are newer than any with one: what a killed run put where it was to lie."""
    zone = lake.landing_path(table)
    for name in sorted(filter(snapshot_time, file_io.list_names(zone)), reverse=True):
        if (zone / name / MANIFEST).exists():
            return
        file_io.remove(zone / name)


def _copy_file(source: Path, target: StorePath, name: str) -> LandedFile:
    """Read a file once: copy it, and say what it was."""
    looked = list[HashingReader]()
    before = file_signature(source)

    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with source.open("rb") as file:
            looked.append(HashingReader(file))
            yield cast(IO[bytes], looked[-1])

    file_io.copy_stream(target, opened)
    return looked[-1].to_landed_file(name, before)


def rewrite_file(lake: Lake, snapshot: LandedSnapshot, name: str, write: Callable[[Path, Path], None]) -> None:
    """Put another content in the place of a landed file, whole or not at all.

    The manifest says so before it is so: what kills this in between leaves a file that only seems to lack records.

    Args:
        write: from the file as it is to a new one.
    """
    with file_io.atomic_rewrite(snapshot.folder / name, lake.local_path("plain")) as (file, new):
        write(file, new)
        manifest = json.loads((snapshot.folder / MANIFEST).read_bytes())
        for told in manifest["files"]:
            told["as_received"] = told.get("as_received", True) and told["name"] != name
        write_json(snapshot.folder / MANIFEST, manifest)


def list_snapshots(lake: Lake, table: str) -> list[LandedSnapshot]:
    """The landed snapshots of a table, oldest first."""
    zone = lake.landing_path(table)
    times = {name: time for name in file_io.list_names(zone) if (time := snapshot_time(name))}
    manifests = file_io.read_files(zone / name / MANIFEST for name in times)
    each = zip(times.items(), manifests, strict=True)
    return [
        _parse_manifest(zone / name, table, time, manifest) for (name, time), manifest in each if manifest is not None
    ]


def newest_snapshot(lake: Lake, table: str) -> LandedSnapshot | None:
    """The newest landed snapshot of a table, without reading the manifests of the others."""
    times = [time for name in file_io.list_names(lake.landing_path(table)) if (time := snapshot_time(name))]
    return next((found for time in sorted(times, reverse=True) if (found := find_snapshot(lake, table, time))), None)


def find_snapshot(lake: Lake, table: str, time: datetime) -> LandedSnapshot | None:
    """The snapshot of a table that landed as of `time`."""
    folder = lake.landing_path(table) / snapshot_name(time)
    (manifest,) = file_io.read_files([folder / MANIFEST])
    return None if manifest is None else _parse_manifest(folder, table, time, manifest)


def load_snapshot(folder: StorePath, table: str, time: datetime) -> LandedSnapshot:
    """A snapshot that has landed."""
    return _parse_manifest(folder, table, time, (folder / MANIFEST).read_bytes())


def _parse_manifest(folder: StorePath, table: str, time: datetime, manifest: bytes) -> LandedSnapshot:
    document = json.loads(manifest)
    files = tuple(LandedFile(**f) for f in document["files"])
    return LandedSnapshot(table, time, folder, files, bool(document.get("expired")))


def expire_snapshot(snapshot: LandedSnapshot, now: datetime) -> int:
    """Take a snapshot's files away and keep its manifest, so that its source need not hand it out again.

    The manifest says so first: killed in the middle, the rest of the files go the next time.

    Returns:
        Bytes that were there.
    """
    manifest = snapshot.folder / MANIFEST
    if not snapshot.expired:
        document = json.loads(manifest.read_bytes())
        write_json(manifest, document | {"expired": now.isoformat(timespec="seconds")})
    for name in remaining_names(snapshot):
        file_io.remove(snapshot.folder / name)
    return snapshot.size


def remaining_names(snapshot: LandedSnapshot) -> list[str]:
    """What of a snapshot's files and folders is there."""
    return [name for name in file_io.list_names(snapshot.folder) if name != MANIFEST]
