"""Loads the files of a table into DuckDB, every field as text; Parquet keeps its types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.config.reading import format_path
from lakehouse.errors import DataRefused
from lakehouse.propose.dialect import DetectedDialect, detect_dialect, transcode
from lakehouse.propose.json_files import find_records, json_objects, json_text
from lakehouse.propose.nested import Number, merge_shapes, value_shape
from lakehouse.propose.parquet_types import duck_type
from lakehouse.propose.signs import UnusableFile
from lakehouse.propose.sources import FileGroup, SourceFile, shown
from lakehouse.storage import archives, csv_body, landing
from lakehouse.storage.csv_dialect import Dialect
from lakehouse.storage.landing import LandedFile
from lakehouse.storage.row_sizes import parquet_batch_rows

_BATCH_ROWS = 20_000
_MEMORY_LIMIT = "1GB"
_MAX_NOTED_ROWS = 3
_MAX_COLUMNS = 2_000  # DuckDB needs memory for each of them


@dataclass(frozen=True)
class ReadableFile:
    """A file, unpacked.

    Attributes:
        source: The file of the source that it is or comes from.
        path: Where it can be read.
    """

    source: SourceFile
    path: Path


@dataclass
class LoadedTable:
    """The rows of a table's snapshots in DuckDB.

    Attributes:
        duck: The connection; the rows are in its table `source_rows`, with a column `snapshot`, and a column c0, c1,
            ... for each of `columns`.
        columns: The names of the columns in the files, as the newest file spells them.
        options: Reader options that differ from the defaults.
        records: JSON: the path to the array of records inside each document; "" if the records are at the top.
        skip_lines: CSV: the number of lines before the header.
        snapshots: The positions of the snapshots with a file.
        notes: The doubts, and why.
        native: Parquet: the type of each column in each file.
        nested: JSON: the values that are arrays or objects, by column.
        is_number: JSON: the columns with numbers or booleans that are not in quotes.
        is_quoted: JSON: the columns with strings.
        bad_records: How many records cannot be split into fields.
        columns_by_snapshot: The names of the columns that each snapshot has, in lower case.
    """

    duck: duckdb.DuckDBPyConnection
    columns: list[str]
    options: dict[str, str] = field(default_factory=dict)
    records: str = ""
    skip_lines: int = 0
    snapshots: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    native: dict[str, list[pa.DataType]] = field(default_factory=dict)
    nested: dict[str, Any] = field(default_factory=dict)
    is_number: set[str] = field(default_factory=set)
    is_quoted: set[str] = field(default_factory=set)
    bad_records: int = 0
    columns_by_snapshot: dict[int, set[str]] = field(default_factory=dict)

    def absent_columns(self) -> dict[str, list[int]]:
        """Return, for each column that some snapshot lacks, the snapshots; names are in lower case."""
        return {
            name.lower(): without
            for name in self.columns
            if (without := [n for n, names in sorted(self.columns_by_snapshot.items()) if name.lower() not in names])
        }

    def column(self, name: str) -> str:
        """Return the column of `source_rows` for a name in the files."""
        return f"c{self.columns.index(name)}"

    def one(self, sql: str) -> tuple[Any, ...]:
        """Return the first row of a query."""
        row: tuple[Any, ...] | None = self.duck.execute(sql).fetchone()
        assert row is not None, sql
        return row

    def row_counts(self) -> dict[int, int]:
        """Return the number of rows of each snapshot."""
        counts = dict(self.duck.execute("SELECT snapshot, count(*) FROM source_rows GROUP BY snapshot").fetchall())
        return {snapshot: counts.get(snapshot, 0) for snapshot in self.snapshots}


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    """Return a connection to an empty database in a folder, which works in bounded memory and uses no network.

    Args:
        folder: An empty folder.
    """
    duck = duckdb.connect(
        str(folder / "rows.duckdb"),
        config={"memory_limit": _MEMORY_LIMIT, "temp_directory": str(folder / "spilled")},
    )
    for setting in ("autoinstall_known_extensions", "autoload_known_extensions", "preserve_insertion_order"):
        duck.execute(f"SET {setting} = false")
    return duck


def read_column_names(group_format: str, files: Iterable[ReadableFile]) -> list[frozenset[str]]:
    """Return the names of the columns in each file, in lower case; an empty set if a file has none that can be read.

    Args:
        group_format: csv, json or parquet.
        files: Files whose names differ only in digits, which may be one table.
    """
    every = []
    for file in files:
        names: Iterable[str] = ()
        try:
            if group_format == "csv":
                names = detect_dialect([file.path]).first_record
            elif group_format == "parquet":
                names = pq.read_schema(file.path).names
            else:
                record = next(json_objects(file.path), None)
                names = record if isinstance(record, dict) else ()
        except (UnusableFile, DataRefused, pa.ArrowException, OSError, ValueError):
            names = ()
        every.append(frozenset(name.strip().lower() for name in names))
    return every


def unpack(files: Iterable[SourceFile], folder: Path) -> list[ReadableFile]:
    """Return files in a form that can be read, the packed ones unpacked.

    Args:
        files: The files.
        folder: Where to unpack.

    Raises:
        UnusableFile: An archive is damaged, unsafe, or of another kind than gzip and zip.
    """
    readable = []
    for number, file in enumerate(files):
        if not archives.is_packed(file.name):
            readable.append(ReadableFile(file, file.path))
            continue
        landed = LandedFile(Path(file.name).name, file.path.stat().st_size, "", "", has_quote=True, is_utf8=False)
        try:
            unpacked = folder / f"unpacked{number}"
            unpacked.mkdir(parents=True)
            parts = list(archives.unpack(file.path, landed, unpacked))
        except DataRefused as refused:
            raise UnusableFile(shown(refused.found)) from refused
        readable += [ReadableFile(file, path) for _, path in parts]
    return readable


def load_table(group: FileGroup, files: list[ReadableFile], folder: Path) -> LoadedTable:
    """Load all snapshots of a table.

    Args:
        group: The table.
        files: Its files, unpacked.
        folder: An empty folder for the database.

    Raises:
        UnusableFile: No table can be proposed from the files.
    """
    folder.mkdir(parents=True)
    table = LoadedTable(connect(folder), [], snapshots=group.snapshots)
    try:
        {"csv": _load_csv, "json": _load_json, "parquet": _load_parquet}[group.format](table, files, folder)
    except Exception:
        table.duck.close()
        raise
    return table


def _create(
    table: LoadedTable, files: list[ReadableFile], names_by_file: list[list[str]], types: dict[str, str] | None = None
) -> None:
    """Create the table of rows for the columns of the files, as the newest file spells them."""
    spellings: dict[str, str] = {}
    for file, names in zip(files, names_by_file, strict=True):
        lower = [name.lower() for name in names]
        counts = Counter(lower)
        if doubled := sorted({name for name, low in zip(names, lower, strict=True) if counts[low] > 1}):
            raise UnusableFile(f"more than one column is named {shown(', '.join(doubled))}")
        spellings |= dict(zip(lower, names, strict=True))
        if len(spellings) > _MAX_COLUMNS:
            raise UnusableFile(f"it has more than {_MAX_COLUMNS:,} columns; its separator may be another one")
        if lower:
            table.columns_by_snapshot.setdefault(file.source.snapshot, set()).update(lower)
    table.columns = list(spellings.values())
    columns = ", ".join(f"c{n} {(types or {}).get(name, 'VARCHAR')}" for n, name in enumerate(table.columns))
    table.duck.execute(f"CREATE TABLE source_rows (snapshot INTEGER, {columns})")


def _positions(table: LoadedTable, names: list[str]) -> list[int]:
    """Return the position among the table's columns of each column of a file."""
    positions = {name.lower(): n for n, name in enumerate(table.columns)}
    return [positions[name.lower()] for name in names]


