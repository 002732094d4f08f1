"""The files of a snapshot as plain ones, for the time they are read: unpacked, and mended where Spark misreads them.

Landing keeps the bytes as received. What has to be read otherwise is written below `_state/plain/`, in a folder of this
reading alone, and is gone after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lakehouse import archives, scratch
from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.lake import Lake
from lakehouse.landing import Landed, LandedFile
from lakehouse.snapshot.dialect import Dialect


@contextmanager
def plain(lake: Lake, table: Table, landed: Landed) -> Iterator[Landed]:
    """A landed snapshot whose every file Spark reads as it is; rows read from it are good inside the block only.

    Raises:
        DataRefused: a packed file that cannot be trusted or is damaged. Whatever is refused inside the block is told
            of the file that was received.
    """
    if not any(archives.is_packed(file.name) or _may_need_mending(table, file) for file in landed.files):
        yield landed
        return
    with scratch.folder(lake.state("plain")) as folder:
        try:
            each = [_mended(one, table, folder) for one in _unpacked(landed, folder)]
            elsewhere = {file.name: path for file, path in each if path.is_relative_to(folder)}
            yield replace(landed, files=tuple(file for file, _ in each), elsewhere=elsewhere)
        except DataRefused as refused:
            refused.found = refused.found.replace(str(folder), str(landed.folder))
            refused.where = refused.where.replace(str(folder), str(landed.folder))
            raise


def _unpacked(landed: Landed, folder: Path) -> Iterator[tuple[LandedFile, Path]]:
    for file, path in zip(landed.files, landed.paths, strict=True):
        if archives.is_packed(file.name):
            yield from archives.unpack(path, file, folder)
        else:
            yield file, path


def _may_need_mending(table: Table, file: LandedFile) -> bool:
    return table.format == "csv" and Dialect.of(table.options).may_be_misread(file)


def _mended(one: tuple[LandedFile, Path], table: Table, folder: Path) -> tuple[LandedFile, Path]:
    """A CSV file as Spark's parser reads it right."""
    file, path = one
    dialect = Dialect.of(table.options)
    if not _may_need_mending(table, file) or not any(misread := dialect.look(path)):
        return one
    mended = folder / file.name
    mended.parent.mkdir(parents=True, exist_ok=True)
    partial = mended.with_name(f"{mended.name}.partial")  # what is mended may itself lie there, unpacked
    dialect.mend(path, partial, misread)
    return replace(file, is_utf8=file.is_utf8 and not misread.has_nul), partial.replace(mended)
