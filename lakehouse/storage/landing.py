"""Writes and reads the landing zone: the files of a source byte for byte, with a manifest for each snapshot.

A snapshot has landed when its folder has a manifest, which is written last. So a crash leaves nothing that could be
taken for a snapshot.
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
from typing import IO, Any, Protocol, cast

from lakehouse.config import Table, fingerprint_config
from lakehouse.failpoints import failpoint
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.paths import Lake, snapshot_name, snapshot_time, write_json

MANIFEST = "_manifest.json"
_CHUNK = 1 << 20

OnBytes = Callable[[int, int], None]
"""Takes the bytes that were copied since the last call, and further ones that are to be copied."""


def ignore_bytes(done: int, expected: int) -> None:
    """Do nothing with the numbers of bytes."""


@dataclass(frozen=True)
class LandedFile:
    """One file as received.

    Attributes:
        name: The path relative to the snapshot's folder.
        size: In bytes.
        sha256: The hash of the bytes, in hex.
        signature: Size, modification time and change time (nanoseconds) of the source's file, which `extract` compares
            before it reads a byte.
        has_quote: Whether a double quote occurs. Without one, no CSV record can span lines.
        is_utf8: Whether the bytes decode as UTF-8.
        longest_line: The bytes of the longest line, if it is longer than what is read at a time; 0 if none is.
        as_received: Whether the file is unchanged. If not, `lakehouse forget` removed records from it, and the fields
            above still describe the received file, because the source's file is compared with that.
    """

    name: str
    size: int
    sha256: str
    signature: str
    has_quote: bool
    is_utf8: bool
    as_received: bool = True
    longest_line: int = 0


@dataclass(frozen=True)
class LandedSnapshot:
    """One landed snapshot of one table; it has no files if the source's snapshot lacked the table's file.

    Attributes:
        table: The table's name in pipeline.yml.
        time: The time of the snapshot.
        folder: Its folder in the landing zone.
        files: Its files as received.
        expired: Whether retention deleted the files; `files` still describes them.
        prepared_paths: The paths, by name, of files that are read unpacked or repaired instead of as landed.
        hint: If it has no files: the files of the source in their place; or empty.
        commit: If the source is a git repository: the id of the commit.
        first_commit: The id of the commit at which that history began.
        offsets: If the source is a topic of Kafka: the offset after the last message of each partition.
    """

    table: str
    time: datetime
    folder: StorePath
    files: tuple[LandedFile, ...]
    expired: bool = False
    prepared_paths: Mapping[str, StorePath] = field(default_factory=dict)
    hint: str = ""
    commit: str = ""
    first_commit: str = ""
    offsets: Mapping[str, int] = field(default_factory=dict)

    @property
    def file_hashes(self) -> tuple[tuple[str, str], ...]:
        """The name and hash of each file; they are equal if and only if all bytes are."""
        return tuple((f.name, f.sha256) for f in self.files)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(f.size for f in self.files)

    @property
    def paths(self) -> list[StorePath]:
        """The paths to read the files from."""
        return [self.prepared_paths.get(f.name, self.folder / f.name) for f in self.files]


def fingerprint(snapshot: LandedSnapshot, table: Table, timezone: str) -> str:
    """Return a hash that differs if the snapshot may have to be ingested again.

    It covers the names and bytes of the files, and the settings that affect how they are read and compared.

    Args:
        snapshot: The landed snapshot.
        table: The table's configuration.
        timezone: The pipeline's time zone.
    """
    parts = [snapshot.file_hashes, fingerprint_config(table, timezone)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def file_signature(path: Path) -> str:
    """Return a text that differs if a file may have changed, without reading the file."""
    stat = path.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"


class ByteSource(Protocol):
    """Anything that bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""


class HashingReader:
    """Passes bytes through and collects their hash, size and the properties that the CSV reader needs."""

    def __init__(self, source: ByteSource, on_bytes: OnBytes = ignore_bytes) -> None:
        self._source, self._digest, self._on_bytes = source, hashlib.sha256(), on_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._size, self._has_quote, self._is_utf8 = 0, False, True
        self._line, self._longest_line = 0, 0

    def read(self, size: int = _CHUNK, /) -> bytes:
        """Return the next bytes of the source."""
        chunk = self._source.read(size)
        self._size += len(chunk)
        self._on_bytes(len(chunk), 0)
        self._digest.update(chunk)
        self._measure_lines(chunk)
        self._has_quote = self._has_quote or b'"' in chunk
        self._is_utf8 = self._is_utf8 and _is_decodable(self._decoder, chunk)
        return chunk

    def to_landed_file(self, name: str, signature: str) -> LandedFile:
        """Return the source, which has been read to its end, as a landed file."""
        is_utf8 = self._is_utf8 and _is_decodable(self._decoder, b"", final=True)
        longest = max(self._longest_line, self._line)
        return LandedFile(
            name,
            self._size,
            self._digest.hexdigest(),
            signature,
            self._has_quote,
            is_utf8,
            longest_line=longest if longest > _CHUNK else 0,
        )

    def _measure_lines(self, chunk: bytes) -> None:
        """Measure the lines that continue from one chunk to the next; those inside of one are short."""
        ends = [at for at in (chunk.find(b"\n"), chunk.find(b"\r")) if at >= 0]
        if not ends:
            self._line += len(chunk)
            return
        self._longest_line = max(self._longest_line, self._line + min(ends))
        self._line = len(chunk) - 1 - max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))