# CSV


def _load_csv(table: LoadedTable, files: list[ReadableFile], folder: Path) -> None:
    dialect = detect_dialect([file.path for file in files])
    table.options, table.notes, table.skip_lines = dict(dialect.options), dialect.notes, dialect.skip_lines
    filled = [file for file in files if file.path.stat().st_size]
    if dialect.skip_lines:
        filled = [_without_titles(file, dialect, folder / f"body{n}.csv") for n, file in enumerate(filled)]
    headers = [_header(file, dialect) for file in filled]
    _create(table, filled, headers)
    rejected = []
    for file, header in zip(filled, headers, strict=True):
        path = _plain_path(file, dialect, folder)
        count = _insert_csv(table, file, path, header, dialect)
        path.unlink()
        if count:
            table.bad_records += count
            rejected.append(f"{shown(file.source.name)} {count:,}")
    if rejected:
        more = "" if len(rejected) <= _MAX_NOTED_ROWS else f" and {len(rejected) - _MAX_NOTED_ROWS} more files"
        table.notes.append(
            f"rows: some do not have as many fields as the header and go to quarantine"
            f" ({', '.join(rejected[:_MAX_NOTED_ROWS])}{more})"
        )


def _without_titles(file: ReadableFile, dialect: DetectedDialect, target: Path) -> ReadableFile:
    """Return a copy of a file with empty lines in place of those before its header."""
    try:
        csv_body.copy_with_empty_head(file.path, target, dialect.reader, csv_body.CutLines(dialect.skip_lines, 0))
    except DataRefused as refused:
        raise UnusableFile(shown(refused.found)) from refused
    return ReadableFile(file.source, target)


