"""Lists the snapshots of a source of type `files`: a folder with the files of one, or with a folder per snapshot."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from pathlib import Path

from lakehouse.config import Files, Pipeline, Table
from lakehouse.errors import ConfigError
from lakehouse.extract.source import SourceSnapshot, TableFiles
from lakehouse.storage import landing
from lakehouse.storage.paths import source_folder_time
from lakehouse.text import visible

_NAMES = "YYYYMMDD_HHMMSS, YYYYMMDD or YYYY-MM-DD (its time in UTC)"
_SHOWN_NAMES = 5  # of folders that are passed over


def snapshot_places(pipeline: Pipeline) -> list[tuple[datetime | None, Path]]:
    """Return a folder per snapshot that is named by a time, oldest first; without one, the source's folder is the only.

    A link is no folder of the source: it can lead to files that were never meant for it.

    Args:
        pipeline: A pipeline with a source of type `files`.

    Returns:
        The time of each snapshot, None for the source's folder; and its folder.

    Raises:
        ConfigError: The source's folder does not exist, has two folders of one time, or has no snapshot at all.
    """
    root = _source_folder(pipeline)
    folders = _snapshot_folders(root)
    _require_one_folder_per_time(folders)
    if folders:
        return [*folders]
    _require_files(pipeline, root)
    return [(None, root)]


def to_snapshots(pipeline: Pipeline, places: Iterable[tuple[datetime | None, Path]]) -> tuple[SourceSnapshot, ...]:
    """Return the snapshots in folders.

    Args:
        pipeline: A pipeline with a source of type `files`.
        places: The time and the folder of each.
    """

    def fetch_from(folder: Path) -> Callable[[str], TableFiles]:
        return lambda table: find_table_files(folder, pipeline.tables[table], marker_of(pipeline))

    return tuple(SourceSnapshot(time, fetch_from(folder)) for time, folder in places)


def marker_of(pipeline: Pipeline) -> str | None:
    """Return the name or glob of the files that mark a complete snapshot; None if there are none."""
    ready = pipeline.source.ready if isinstance(pipeline.source, Files) else None
    return ready.file if ready else None


def signature(pipeline: Pipeline, waiting: Collection[Path] = ()) -> dict[str, str]:
    """Return a signature for each file of the source, from metadata alone; equal means nothing new to land.

    A snapshot's folder has its own entry, because even without files it is a snapshot, one that lacks every table.

    Args:
        pipeline: A pipeline with a source of type `files`.
        waiting: Folders that are not to be taken yet, whose files do not matter.

    Raises:
        ConfigError: The source's folder does not exist.
    """
    root = _source_folder(pipeline)
    dated, not_taken = [folder for _, folder in _snapshot_folders(root)], _snapshot_links(root)
    not_taken += _other_folders(pipeline, root, dated)
    taken = [folder for folder in dated or [root] if folder not in waiting]
    files = [file for folder in taken for file in all_table_files(pipeline, folder)]
    # What is not taken has an entry too, so that a run reports it.
    return (
        {f"{folder.name}/": "" for folder in dated if folder not in waiting}
        | {f"{path.name}@": "" for path in [*not_taken, *waiting]}
        | {file.relative_to(root).as_posix(): landing.file_signature(file) for file in files}
    )


def find_table_files(folder: Path, table: Table, marker: str | None = None) -> TableFiles:
    """Return the files of a table in a snapshot's folder, by name or glob; never a file outside the folder.

    If `file` has columns, a file whose name does not give them is not the table's.

    Args:
        folder: The folder of one snapshot.
        table: The table's configuration.
        marker: The name or glob of files that belong to no table.
    """
    inside, pattern = folder.resolve(), table.file_pattern
    markers = set(folder.glob(marker) if marker else ())
    found = [p for p in folder.glob(pattern.glob) if p not in markers and p.resolve().is_relative_to(inside)]
    if pattern.columns:
        found = [p for p in found if pattern.values(p.relative_to(folder).as_posix()) is not None]
    if correction := table.correction_pattern:
        of_snapshot = (p for p in folder.glob(correction.glob) if p.resolve().is_relative_to(inside))
        found = [*{*found, *of_snapshot}]
    paths = sorted(p for p in found if p.is_file())
    folders = sorted(p for p in found if p.is_dir())
    return TableFiles(folder, paths, "" if paths or not folders else _folder_hint(folder, folders[0]))


def all_table_files(pipeline: Pipeline, folder: Path) -> list[Path]:
    """Return the files of all tables in a snapshot's folder; one that several tables read occurs several times."""
    tables, marker = pipeline.tables.values(), marker_of(pipeline)
    return [file for table in tables for file in find_table_files(folder, table, marker).paths]


