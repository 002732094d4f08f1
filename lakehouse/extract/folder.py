"""Lists the snapshots of a source of type `files`: a folder with the files of one, or with a folder per snapshot."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from lakehouse.config import Files, Pipeline, Table
from lakehouse.errors import ConfigError
from lakehouse.extract.source import SourceSnapshot, TableFiles
from lakehouse.storage import landing
from lakehouse.storage.paths import source_folder_time


def list_snapshots(pipeline: Pipeline) -> tuple[SourceSnapshot, ...]:
    """Return a snapshot per folder that is named by a time, oldest first; without one, the source's folder is the only.

    A link is no folder of the source: it can lead to files that were never meant for it.

    Args:
        pipeline: A pipeline with a source of type `files`.

    Raises:
        ConfigError: The source's folder does not exist.
    """

    def fetch_from(folder: Path) -> Callable[[str], TableFiles]:
        return lambda table: find_table_files(folder, pipeline.tables[table])

    root = _source_folder(pipeline)
    dated = tuple(SourceSnapshot(time, fetch_from(folder)) for time, folder in _snapshot_folders(root))
    return dated or (SourceSnapshot(None, fetch_from(root)),)


def signature(pipeline: Pipeline) -> dict[str, str]:
    """Return a signature for each file of the source, from metadata alone; equal means nothing new to land.

    A snapshot's folder has its own entry, because even without files it is a snapshot, one that lacks every table.

    Args:
        pipeline: A pipeline with a source of type `files`.

    Raises:
        ConfigError: The source's folder does not exist.
    """
    root = _source_folder(pipeline)
    dated, links = [folder for _, folder in _snapshot_folders(root)], _snapshot_links(root)
    tables = pipeline.tables.values()
    files = [file for folder in dated or [root] for table in tables for file in find_table_files(folder, table).paths]
    # A new link has an entry too, so that a run reports it.
    return (
        {f"{folder.name}/": "" for folder in dated}
        | {f"{link.name}@": "" for link in links}
        | {file.relative_to(root).as_posix(): landing.file_signature(file) for file in files}
    )


def find_table_files(folder: Path, table: Table) -> TableFiles:
    """Return the files of a table in a snapshot's folder, by name or glob; never a file outside the folder.

    Args:
        folder: The folder of one snapshot.
        table: The table's configuration.
    """
    inside = folder.resolve()
    paths = (p for p in folder.glob(table.file) if p.is_file() and p.resolve().is_relative_to(inside))
    return TableFiles(folder, sorted(paths))


def _snapshot_folders(root: Path) -> list[tuple[datetime, Path]]:
    """Return the snapshot folders of a source, oldest first; none if `root` contains the files themselves."""
    folders = (p for p in root.iterdir() if p.is_dir() and not p.is_symlink())
    return sorted((time, p) for p in folders if (time := source_folder_time(p.name)))


def _snapshot_links(root: Path) -> list[Path]:
    """Return the links of a source that are named like a snapshot."""
    return sorted(p for p in root.iterdir() if p.is_symlink() and source_folder_time(p.name))


def link_warnings(pipeline: Pipeline) -> tuple[str, ...]:
    """Return a warning for each link that is named like a snapshot, and was not taken.

    Args:
        pipeline: A pipeline with a source of type `files`.
    """
    return tuple(
        f"{link} is a symbolic link and was not taken: deliver the folder itself, or a copy of it"
        for link in _snapshot_links(_source_folder(pipeline))
    )


def _source_folder(pipeline: Pipeline) -> Path:
    assert isinstance(pipeline.source, Files)
    root = Path(pipeline.source.path)
    if not root.is_dir():
        raise ConfigError(
            f"the source {root} is a file" if root.exists() else f"the source folder {root} does not exist",
            expected="a folder with the files of one snapshot, or with folders named YYYYMMDD_HHMMSS",
            where=f"{pipeline.path}: source.path",
            next_step="correct source.path, or mount the folder",
        )
    return root