def _header(file: ReadableFile, dialect: DetectedDialect) -> list[str]:
    try:
        first = dialect.reader.read_header(file.path) or []
    except DataRefused as refused:
        raise UnusableFile(shown(refused.found)) from refused
    if not dialect.reader.has_header:
        return [f"column_{n}" for n in range(1, len(first) + 1)]
    return [name.strip() or f"(column {n})" for n, name in enumerate(first, start=1)]  # as the product calls it


def _plain_path(file: ReadableFile, dialect: DetectedDialect, folder: Path) -> Path:
    """Return a path without signs that DuckDB takes for a glob, to the file in UTF-8."""
    path = folder / "rows.csv"
    if encoding := dialect.options.get("encoding"):
        transcode(file.path, encoding, path)
    else:
        path.symlink_to(file.path.resolve())
    return path


def _insert_csv(table: LoadedTable, file: ReadableFile, path: Path, header: list[str], dialect: DetectedDialect) -> int:
    """Insert the rows of a file, and return how many records do not have the fields of the header."""
    options = dialect.reader.options
    arguments = {
        "columns": {f"f{n}": "VARCHAR" for n in range(len(header))},
        "header": dialect.reader.has_header,
        "skip": dialect.skip_lines,
        "delim": options["sep"],
        "quote": options["quote"],
        "escape": options["escape"] if options["quote"] else "",
    }
    targets = ", ".join(f"c{n}" for n in _positions(table, header))
    fields = ", ".join(arguments["columns"])  # type: ignore[arg-type]
    settings = ", ".join(f"{name} = {_literal(value)}" for name, value in arguments.items())
    query = f"""INSERT INTO source_rows (snapshot, {targets}) SELECT {file.source.snapshot}, {fields}
        FROM read_csv({_literal(str(path))}, {settings}, auto_detect = false, strict_mode = true, null_padding = false,
        allow_quoted_nulls = false, ignore_errors = true, store_rejects = true, max_line_size = 33554432)
        {"WHERE f0 IS NOT NULL" if len(header) == 1 else ""}"""
    table.duck.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
    try:
        table.duck.execute("BEGIN")
        table.duck.execute(query)
        kinds = dict(
            table.duck.execute("SELECT error_type, count(DISTINCT line) FROM reject_errors GROUP BY 1").fetchall()
        )
        if set(kinds) <= {"MISSING COLUMNS", "TOO MANY COLUMNS"}:
            table.duck.execute("COMMIT")
            return sum(kinds.values())
    except duckdb.Error:  # DuckDB refuses what the product reads, such as several kinds of line ends
        pass
    table.duck.execute("ROLLBACK")
    utf8 = Dialect.from_options({name: value for name, value in dialect.options.items() if name != "encoding"})
    return _insert_records(table, file, path, header, utf8)


def _insert_records(table: LoadedTable, file: ReadableFile, path: Path, header: list[str], reader: Dialect) -> int:
    """Insert the rows of a file as the product's own reader reads it."""
    rejected = 0

    def rows() -> Iterator[list[Any]]:
        nonlocal rejected
        records = reader.read_records(path)
        if reader.has_header:
            next(records, None)
        for record in records:
            if len(record) == len(header):
                yield [value or None for value in record]
            else:
                rejected += 1

    try:
        _insert_rows(table, file.source.snapshot, _positions(table, header), rows())
    except DataRefused as refused:
        raise UnusableFile(f"{shown(refused.found)} ({shown(refused.where.rpartition(', ')[2])})") from refused
    return rejected


