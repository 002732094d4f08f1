"""A source of type `files`: a folder with the files of one snapshot, or with a folder per snapshot."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path

from lakehouse.config import Files, Pipeline, Table
from lakehouse.errors import ConfigError
from lakehouse.extract import source
from lakehouse.extract.source import SourceSnapshot
from lakehouse.storage import landing
from lakehouse.storage.paths import snapshot_time


def list_snapshots(pipeline: Pipeline) -> tuple[SourceSnapshot, ...]:
    """The folders that name their time, oldest first; without one the source's folder itself is the snapshot.

    Raises:
        ConfigError: the source's folder is not there.
    """
    root = _source_folder(pipeline)
    files = partial(_table_files, pipeline.tables)
    dated = tuple(SourceSnapshot(time, partial(files, folder)) for time, folder in _snapshot_folders(root))
    return dated or (SourceSnapshot(None, partial(files, root)),)


def signature(pipeline: Pipeline) -> dict[str, str]:
    """A signature per file of the source, from metadata alone: equal means nothing new to land.

    A snapshot's folder counts by itself: without any file it is a snapshot that lacks every table's.
    """
    root = _source_folder(pipeline)
    dated = [folder for _, folder in _snapshot_folders(root)]
    files = (
        f for folder in dated or [root] for table in pipeline.tables.values() for f in matching_files(folder, table)
    )
    return {f"{folder.name}/": "" for folder in dated} | {
        file.relative_to(root).as_posix(): landing.file_signature(file) for file in files
    }


def matching_files(folder: Path, table: Table) -> list[Path]:
    """The files of `table` in one snapshot's folder, by name or glob; never one from outside it."""
    inside = folder.resolve()
    return sorted(p for p in folder.glob(table.file) if p.is_file() and p.resolve().is_relative_to(inside))


def _table_files(tables: dict[str, Table], folder: Path, name: str) -> source.TableFiles:
    return folder, matching_files(folder, tables[name])


def _snapshot_folders(root: Path) -> list[tuple[datetime, Path]]:
    """The snapshot folders of a source, oldest first; empty if `root` holds the files themselves."""
    found = [(time, p) for p in root.iterdir() if p.is_dir() and (time := snapshot_time(p.name))]
    return sorted(found)


def _source_folder(pipeline: Pipeline) -> Path:
    assert isinstance(pipeline.source, Files)
    root = Path(pipeline.source.path)
    if not root.is_dir():
        raise ConfigError(
            f"the source folder {root} is not there" if not root.exists() else f"the source {root} is a file",
            expected="a folder with the files of one snapshot, or with folders named YYYYMMDD_HHMMSS",
            where=f"{pipeline.path}: source.path",
            next_step="mend source.path, or mount what it names",
        )
    return root
