"""Prepares the files of a landed snapshot: unpacks them, leaves out what is no data, rewrites what Spark would misread.

Landing keeps the bytes as received. Prepared files are written to a temporary folder below `_state/plain/`, one per
reading, and are deleted after it. If a reading is killed, the next one, of any table, deletes its folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.storage import archives, csv_body, file_io, int96, json_records
from lakehouse.storage.csv_body import CutLines
from lakehouse.storage.csv_dialect import Dialect
from lakehouse.storage.file_io import SharedTempDir, StorePath
from lakehouse.storage.landing import LandedFile, LandedSnapshot
from lakehouse.storage.paths import Lake


@contextmanager
def readable_snapshot(lake: Lake, table: Table, snapshot: LandedSnapshot) -> Iterator[LandedSnapshot]:
    """Yield a landed snapshot all of whose files Spark reads correctly; its rows can be read inside the block only.

    Args:
        lake: The lake, for the temporary folder.
        table: The table's configuration.
        snapshot: The snapshot as landed.

    Raises:
        DataRefused: A packed file is damaged or unsafe. Errors raised inside the block name the file as received.
    """
    received = dict(zip(snapshot.files, snapshot.paths, strict=True))
    if not any(archives.is_packed(f.name) or _may_need_rewrite(table, f, path) for f, path in received.items()):
        yield snapshot
        return
    with file_io.shared_temp_dir(lake.state_path("plain"), lake.local_path("plain")) as scratch:
        try:
            prepared: list[tuple[LandedFile, StorePath]] = []
            for file, path in received.items():
                parts: Iterable[tuple[LandedFile, StorePath]] = [(file, path)]
                if archives.is_packed(file.name):
                    parts = archives.unpack(scratch.local_copy(path, file.name), file, scratch.local)
                prepared += [_prepare_file(part, table, scratch) for part in parts]
            prepared_paths = {file.name: path for file, path in prepared if path is not received.get(file)}
            yield replace(snapshot, files=tuple(file for file, _ in prepared), prepared_paths=prepared_paths)
        except DataRefused as refused:
            refused.found = scratch.with_received_names(refused.found, str(snapshot.folder))
            refused.where = scratch.with_received_names(refused.where, str(snapshot.folder))
            raise


def cut_lines(table: Table) -> CutLines | None:
    """Return the lines of a table's CSV files that are no data; None if there are none.

    Args:
        table: The table's configuration.
    """
    lines = CutLines(table.skip_lines, table.skip_footer)
    return lines if table.format == "csv" and any(lines) else None


def _may_need_rewrite(table: Table, file: LandedFile, path: StorePath) -> bool:
    if table.format == "parquet":
        return int96.has_int96(path)
    if _is_cut(table, file):
        return True
    return table.format == "csv" and Dialect.from_options(table.options).may_need_rewrite(file)


def _is_cut(table: Table, file: LandedFile) -> bool:
    """Return whether parts of a file are no data; an empty file of a feed is a batch without events."""
    has_parts = cut_lines(table) is not None or (bool(table.records) and file.is_utf8)  # other JSON is refused
    return has_parts and (file.size > 0 or table.feed is None)


def _cut_file(table: Table, file: LandedFile, path: StorePath, copy: Path) -> tuple[LandedFile, Path]:
    """Copy the records of a file, which are on the same lines in the copy."""
    with _replacing(copy) as partial:
        if (lines := cut_lines(table)) is None:
            json_records.copy_records(path, partial, table.record_names, shows_names=not table.pii)
            return file, copy
        dialect = Dialect.from_options(table.options)
        body = csv_body.copy_with_empty_head(path, partial, dialect, lines)
    is_utf8 = file.is_utf8 or (dialect.is_utf8 and body.is_decodable)
    return replace(file, has_quote=body.has_quote, is_utf8=is_utf8), copy


@contextmanager
def _replacing(copy: Path) -> Iterator[Path]:
    """Yield a path to write that becomes `copy` at the end: the original may itself be there, unpacked."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    partial = copy.with_name(f"{copy.name}.partial")
    yield partial
    partial.replace(copy)


def _prepare_file(
    one: tuple[LandedFile, StorePath], table: Table, scratch: SharedTempDir
) -> tuple[LandedFile, StorePath]:
    """Return a file where executors can read it, in a form that Spark reads correctly."""
    file, path = one
    dialect = Dialect.from_options(table.options)
    if _may_need_rewrite(table, file, path):
        path = scratch.with_local_copy(path, file.name)  # it is read several times from here on
        if table.format == "parquet":
            copy = scratch.local / f"{file.name}.text.parquet"
            copy.parent.mkdir(parents=True, exist_ok=True)
            path = copy if int96.rewrite(path, copy) else path
        elif _is_cut(table, file):
            file, path = _cut_file(table, file, path, scratch.local / file.name)
        if table.format == "csv" and dialect.may_need_rewrite(file) and any(reasons := dialect.rewrite_reasons(path)):
            copy = scratch.local / dialect.rewrite_folder / file.name
            with _replacing(copy) as partial:
                dialect.rewrite(path, partial, reasons)
            path, file = copy, replace(file, is_utf8=file.is_utf8 and not reasons.has_nul)
    return file, scratch.executor_path(path) if isinstance(path, Path) and path.is_relative_to(scratch.local) else path