def _folder_hint(snapshot: Path, folder: Path) -> str:
    """Return that a pattern matches a folder, as Spark and other writers make one, and the pattern of its files."""
    name = folder.relative_to(snapshot).as_posix()
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith((".", "_"))]
    if not files:
        return f"{name} is an empty folder"
    suffixes = {"".join(p.suffixes[-2:]) if p.suffix in (".gz", ".zip") else p.suffix for p in files}
    below = "*" if all(p.parent == folder for p in files) else "**/*"
    pattern = f"{name}/{below}{suffixes.pop() if len(suffixes) == 1 else ''}"
    return f"{name} is a folder with {files[0].name}; write `file: {json.dumps(pattern, ensure_ascii=False)}`"


def _snapshot_folders(root: Path) -> list[tuple[datetime, Path]]:
    """Return the snapshot folders of a source, oldest first; none if `root` contains the files themselves."""
    folders = (p for p in root.iterdir() if p.is_dir() and not p.is_symlink())
    return sorted((time, p) for p in folders if (time := source_folder_time(p.name)))


def _snapshot_links(root: Path) -> list[Path]:
    """Return the links of a source that are named like a snapshot."""
    return sorted(p for p in root.iterdir() if p.is_symlink() and source_folder_time(p.name))


def _other_folders(pipeline: Pipeline, root: Path, dated: list[Path]) -> list[Path]:
    """Return the folders of a source that are no snapshots and, without snapshots, hold no file of a table.

    One whose name begins with `.` or `_` is meant to be passed over.
    """
    named = {folder.name for folder in dated}
    others = [p for p in root.iterdir() if p.is_dir() and not p.is_symlink() and p.name not in named]
    used: set[str] = set()
    if not dated:
        used = {file.relative_to(root).parts[0] for file in all_table_files(pipeline, root)}
    return sorted(p for p in others if not p.name.startswith((".", "_")) and p.name not in used)


def warnings(pipeline: Pipeline) -> tuple[str, ...]:
    """Return a warning for each link that is named like a snapshot, and one for the folders with other names.

    None of them was taken.

    Args:
        pipeline: A pipeline with a source of type `files`.
    """
    root = _source_folder(pipeline)
    links = [
        f"{visible(str(link))} is a symbolic link and was not taken: deliver the folder itself, or a copy of it"
        for link in _snapshot_links(root)
    ]
    others = [
        visible(p.name) for p in _other_folders(pipeline, root, [folder for _, folder in _snapshot_folders(root)])
    ]
    if not others:
        return tuple(links)
    names = ", ".join(others[:_SHOWN_NAMES])
    more = f" and {len(others) - _SHOWN_NAMES} more" if len(others) > _SHOWN_NAMES else ""
    other = f"{visible(str(root))}: passed over, because its name is no time: {names}{more}"
    return (*links, f"{other}; the folder of a snapshot is called {_NAMES}")


def _require_one_folder_per_time(folders: list[tuple[datetime, Path]]) -> None:
    """Raise if two folders are called by the same time: which of them is the snapshot is not known."""
    by_time: dict[datetime, list[str]] = {}
    for time, folder in folders:
        by_time.setdefault(time, []).append(folder.name)
    if double := [" and ".join(sorted(names)) for names in by_time.values() if len(names) > 1]:
        raise ConfigError(
            f"two folders of one time: {'; '.join(double)}",
            expected="one folder for the snapshot of a time",
            where=str(folders[0][1].parent),
            next_step="remove one of them, or give it the time at which its files were taken",
        )


def _require_files(pipeline: Pipeline, root: Path) -> None:
    """Raise if a source without snapshot folders has no file of any table: an empty snapshot would be recorded."""
    marker, tables = marker_of(pipeline), pipeline.tables.values()
    if any(found.paths or found.hint for table in tables for found in [find_table_files(root, table, marker)]):
        return
    files = ", ".join(dict.fromkeys(visible(table.file) for table in pipeline.tables.values()))
    raise ConfigError(
        "\n".join(
            [f"{root} has no snapshot: no folder that is called by a time, and no file {files}", *warnings(pipeline)]
        ),
        expected=f"the files of the tables, or a folder for each snapshot, called {_NAMES}",
        where=f"{pipeline.path}: source.path",
        next_step="rename the folders, or correct source.path or `file`",
    )


def _source_folder(pipeline: Pipeline) -> Path:
    root = pipeline.source_folder
    if not root.is_dir():
        raise ConfigError(
            f"the source {root} is a file" if root.exists() else f"the source folder {root} does not exist",
            expected="a folder with the files of one snapshot, or with folders named YYYYMMDD_HHMMSS",
            where=f"{pipeline.path}: source.path",
            next_step="correct source.path, or mount the folder",
        )
    return root
