"""Finds the snapshots of a folder and the tables in them: files whose names differ only in digits are one table."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from lakehouse.errors import ConfigError, DataRefused
from lakehouse.propose.names import to_snake_case, unique
from lakehouse.storage import archives
from lakehouse.storage.paths import source_folder_time

_FORMATS = {
    **dict.fromkeys([".csv", ".tsv", ".tab", ".psv", ".txt"], "csv"),
    **dict.fromkeys([".json", ".jsonl", ".ndjson"], "json"),
    **dict.fromkeys([".parquet", ".pq"], "parquet"),
}
# Dates and numbers in a name, such as 7, 2025-01-31 and 20250131_120000, and SP in a folder uf=SP.
_DIGITS = re.compile(r"(?<==)[^/=]+(?=/)|\d+(?:[-_.T]\d+)*")
_DATE = re.compile(r"(19|20)\d\d([-_.]?\d\d){1,2}([-_.T]?\d{2,6})*")
_PARTITION = re.compile(r"(?:^|/)([^/=]+)=[^/=]+(?=/)")
_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")
_MAX_FILES = 100_000
_MAX_WARNINGS = 20  # of the files of one snapshot that are passed over


@dataclass(frozen=True)
class SourceFile:
    """One file of a snapshot.

    Attributes:
        snapshot: The position of its snapshot, oldest first.
        name: Its path relative to the snapshot's folder.
        path: Where it is.
    """

    snapshot: int
    name: str
    path: Path


@dataclass(frozen=True)
class FileGroup:
    """The files of one table.

    Attributes:
        table: The table's name.
        pattern: The name or glob that finds them in a snapshot.
        format: csv, json or parquet.
        files: The files, by snapshot and name.
    """

    table: str
    pattern: str
    format: str
    files: tuple[SourceFile, ...]

    @property
    def snapshots(self) -> list[int]:
        """The positions of the snapshots that have a file of the table."""
        return sorted({file.snapshot for file in self.files})


@dataclass
class SourceFolder:
    """The content of a folder.

    Attributes:
        path: The folder.
        snapshots: The names of its snapshots, oldest first; one empty name if it has the files of one snapshot.
        files: All files that a table could be read from.
        warnings: The files that were passed over, and why.
    """

    path: Path
    snapshots: list[str] = field(default_factory=list)
    files: list[SourceFile] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_folder(path: Path) -> SourceFolder:
    """Return the snapshots and files of a folder.

    Args:
        path: A folder with the files of one snapshot, or with a folder per snapshot.

    Raises:
        ConfigError: The folder does not exist, contains no file of a known format, or has two folders of one time.
    """
    if not path.is_dir():
        raise ConfigError(
            f"the source {shown(str(path))} is {'a file' if path.exists() else 'not there'}",
            expected="a folder with the files of one snapshot, or with folders named YYYYMMDD_HHMMSS",
        )
    source = SourceFolder(path)
    folders = _snapshot_folders(source)
    source.snapshots = [folder.name for folder in folders] or [""]
    for number, folder in enumerate(folders or [path]):
        _add_files(source, number, folder, has_folders=bool(folders))
    _warn_of_other_layouts(source, has_folders=bool(folders))
    if not source.files:
        raise ConfigError(
            f"{shown(str(path))} contains no file that can be read",
            expected="files .csv, .tsv, .txt, .json, .jsonl or .parquet, or packed ones (.gz, .zip), also in folders"
            " named YYYYMMDD_HHMMSS, YYYYMMDD or YYYY-MM-DD, one per snapshot",
            where="; ".join(source.warnings[:5]),
        )
    return source


def shown(text: str, limit: int = 80) -> str:
    """Return foreign text for a message or a comment: one line without control characters, and not long.

    Args:
        text: Any text.
        limit: The most characters to return.
    """
    printable = "".join(char if char.isprintable() else "?" for char in text)
    return printable if len(printable) <= limit else f"{printable[: limit - 3]}..."


def format_of(path: Path) -> str | None:
    """Return the format of a file by its name, for a zip by the names inside; None if it is not known.

    Args:
        path: The file.

    Raises:
        DataRefused: It is a zip with too many names.
    """
    name = path.name.lower()
    if name.endswith(".zip"):
        inside = {_suffix_format(member) for member in archives.member_names(path)}
        return _suffix_format(name[: -len(".zip")]) or (inside.pop() if len(inside) == 1 else None)
    return _suffix_format(name.removesuffix(".gz"))


def _format_fault(path: Path) -> str:
    """Return why the format of a file is not known; "" if it is."""
    try:
        return "" if format_of(path) else "its name does not say csv, json or parquet"
    except DataRefused as refused:
        return shown(refused.found)


def group_files(source: SourceFolder, groups: list[list[SourceFile]]) -> list[FileGroup]:
    """Return the tables: a name and a pattern for each group of files.

    Args:
        source: The folder, with all its files.
        groups: The files of each table.
    """
    tables: list[FileGroup] = []
    for files in groups:
        table = unique(_table_name(files), [group.table for group in tables])
        formatted = format_of(files[0].path)
        assert formatted
        tables.append(FileGroup(table, _pattern(source, files), formatted, tuple(files)))
    return sorted(tables, key=lambda group: group.table)


def candidate_groups(files: list[SourceFile]) -> list[list[SourceFile]]:
    """Return the files whose names are equal without their digits and which have the same format.

    A folder inside a snapshot whose files are parts (part-00000-...), as Spark writes them, is one group.

    Args:
        files: The files of all snapshots.
    """
    groups: dict[tuple[str, str], list[SourceFile]] = defaultdict(list)
    for file in files:
        folder, _, name = file.name.rpartition("/")
        is_part = folder and name.startswith("part-")
        key = f"{_PARTITION.sub('', f'{folder}/')}part" if is_part else _without_digits(file.name)
        groups[key, format_of(file.path) or ""].append(file)
    return [sorted(group, key=lambda file: (file.snapshot, file.name)) for group in groups.values()]


def same_name_groups(files: list[SourceFile]) -> list[list[SourceFile]]:
    """Return the files of each name: the tables of a group whose files have different columns.

    Args:
        files: The files of a group.
    """
    groups: dict[str, list[SourceFile]] = defaultdict(list)
    for file in files:
        groups[file.name].append(file)
    return list(groups.values())


def _snapshot_folders(source: SourceFolder) -> list[Path]:
    folders: dict[datetime, Path] = {}
    others = []
    for path in sorted(source.path.iterdir(), key=os.fsencode):
        if not path.is_dir() or path.name.startswith((".", "_")):
            continue
        time = source_folder_time(path.name) if _is_text(path.name) else None
        if time is None:
            others.append(path)
        elif path.is_symlink():
            source.warnings.append(f"{path.name} is a symbolic link, which is not taken as a snapshot")
        elif time in folders:
            raise ConfigError(
                f"two folders of one time: {folders[time].name} and {path.name}",
                expected="one folder per snapshot",
                where=shown(str(source.path)),
            )
        else:
            folders[time] = path
    if folders:
        source.warnings += [
            f"the folder {shown(path.name)} is passed over: its name is not YYYYMMDD_HHMMSS, YYYYMMDD or YYYY-MM-DD"
            for path in others
        ]
    return [folders[time] for time in sorted(folders)]


def _add_files(source: SourceFolder, number: int, folder: Path, has_folders: bool) -> None:
    """Add the files of one snapshot, and warnings about those that cannot be read."""
    inside, warnings = folder.resolve(), []
    label = f"{folder.name}/" if has_folders else ""
    unreadable: list[OSError] = []
    for path in sorted(_walk(folder, unreadable.append), key=os.fsencode):
        name = path.relative_to(folder).as_posix()
        reason = ""
        if not _is_text(name):
            reason = "its name is not UTF-8"
        elif any(part.startswith((".", "_")) for part in Path(name).parts):
            continue
        elif not path.resolve().is_relative_to(inside):
            reason = "it is a link that leads out of the folder"
        elif not path.is_file():
            reason = "it is neither a file nor a folder" if path.exists() else "it is a link that leads nowhere"
        elif ":" in name or any(not char.isprintable() for char in name):
            reason = "Spark does not read files whose name has a colon or a control character"
        elif not os.access(path, os.R_OK):
            reason = "it may not be read"
        elif path.suffix.lower() in _SPREADSHEETS:
            reason = "it is a spreadsheet; save each of its sheets as CSV"
        else:
            reason = _format_fault(path)
        if reason:
            warnings.append(f"{label}{shown(name)} is passed over: {reason}")
        elif len(source.files) >= _MAX_FILES:
            raise ConfigError(f"{shown(str(source.path))} has more than {_MAX_FILES:,} files")
        else:
            source.files.append(SourceFile(number, name, path))
    warnings += [f"{shown(str(error.filename))} is passed over: {error.strerror}" for error in unreadable]
    source.warnings += warnings[:_MAX_WARNINGS]
    if len(warnings) > _MAX_WARNINGS:
        source.warnings.append(f"{label or 'in all, '}{len(warnings) - _MAX_WARNINGS:,} more files are passed over")


def _warn_of_other_layouts(source: SourceFolder, has_folders: bool) -> None:
    """Warn of files beside the folders of snapshots, and of folders that look like snapshots but have other names.

    Also of a git repository, whose commits may be the snapshots.
    """
    if (source.path / ".git").exists():
        source.warnings.append(
            "the folder is a git repository: a source of type git takes each of its commits as a snapshot"
        )
    if has_folders:
        beside = [path.name for path in source.path.iterdir() if path.is_file() and path.name[0] not in "._"]
        readable = sorted(name for name in beside if _is_text(name) and _suffix_format(name.removesuffix(".gz")))
        source.warnings += [f"{shown(name)} is passed over: it is in no folder of a snapshot" for name in readable]
        return
    names = Counter(Path(file.name).name for file in source.files if "/" in file.name)
    if again := [name for name, count in names.items() if count > 1]:
        source.warnings.append(
            f"several folders have a file {shown(again[0])}: if they are snapshots, name them YYYYMMDD_HHMMSS, in UTC"
        )


def _walk(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield the files of a folder and of the folders in it, and links to folders, which are not followed."""
    for root, folders, names in os.walk(folder, onerror=on_error):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        yield from (Path(root) / name for name in [*names, *links])