def _insert_rows(table: LoadedTable, snapshot: int, positions: list[int], rows: Iterator[list[Any]]) -> None:
    """Insert rows in batches."""
    targets = ", ".join(f"c{n}" for n in positions)
    batch: list[list[Any]] = []

    def insert() -> None:
        columns = [pa.array(column, pa.string()) for column in zip(*batch, strict=True)]
        frame = pa.table(columns, names=[f"f{n}" for n in range(len(positions))])
        table.duck.register("batch", frame)
        table.duck.execute(f"INSERT INTO source_rows (snapshot, {targets}) SELECT {snapshot}, * FROM batch")
        table.duck.unregister("batch")
        batch.clear()

    for row in rows:
        batch.append(row)
        if len(batch) >= _BATCH_ROWS:
            insert()
    if batch:
        insert()


# JSON


def _load_json(table: LoadedTable, files: list[ReadableFile], folder: Path) -> None:
    names: dict[str, str] = {}  # by lower case
    names_by_file: list[list[str]] = []
    for file in files:
        if not landing.inspect_file(file.path).is_utf8:
            raise UnusableFile(f"{shown(file.source.name)} is not UTF-8, and JSON is read in UTF-8 only")
    inside = find_records([file.path for file in files])
    table.records = format_path(inside)
    if inside:
        table.notes.append(f"records: each file is one object, whose only array of objects is {shown(table.records)}")
    for file in files:
        in_file: dict[str, str] = {}
        for record in json_objects(file.path, inside):
            for name in record if isinstance(record, dict) else ():
                in_file[name.lower()] = name
        names |= in_file
        names_by_file.append(list(in_file.values()))
    if not names:
        raise UnusableFile("it contains no JSON object")
    _create(table, files, names_by_file)
    for file in files:

        def rows(path: Path = file.path) -> Iterator[list[Any]]:
            for record in json_objects(path, inside):
                lower = {name.lower(): value for name, value in record.items()} if isinstance(record, dict) else None
                if lower is None or len(lower) < len(record):
                    table.bad_records += 1
                    continue
                for low, value in lower.items():
                    if isinstance(value, dict | list):
                        name = names[low]
                        table.nested[name] = merge_shapes(table.nested.get(name), value_shape(value))
                    elif value is not None:
                        (table.is_number if isinstance(value, Number | bool) else table.is_quoted).add(names[low])
                yield [json_text(lower.get(low)) for low in names]

        _insert_rows(table, file.source.snapshot, list(range(len(names))), rows())
    if table.bad_records:
        table.notes.append(f"rows: {table.bad_records:,} are no JSON objects with unique names and go to quarantine")


# Parquet


def _load_parquet(table: LoadedTable, files: list[ReadableFile], folder: Path) -> None:
    schemas = []
    for file in files:
        try:
            schemas.append(pq.read_schema(file.path))
            parquet_batch_rows(file.path)
        except DataRefused as refused:
            raise UnusableFile(shown(refused.found)) from refused
        except (pa.ArrowException, OSError) as error:
            raise UnusableFile(f"{shown(file.source.name)} is not a complete Parquet file") from error
    spellings: dict[str, str] = {}
    for schema in schemas:
        spellings |= {name.lower(): name for name in schema.names}
        for name, data_type in zip(schema.names, schema.types, strict=True):
            table.native.setdefault(name.lower(), []).append(data_type)
    table.native = {spellings[low]: types for low, types in table.native.items()}
    _create(
        table, files, [schema.names for schema in schemas], {name: duck_type(t) for name, t in table.native.items()}
    )
    for file, schema in zip(files, schemas, strict=True):
        path = folder / "rows.parquet"
        path.symlink_to(file.path.resolve())
        names = [name for name in schema.names if duck_type(table.native[spellings[name.lower()]]) != "VARCHAR[]"]
        targets = "".join(f", c{n}" for n in _positions(table, names))
        values = "".join(f", {_quoted(name)}" for name in names)
        try:
            table.duck.execute(
                f"INSERT INTO source_rows (snapshot{targets}) SELECT {file.source.snapshot}{values}"
                f" FROM read_parquet({_literal(str(path))})"
            )
        except duckdb.Error as error:
            raise UnusableFile(f"{shown(file.source.name)} cannot be read: {shown(str(error))}") from error
        path.unlink()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + str(value).replace("'", "''") + "'"