def _is_decodable(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


def inspect_file(path: Path, name: str = "") -> LandedFile:
    """Return a file as it would land now.

    Args:
        path: The source's file.
        name: Its name in the snapshot, if not the file's own.
    """
    signature = file_signature(path)
    with path.open("rb") as source:
        reader = HashingReader(source)
        while reader.read():
            pass
    return reader.to_landed_file(name or path.name, signature)


def copy_and_inspect(source: ByteSource, copy_to: Path, name: str, signature: str) -> LandedFile:
    """Copy bytes from anywhere, such as an archive, to a file, and return them as a landed file.

    Args:
        source: The bytes.
        copy_to: The file to write.
        name: The file's name in the snapshot.
        signature: The signature of the file that the bytes come from.
    """
    reader = HashingReader(source)
    with copy_to.open("wb") as target:
        shutil.copyfileobj(cast(IO[bytes], reader), target, _CHUNK)
    return reader.to_landed_file(name, signature)


def land_snapshot(
    lake: Lake,
    table: str,
    time: datetime,
    sources: Iterable[Path],
    root: Path | None = None,
    hint: str = "",
    replace: bool = False,
    on_bytes: OnBytes = ignore_bytes,
) -> LandedSnapshot:
    """Copy a source's files into the landing zone as one snapshot.

    Args:
        lake: The lake to land in.
        table: The table's name in pipeline.yml.
        time: The time of the snapshot.
        sources: The files of the table.
        root: The folder below which the files keep their relative paths; by default the folder of each file.
        hint: If there are no files: the files of the source in their place.
        replace: Whether the snapshot has landed before, and is landed again.
        on_bytes: Called with the bytes that are to be copied, and then with those that were.
    """
    remove_unfinished(lake, table)
    with begin_landing(lake, table, time, sources, root, hint, replace, on_bytes) as landed:
        return landed


@contextmanager
def begin_landing(
    lake: Lake,
    table: str,
    time: datetime,
    sources: Iterable[Path],
    root: Path | None = None,
    hint: str = "",
    replace: bool = False,
    on_bytes: OnBytes = ignore_bytes,
    origin: Mapping[str, Any] | None = None,
) -> Iterator[LandedSnapshot]:
    """Do the same, and let the snapshot land at the end of the block: most of the time is spent before.

    Several may be begun at a time, after one call of `remove_unfinished`.

    Args:
        lake: As in `land_snapshot`, like all but the last.
        table: The table.
        time: The time of the snapshot.
        sources: The files.
        root: The folder of their names.
        hint: If there are no files: those in their place.
        replace: Whether it has landed before.
        on_bytes: Called with numbers of bytes.
        origin: Where it comes from: further attributes of `LandedSnapshot`, which the manifest keeps.
    """
    sources = list(sources)
    on_bytes(0, sum(source.stat().st_size for source in sources))
    folder = lake.landing_path(table) / snapshot_name(time)
    files = []
    is_damaged = isinstance(folder, Path) and folder.exists() and not find_snapshot(lake, table, time)
    with file_io.atomic_folder(folder, replace or is_damaged) as new_folder:
        for source in sources:
            name = source.relative_to(root or source.parent).as_posix()
            files.append(_copy_file(source, new_folder / name, name, on_bytes))
        document = {"table": table, "files": [asdict(f) for f in files], **(origin or {})}
        document |= {"hint": hint} if hint else {}
        failpoint("before_manifest", folder)
        is_renamed = isinstance(new_folder, Path)
        if is_renamed:
            write_json(new_folder / MANIFEST, document)
        yield _parse_document(folder, table, time, document)
        if not is_renamed:
            write_json(new_folder / MANIFEST, document)


def remove_unfinished(lake: Lake, table: str) -> None:
    """Delete what a killed run left: on S3, the folders without a manifest that are newer than the newest snapshot.

    There, files are written to their final place.

    Args:
        lake: The lake.
        table: The table's name in pipeline.yml.
    """
    table_folder = lake.landing_path(table)
    if isinstance(table_folder, Path):
        file_io.remove_partial_folders(table_folder)
        return
    for name in sorted(filter(snapshot_time, file_io.list_names(table_folder)), reverse=True):
        if (table_folder / name / MANIFEST).exists():
            return
        file_io.remove(table_folder / name)


def _copy_file(source: Path, target: StorePath, name: str, on_bytes: OnBytes) -> LandedFile:
    """Copy a file and return it as a landed file; it is read once."""
    readers = list[HashingReader]()
    signature = file_signature(source)

    @contextmanager
    def open_source() -> Iterator[IO[bytes]]:
        with source.open("rb") as file:
            readers.append(HashingReader(file, on_bytes))
            yield cast(IO[bytes], readers[-1])

    file_io.copy_stream(target, open_source)
    return readers[-1].to_landed_file(name, signature)


def rewrite_file(lake: Lake, snapshot: LandedSnapshot, name: str, write: Callable[[Path, Path], None]) -> None:
    """Replace the content of a landed file, completely or not at all.

    The manifest is changed before the file. If the process is killed in between, the file only seems to lack records.

    Args:
        lake: The lake of the snapshot.
        snapshot: The snapshot of the file.
        name: The file's name in the snapshot.
        write: Reads the file at the first path and writes the new content to the second.
    """
    with file_io.atomic_rewrite(snapshot.folder / name, lake.local_path("plain")) as (old, new):
        write(old, new)
        manifest = json.loads((snapshot.folder / MANIFEST).read_bytes())
        for file in manifest["files"]:
            file["as_received"] = file.get("as_received", True) and file["name"] != name
        write_json(snapshot.folder / MANIFEST, manifest)
        failpoint("after_manifest_rewritten", snapshot.folder)


def list_snapshots(lake: Lake, table: str) -> list[LandedSnapshot]:
    """Return the landed snapshots of a table, oldest first."""
    folder = lake.landing_path(table)
    times = {name: time for name in file_io.list_names(folder) if (time := snapshot_time(name))}
    manifests = file_io.read_files(folder / name / MANIFEST for name in times)
    found = [
        _parse_if_readable(folder / name, table, time, manifest)
        for (name, time), manifest in zip(times.items(), manifests, strict=True)
    ]
    return [snapshot for snapshot in found if snapshot]


def newest_snapshot(lake: Lake, table: str) -> LandedSnapshot | None:
    """Return the newest landed snapshot of a table, without reading the manifests of the others."""
    times = [time for name in file_io.list_names(lake.landing_path(table)) if (time := snapshot_time(name))]
    snapshots = (find_snapshot(lake, table, time) for time in sorted(times, reverse=True))
    return next((snapshot for snapshot in snapshots if snapshot), None)


def find_snapshot(lake: Lake, table: str, time: datetime) -> LandedSnapshot | None:
    """Return the landed snapshot of a table at `time`, or None if there is none."""
    folder = lake.landing_path(table) / snapshot_name(time)
    (manifest,) = file_io.read_files([folder / MANIFEST])
    return _parse_if_readable(folder, table, time, manifest)


def load_snapshot(folder: StorePath, table: str, time: datetime) -> LandedSnapshot:
    """Return the snapshot in a folder that has a manifest."""
    return _parse_manifest(folder, table, time, (folder / MANIFEST).read_bytes())


def _parse_if_readable(folder: StorePath, table: str, time: datetime, manifest: bytes | None) -> LandedSnapshot | None:
    """Return the snapshot of a manifest; None if that is missing or damaged, so that the snapshot lands again."""
    try:
        return None if manifest is None else _parse_manifest(folder, table, time, manifest)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _parse_manifest(folder: StorePath, table: str, time: datetime, manifest: bytes) -> LandedSnapshot:
    return _parse_document(folder, table, time, json.loads(manifest))


def _parse_document(folder: StorePath, table: str, time: datetime, document: dict[str, Any]) -> LandedSnapshot:
    files = tuple(LandedFile(**f) for f in document["files"])
    hint, commit, first_commit = (str(document.get(name) or "") for name in ("hint", "commit", "first_commit"))
    is_expired = bool(document.get("expired"))
    offsets = document.get("offsets") or {}
    return LandedSnapshot(
        table, time, folder, files, is_expired, hint=hint, commit=commit, first_commit=first_commit, offsets=offsets
    )


def expire_snapshot(snapshot: LandedSnapshot, now: datetime) -> int:
    """Delete the files of a snapshot and keep its manifest, so that the snapshot is not extracted again.

    The manifest is changed first. If the process is killed in between, the next call deletes the remaining files.

    Args:
        snapshot: The snapshot to expire.
        now: The time to record in the manifest.

    Returns:
        The bytes of the snapshot's files.
    """
    manifest = snapshot.folder / MANIFEST
    if not snapshot.expired:
        document = json.loads(manifest.read_bytes())
        write_json(manifest, document | {"expired": now.isoformat(timespec="seconds")})
        failpoint("after_manifest_expired", snapshot.folder)
    for name in remaining_names(snapshot):
        file_io.remove(snapshot.folder / name)
    return snapshot.size


def remaining_names(snapshot: LandedSnapshot) -> list[str]:
    """Return the names of the files and folders that a snapshot still has, without the manifest."""
    return [name for name in file_io.list_names(snapshot.folder) if name != MANIFEST]
