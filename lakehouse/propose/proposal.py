"""Proposes the tables of a folder: for each, its files, options, types and key, or the reason why there is none."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from lakehouse.errors import InfrastructureError
from lakehouse.propose import parquet_types
from lakehouse.propose.keys import Key, KeyColumn, find_key, key_sql, rank_column
from lakehouse.propose.load import LoadedTable, ReadableFile, load_table, read_column_names, unpack
from lakehouse.propose.names import column_names, to_snake_case, unique
from lakehouse.propose.signs import UnusableFile
from lakehouse.propose.sources import (
    FileGroup,
    SourceFile,
    SourceFolder,
    candidate_groups,
    group_files,
    partition_names,
    read_folder,
    same_name_groups,
    shown,
    undated_pattern,
)
from lakehouse.propose.texts import ColumnType, TableTypes
from lakehouse.propose.types import choose_types
from lakehouse.propose.words import UPDATE_WORDS

_MIN_COMMON_COLUMNS = 0.6  # of two files whose names differ only in digits, to be one table
_MAX_SINGLE_FILES = 20
_NO_KEY = "no usable key"
_TOO_DEEP = "its values are nested more deeply than can be read"
_NO_TABLES: Mapping[str, Sequence[str]] = {}


@dataclass
class ProposedColumn:
    """One column of a table.

    Attributes:
        name: Its name in the lake.
        in_files: Its name in the files.
        type: Its Spark type.
        notes: The doubts, and why.
    """

    name: str
    in_files: str
    type: str
    notes: list[str] = field(default_factory=list)


@dataclass
class ProposedTable:
    """One table, as it is written to pipeline.yml.

    Attributes:
        name: The table's name.
        file: The name or glob of its files.
        format: csv, json or parquet.
        options: Reader options that differ from the defaults.
        records: JSON: the path to the array of records inside the document; "" if the records are at the top.
        skip_lines: CSV: the number of lines before the header.
        columns: The columns.
        keys: The key, by names of the lake; empty if there is none.
        updated_at: The column for `duplicates: latest`; "" if it is not needed.
        stable: The share of a snapshot's keys that the next one has.
        rows: The number of rows in each snapshot; None where the file is missing.
        notes: The doubts, and why.
        problem: Why the table is written as a comment; "" if it is not.
        zone: The time zone that the instants in its files show; "" if there is no evidence.
    """

    name: str
    file: str
    format: str
    options: dict[str, str] = field(default_factory=dict)
    records: str = ""
    skip_lines: int = 0
    columns: list[ProposedColumn] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    updated_at: str = ""
    stable: float | None = None
    rows: list[int | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: str = ""
    zone: str = ""

    @property
    def names(self) -> dict[str, str]:
        """The columns with another name in the files, each with that name."""
        return {column.name: column.in_files for column in self.columns if column.name != column.in_files}


@dataclass
class Proposal:
    """The findings of `init` in a folder.

    Attributes:
        source: The folder.
        snapshots: The names of the snapshots, oldest first.
        tables: The tables, by name.
        warnings: The files that were passed over, and why.
    """

    source: SourceFolder
    snapshots: list[str]
    tables: list[ProposedTable]
    warnings: list[str]

    @property
    def zone(self) -> str:
        """The time zone that the files show, or ""."""
        return next((table.zone for table in self.tables if table.zone), "")


def propose_tables(
    source: Path,
    keys: Mapping[str, Sequence[str]] = _NO_TABLES,
    on_table: Callable[[str], None] = lambda name: None,
) -> Proposal:
    """Return the tables that a folder's files can be read as.

    Args:
        source: A folder with the files of one snapshot, or with a folder per snapshot.
        keys: Keys to try first, by table, from an existing configuration.
        on_table: Called with the name of each table before its files are read.

    Raises:
        ConfigError: The folder does not exist, or has no file of a known format.
    """
    folder = read_folder(source)
    with tempfile.TemporaryDirectory(prefix="lakehouse-init-") as name:
        scratch = Path(name)
        groups = group_files(folder, list(_split_groups(folder.files, scratch)))
        tables: list[ProposedTable] = []
        for number, group in enumerate(groups):
            on_table(group.table)
            try:
                proposed = _propose_group(folder, group, scratch / str(number), keys.get(group.table, ()))
            except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
                raise InfrastructureError(
                    f"{group.table} does not fit into memory and the temporary folder: {shown(str(error))}",
                    where=tempfile.gettempdir(),
                    next_step="set TMPDIR to a folder with enough disk space, about as much as the files have",
                ) from error
            for table in proposed:
                table.name = unique(table.name, [other.name for other in tables])
                tables.append(table)
    return Proposal(folder, folder.snapshots, tables, folder.warnings)


def _split_groups(files: list[SourceFile], scratch: Path) -> Iterable[list[SourceFile]]:
    """Yield the files of each table: names that differ only in digits are one table if their columns are equal."""
    for number, files_of_group in enumerate(candidate_groups(files)):
        by_name = same_name_groups(files_of_group)
        if len(by_name) == 1:
            yield files_of_group
            continue
        format_name = group_files(SourceFolder(Path()), [files_of_group])[0].format
        newest = [group[-1] for group in by_name]
        try:
            names = read_column_names(format_name, unpack(newest, scratch / f"names{number}"))
        except UnusableFile:
            names = []
        if _have_common_columns(names):
            yield files_of_group
        else:
            yield from by_name


def _propose_group(
    folder: SourceFolder, group: FileGroup, scratch: Path, preferred: Sequence[str]
) -> list[ProposedTable]:
    """Return the table of a group of files; if together they have no key, a table for each name."""
    together = _propose(folder, group, scratch, preferred)
    by_name = same_name_groups(list(group.files))
    if not together.problem.startswith(_NO_KEY) or not 1 < len(by_name) <= _MAX_SINGLE_FILES:
        return [together]
    singles = [
        _propose(folder, each, scratch.with_name(f"{scratch.name}-{number}"), preferred)
        for number, each in enumerate(group_files(folder, by_name))
    ]
    if any(single.problem for single in singles):
        return [together]
    for single in singles:
        single.notes.append(
            f"files: {group.pattern} as one table has no key, so that each file is a table of its own; if they are"
            " snapshots of one table, move each into a folder named by its time, such as 20250131_180000"
        )
    return singles


def _propose(folder: SourceFolder, group: FileGroup, scratch: Path, preferred: Sequence[str]) -> ProposedTable:
    """Return the proposal for the files of one table."""
    proposed = ProposedTable(group.table, group.pattern, group.format)
    _note_missing_files(folder, group, proposed)
    if len(folder.snapshots) == 1 and (pattern := undated_pattern(group.files)):
        proposed.notes.append(f"file: its name has a date; if the next snapshot has another one, write `{pattern}`")
    if partitions := partition_names(group.files):
        proposed.notes.append(
            f"files: {shown(', '.join(partitions))} is in the names of folders only, and is no column of the rows"
        )
    try:
        scratch.mkdir()
        files = unpack(group.files, scratch)
        _require_one_table_per_archive(group, files)
        loaded = load_table(group, files, scratch / "rows")
    except UnusableFile as unusable:
        proposed.problem = str(unusable)
        return proposed
    except RecursionError:
        proposed.problem = _TOO_DEEP
        return proposed
    try:
        _describe(folder, loaded, proposed, preferred)
    except RecursionError:
        proposed.problem = _TOO_DEEP
    finally:
        loaded.duck.close()
        for file in files:
            if file.path.is_relative_to(scratch):
                file.path.unlink()
        for database in (scratch / "rows").glob("*.duckdb*"):
            database.unlink()
    return proposed


def _require_one_table_per_archive(group: FileGroup, files: list[ReadableFile]) -> None:
    """Raise if an archive contains files with different columns: all files of an archive are rows of one table."""
    for archive in {file.source for file in files}:
        inside = [file for file in files if file.source == archive]
        names = read_column_names(group.format, inside) if len(inside) > 1 else []
        if not _have_common_columns(names):
            raise UnusableFile(
                f"the files in {shown(archive.name)} have different columns, and all files of an archive are read as"
                " one table: unpack it into the snapshot's folder"
            )


def _have_common_columns(names: Iterable[frozenset[str]]) -> bool:
    """Return whether files with these columns can be one table."""
    different = {each for each in names if each}
    return all(len(a & b) >= _MIN_COMMON_COLUMNS * len(a | b) for a in different for b in different)


def _describe(folder: SourceFolder, loaded: LoadedTable, proposed: ProposedTable, preferred: Sequence[str]) -> None:
    """Set the options, columns and key of a table from its rows."""
    counts = loaded.row_counts()
    proposed.rows = [counts.get(n) for n in range(len(folder.snapshots))]
    types = _parquet_types(loaded) if proposed.format == "parquet" else choose_types(loaded, proposed.format == "csv")
    proposed.options, proposed.records = loaded.options | types.options, loaded.records
    proposed.skip_lines = loaded.skip_lines
    proposed.notes += dict.fromkeys([*loaded.notes, *types.notes])  # each file of a table may have the same note
    proposed.zone = types.zone
    kept = _declared_columns(loaded, types, proposed)
    lake_names = column_names([column.name for column in kept])
    if proposed.options.get("header") == "false":
        lake_names = {column.name: column.name for column in kept}
    proposed.columns = [ProposedColumn(lake_names[c.name], c.name, c.type, c.notes) for c in kept]
    if foreign := _foreign_columns(loaded):
        proposed.problem = foreign
        return
    key = _find_key(loaded, types, kept, proposed, preferred)
    proposed.keys = [lake_names[name] for name in key.columns]
    proposed.updated_at = lake_names.get(key.updated_at, "")
    proposed.stable = key.stable
    if key.columns:
        proposed.notes += key.notes
    else:
        proposed.problem = f"{_NO_KEY}: {'; '.join(key.notes)}"


def _foreign_columns(loaded: LoadedTable) -> str:
    """Return that a snapshot has no column of the newest one, as with another separator; "" if each has one."""
    newest = loaded.columns_by_snapshot.get(loaded.snapshots[-1], set())
    for names in loaded.columns_by_snapshot.values():
        if newest and not names & newest:
            return (
                f"a snapshot has the columns {shown(', '.join(sorted(names)))}, and the newest one"
                f" {shown(', '.join(sorted(newest)))}: another separator, or another table?"
            )
    return ""


def _find_key(
    loaded: LoadedTable,
    types: TableTypes,
    kept: Sequence[ColumnType],
    proposed: ProposedTable,
    preferred: Sequence[str],
) -> Key:
    """Return the key, which is compared by the values of the types."""
    is_text = proposed.format != "parquet"

    def sql(column: ColumnType) -> str:
        return key_sql(loaded.column(column.name), column.type, column.forms, types.day_first, is_text)

    candidates = []
    wanted = {name.lower() for name in preferred}
    for position, column in enumerate(kept):
        rank = rank_column(proposed.name, column.name, column.type, position)
        rank = 0 if column.name.lower() in wanted else rank
        if rank is not None and column.name not in loaded.nested:
            candidates.append(KeyColumn(column.name, sql(column), rank))
    updated_at = [
        KeyColumn(column.name, sql(column), 0)
        for column in kept
        if column.type == "TIMESTAMP" and set(to_snake_case(column.name).split("_")) & UPDATE_WORDS
    ]
    names = [column.name for column in candidates if column.name.lower() in wanted]
    return find_key(loaded, candidates, updated_at, names if len(names) == len(wanted) else ())


def _declared_columns(loaded: LoadedTable, types: TableTypes, proposed: ProposedTable) -> list[ColumnType]:
    """Return the columns that the schema can name; a note lists the others."""
    kept = []
    for column in types.columns:
        if column.type:
            kept.append(column)
        else:
            proposed.notes.append(f"{shown(column.name)} is left out: {'; '.join(column.notes)}")
    absent = loaded.absent_columns()
    newest = loaded.snapshots[-1]
    for column in list(kept):
        without = absent.get(column.name.lower(), [])
        if newest in without:
            kept.remove(column)
            proposed.notes.append(f"{shown(column.name)} is left out: the newest snapshot does not have it")
        elif without:
            column.notes.append("some older snapshots lack it")
    return kept


def _parquet_types(loaded: LoadedTable) -> TableTypes:
    """Return the types of Parquet columns, from the footers of the files."""
    types = TableTypes()
    for name, natives in loaded.native.items():
        column = ColumnType(name, parquet_types.common_type(natives) or "")
        if not column.type:
            found = ", ".join(sorted({str(native) for native in natives}))
            column.notes.append(f"no type of Spark's schema holds {shown(found)}")
        elif any("[ns" in str(native) for native in natives):
            column.notes.append("nanoseconds in the file; rows with a part of a microsecond go to quarantine")
        types.columns.append(column)
    return types


def _note_missing_files(folder: SourceFolder, group: FileGroup, proposed: ProposedTable) -> None:
    """Note the snapshots that have no file of a table: `run` rejects them for this table."""
    missing = [folder.snapshots[n] for n in range(len(folder.snapshots)) if n not in group.snapshots]
    if missing:
        named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        proposed.notes.append(
            f"files: none in {named}; `run` rejects a snapshot without the table's file (exit code 5, reported once)"
        )
