"""The files of a snapshot as plain ones, for the time they are read: unpacked, and mended where Spark misreads them.

Landing keeps the bytes as received. What has to be read otherwise is written below `_state/plain/`, in a folder of this
reading alone, and is gone after it. A killed reading's folder is swept away by the next one, whichever table it is of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.ingest.readers.csv_dialect import Dialect
from lakehouse.storage import archives, file_io
from lakehouse.storage.file_io import SharedTempDir, StorePath
from lakehouse.storage.landing import LandedFile, LandedSnapshot
from lakehouse.storage.paths import Lake


@contextmanager
def readable_snapshot(lake: Lake, table: Table, snapshot: LandedSnapshot) -> Iterator[LandedSnapshot]:
    """A landed snapshot whose every file Spark reads as it is; rows read from it are good inside the block only.

    Raises:
        DataRefused: a packed file that cannot be trusted or is damaged. Whatever is refused inside the block is told
            of the file that was received.
    """
    if not any(archives.is_packed(file.name) or _may_need_rewrite(table, file) for file in snapshot.files):
        yield snapshot
        return
    received = dict(zip(snapshot.files, snapshot.paths, strict=True))
    with file_io.shared_temp_dir(lake.state_path("plain"), lake.local_path("plain")) as scratch:
        try:
            each = [_prepare_file(one, table, scratch) for one in _unpack(received, scratch)]
            elsewhere = {file.name: path for file, path in each if path is not received.get(file)}
            yield replace(snapshot, files=tuple(file for file, _ in each), elsewhere=elsewhere)
        except DataRefused as refused:
            refused.found = scratch.with_received_names(refused.found, str(snapshot.folder))
            refused.where = scratch.with_received_names(refused.where, str(snapshot.folder))
            raise


def _unpack(received: dict[LandedFile, StorePath], scratch: SharedTempDir) -> Iterator[tuple[LandedFile, StorePath]]:
    for file, path in received.items():
        if archives.is_packed(file.name):
            yield from archives.unpack(scratch.local_copy(path, file.name), file, scratch.local)
        else:
            yield file, path


def _may_need_rewrite(table: Table, file: LandedFile) -> bool:
    return table.format == "csv" and Dialect.from_options(table.options).may_need_rewrite(file)


def _prepare_file(
    one: tuple[LandedFile, StorePath], table: Table, scratch: SharedTempDir
) -> tuple[LandedFile, StorePath]:
    """A file as executors can read it and, if it is CSV, as Spark's parser reads it right."""
    file, path = one
    dialect = Dialect.from_options(table.options)
    if _may_need_rewrite(table, file):
        path = scratch.with_local_copy(path, file.name)  # it is read several times from here on
        if any(misread := dialect.rewrite_reasons(path)):
            path = _write_atomically(scratch.local / file.name, lambda target: dialect.rewrite(path, target, misread))
            file = replace(file, is_utf8=file.is_utf8 and not misread.has_nul)
    return file, scratch.executor_path(path) if isinstance(path, Path) and path.is_relative_to(scratch.local) else path


def _write_atomically(file: Path, write: Callable[[Path], None]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")  # what is mended may itself lie there, unpacked
    write(partial)
    return partial.replace(file)