def _is_text(name: str) -> bool:
    """Return whether the bytes of a file's name are UTF-8."""
    return not any("\udc80" <= char <= "\udcff" for char in name)


def undated_pattern(files: Iterable[SourceFile]) -> str:
    """Return a glob in place of a name with a date, which the next snapshot may not have; "" without one.

    Args:
        files: The files of a table.
    """
    names = {file.name for file in files}
    name = names.pop()
    dates = [run for run in _DIGITS.findall(name) if _DATE.fullmatch(run)]
    return "" if names or len(dates) != 1 else glob.escape(name).replace(dates[0], "*")


def partition_names(files: Iterable[SourceFile]) -> list[str]:
    """Return `uf` for files such as vendas/uf=SP/0.csv: columns that are in the names of folders only.

    Args:
        files: The files of a table.
    """
    return list(dict.fromkeys(name for file in files for name in _PARTITION.findall(file.name)))


def _suffix_format(name: str) -> str | None:
    return _FORMATS.get(Path(name).suffix.lower())


def _without_digits(name: str) -> str:
    return _DIGITS.sub("#", name)


def _table_name(files: list[SourceFile]) -> str:
    """Return `clientes` for clientes.csv.gz and for clientes_2025-01-31.csv, the folder's name for its parts.

    It is `vendas` for vendas/uf=SP/0.csv and for vendas/2025/01.csv too.
    """
    folder, _, name = files[0].name.rpartition("/")
    stem = re.sub(r"(\.(csv|tsv|tab|psv|txt|json|jsonl|ndjson|parquet|pq|gz|zip))+$", "", name, flags=re.IGNORECASE)
    whole, without = _PARTITION.sub("", f"{folder}/").rstrip("/"), _DIGITS.sub(" ", stem)
    if whole != folder and whole:
        stem = whole
    elif len({file.name for file in files}) > 1:
        is_folder = folder and (name.startswith("part-") or not re.search("[A-Za-z]", without))
        stem = _DIGITS.sub(" ", folder).rstrip("/ ").rpartition("/")[2] if is_folder else without
    elif folder:
        stem = folder if stem.startswith("part-") else f"{folder} {stem}"
    return to_snake_case(stem, "table")


def _pattern(source: SourceFolder, files: list[SourceFile]) -> str:
    """Return the name of a table's files, or a glob that finds them and no other file of any snapshot."""
    names = {file.name for file in files}
    if len(names) == 1:
        return glob.escape(files[0].name)
    first = files[0].name
    folder, _, name = first.rpartition("/")
    if folder and name.startswith("part-"):
        return _PARTITION.sub(lambda found: found[0].rpartition("=")[0] + "=*", f"{glob.escape(folder)}/") + "part-*"
    # Runs of digits that are equal in all names stay.
    runs = [_DIGITS.findall(each) for each in names]
    varies = [len(set(column)) > 1 for column in zip(*runs, strict=True)]
    texts = _DIGITS.split(first)
    others = {file.name for file in source.files} - names
    pattern = ""
    for wildcard in ("*", "[0-9]*"):
        pattern = glob.escape(texts[0])
        for run, is_varying, text in zip(_DIGITS.findall(first), varies, texts[1:], strict=True):
            pattern += (wildcard if is_varying else run) + glob.escape(text)
        if not any(Path(other).match(pattern) for other in others):
            break
    return pattern
