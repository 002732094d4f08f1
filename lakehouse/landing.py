"""The landing zone: what a source handed out, byte for byte, and a manifest that says what that was.

A snapshot of a table has landed when its folder has its final name; the folder is filled under a hidden
name and then renamed, so a crash leaves nothing that could be taken for a snapshot.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from lakehouse.lake import Lake, snapshot_name, snapshot_time, write_json

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
    """

    name: str
    size: int
    sha256: str
    signature: str
    has_quote: bool
    is_utf8: bool


@dataclass(frozen=True)
class Landed:
    """One landed snapshot of one table. No files: the source's snapshot lacked the table's file.

    Attributes:
        expired: retention has taken the files; what they were still stands here.
        elsewhere: where files lie that are read not as they landed, but unpacked or mended, by their names.
    """

    table: str
    time: datetime
    folder: Path
    files: tuple[LandedFile, ...]
    expired: bool = False
    elsewhere: Mapping[str, Path] = field(default_factory=dict)

    @property
    def content(self) -> tuple[tuple[str, str], ...]:
        """Names and hashes: equal content means equal bytes."""
        return tuple((f.name, f.sha256) for f in self.files)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(f.size for f in self.files)

    @property
    def paths(self) -> list[Path]:
        return [self.elsewhere.get(f.name, self.folder / f.name) for f in self.files]


def signature(path: Path) -> str:
    """What tells, without reading it, whether a file may have changed."""
    stat = path.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"


class Bytes(Protocol):
    """Whatever bytes are read from."""

    def read(self, size: int, /) -> bytes: ...


def inspect(path: Path, copy_to: Path | None = None, name: str = "") -> LandedFile:
    """Read `path` once: hash it, note what the CSV reader has to know, and copy it if asked to."""
    before = signature(path)
    with path.open("rb") as source:
        return inspected(source, copy_to, name or path.name, before)


def inspected(source: Bytes, copy_to: Path | None, name: str, signature: str) -> LandedFile:
    """The same of bytes from anywhere, such as an archive."""
    digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
    size, has_quote, is_utf8 = 0, False, True
    target = copy_to.open("wb") if copy_to else None
    try:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            digest.update(chunk)
            has_quote = has_quote or b'"' in chunk
            is_utf8 = is_utf8 and _decodes(decoder, chunk)
            if target:
                target.write(chunk)
        is_utf8 = is_utf8 and _decodes(decoder, b"", final=True)
        if target:
            target.flush()
            os.fsync(target.fileno())
    finally:
        if target:
            target.close()
    return LandedFile(name, size, digest.hexdigest(), signature, has_quote, is_utf8)


def _decodes(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


def land(lake: Lake, table: str, time: datetime, sources: Iterable[Path], root: Path | None = None) -> Landed:
    """Copy `sources` into the landing zone as the snapshot of `table` at `time`, under their paths below `root`."""
    folder = lake.landing(table) / snapshot_name(time)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run left
    partial.mkdir(parents=True)
    files = []
    for source in sources:
        name = source.relative_to(root or source.parent).as_posix()
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        files.append(inspect(source, partial / name, name))
    write_json(partial / MANIFEST, {"table": table, "files": [asdict(f) for f in files]})
    partial.rename(folder)
    return Landed(table, time, folder, tuple(files))


def landed(lake: Lake, table: str) -> list[Landed]:
    """The landed snapshots of a table, oldest first."""
    zone = lake.landing(table)
    names = sorted(p.name for p in zone.iterdir()) if zone.is_dir() else []
    return [load(zone / name, table, time) for name in names if (time := snapshot_time(name))]


def newest(lake: Lake, table: str) -> Landed | None:
    """The newest landed snapshot of a table, without reading the manifests of the others."""
    zone = lake.landing(table)
    times = [time for p in zone.iterdir() if (time := snapshot_time(p.name))] if zone.is_dir() else []
    if not times:
        return None
    return load(zone / snapshot_name(max(times)), table, max(times))


def load(folder: Path, table: str, time: datetime) -> Landed:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    files = tuple(LandedFile(**f) for f in manifest["files"])
    return Landed(table, time, folder, files, bool(manifest.get("expired")))


def expire(landed: Landed, now: datetime) -> int:
    """Take a snapshot's files away and keep its manifest, so that its source need not hand it out again.

    The manifest says so first: killed in the middle, the rest of the files go the next time.

    Returns:
        Bytes that were there.
    """
    manifest = landed.folder / MANIFEST
    if not landed.expired:
        document = json.loads(manifest.read_text(encoding="utf-8"))
        write_json(manifest, document | {"expired": now.isoformat(timespec="seconds")})
    left = [file for file in landed.folder.rglob("*") if file.is_file() and file != manifest]
    size = sum(file.stat().st_size for file in left)
    for path in landed.folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != manifest:
            path.unlink()
    return size
