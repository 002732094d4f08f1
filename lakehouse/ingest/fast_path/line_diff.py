"""Which lines of a text file are new since another one, and which are gone: by hash, on this machine, with DuckDB.

No Spark here: the files are on this machine's disk, and hashing a gigabyte of lines is a second's work for one process.
Lines are matched by their MD5: equal hashes, equal lines, but for one pair in 2**128.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import duckdb
import pyarrow as pa

from lakehouse.ingest.fast_path.common_lines import remove_common_lines

_SEPARATOR = "\x01"  # of a file's one column: must not occur in it
_CHUNK_BYTES = 1 << 20  # bytes read at once
_MEMORY_LIMIT = "2GB"  # beyond it DuckDB works on disk


@dataclass(frozen=True)
class LineDifferences:
    """Lines that only one side has.

    Attributes:
        new, gone: Parquet files with the column `line`. What is restless is among those that are gone.
        added, removed, restless: how many are new, gone without being restless, restless.
        kept: how many both have; None: some were not even counted.
    """

    added_file: Path
    removed_file: Path
    added_count: int
    removed_count: int
    faulty_count: int
    common_count: int | None

    @property
    def size(self) -> int:
        """Bytes, as they are stored."""
        return self.added_file.stat().st_size + self.removed_file.stat().st_size


def diff_lines(
    before: list[Path], after: list[Path], header: str, faulty_lines: Path | None, folder: Path
) -> LineDifferences | None:
    """The lines of `after` that `before` has not, and the other way round; blank lines and headers are nobody's.

    Args:
        before: files in which, but for what is `restless`, no line stands twice.
        header: the first line of each file; empty where there is none.
        restless: a Parquet file with lines of `before` that are to be gone, whether or not `after` has them.
        folder: an empty one to write to.

    Returns:
        None where it cannot be told line by line: lines end in several ways, one of `before` now stands there twice,
        or the header does.
    """
    headers = len(after) if header else 0
    left = None
    if faulty_lines is None and len(before) == len(after) == 1:
        left = remove_common_lines(before[0], after[0], folder)
    if left:
        before, after, headers = [left[0]], [left[1]], 0
    if any(_contains(path, _SEPARATOR.encode()) for path in [*before, *after]):
        return None
    with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": str(folder / "spilled")}) as duck:
        duck.execute("SET preserve_insertion_order = false; SET enable_progress_bar = false")
        try:
            found = _compare(duck, before, after, header, faulty_lines, folder)
        except duckdb.InvalidInputException:  # what it is strict about, Spark may read otherwise
            return None
    if found is None or found[1] != headers:
        return None
    return replace(found[0], common_count=None) if left else found[0]


def may_contain_keys(files: list[str], keys: pa.Table) -> bool:
    """Whether one of these Parquet files of a table may hold a row with one of these keys.

    Read whole, deleted rows and all, in a fraction of the time that Spark takes for one column. So where it finds
    nothing there is nothing; what it finds, and keys of a type that the two might hold to be equal otherwise, are for
    Spark to look at.

    Args:
        files: as Spark names them.
        keys: under the columns' names.
    """
    if not keys.num_rows:
        return False
    if not all(map(_is_comparable, keys.schema.types)):
        return True
    paths = [unquote(urlsplit(file).path) for file in files]
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in keys.schema.names)
    with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT}) as duck:
        duck.register("keys", keys)
        query = f"SELECT 1 FROM read_parquet({_file_list_sql(paths)}) SEMI JOIN keys USING ({names}) LIMIT 1"
        try:
            return bool(duck.execute(query).fetchall()) if files else False
        except duckdb.Error:
            return True


def _is_comparable(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_date(kind))


def _compare(
    duck: duckdb.DuckDBPyConnection,
    before: list[Path],
    after: list[Path],
    header: str,
    faulty_lines: Path | None,
    folder: Path,
) -> tuple[LineDifferences, int] | None:
    """What differs, and how many headers `after` has; None where a line that is kept stands there twice."""
    duck.execute("CREATE TEMP TABLE restless (line VARCHAR)")
    if faulty_lines is not None:
        duck.execute(f"INSERT INTO restless SELECT line FROM read_parquet({_file_list_sql([faulty_lines])})")
    duck.execute(f"CREATE TEMP TABLE known AS SELECT md5_number(line) AS hash FROM {_lines_sql(before)}")
    settled = f"SELECT hash FROM known WHERE hash <> md5_number({_sql_literal(header)})"
    if faulty_lines is not None:
        settled += " AND hash NOT IN (SELECT md5_number(line) FROM restless)"
    # A line that both sides have leaves a row of nulls, which costs nothing and is counted.
    duck.execute(
        f"""
        CREATE TEMP TABLE met AS
        SELECT CASE WHEN k.hash IS NULL THEN n.line END AS line, CASE WHEN n.hash IS NULL THEN k.hash END AS gone
        FROM (SELECT line, md5_number(line) AS hash FROM {_lines_sql(after)}) AS n
        FULL JOIN ({settled}) AS k USING (hash)
        """
    )
    counts = f"count(*), count(gone), count(line), count(*) FILTER (line = {_sql_literal(header)})"
    rows, removed, added, headers = duck.execute(f"SELECT {counts} FROM met").fetchall()[0]
    were, others = duck.execute(f"SELECT count(*), (SELECT count(*) FROM restless) FROM ({settled})").fetchall()[0]
    kept = rows - removed - added
    if kept != were - removed:
        return None
    new, gone = folder / "new.parquet", folder / "gone.parquet"
    _write_parquet(duck, f"SELECT line FROM met WHERE line <> {_sql_literal(header)}", new)
    gone_ones = "SELECT gone FROM met WHERE gone IS NOT NULL"
    lost = f"SELECT line FROM {_lines_sql(before)} WHERE md5_number(line) IN ({gone_ones}) UNION ALL"
    _write_parquet(duck, f"{lost if removed else ''} SELECT line FROM restless", gone)
    return LineDifferences(new, gone, added - headers, removed, others, kept), headers


def _lines_sql(paths: list[Path]) -> str:
    """The lines of text files without the blank ones, as Spark's CSV reader takes them."""
    options = "header = false, auto_detect = false, quote = '', escape = '', max_line_size = 16777216"
    columns = "columns = {'line': 'VARCHAR'}"
    return f"""(
        SELECT line FROM read_csv({_file_list_sql(paths)}, delim = '{_SEPARATOR}', {options}, {columns})
        WHERE line IS NOT NULL AND NOT regexp_full_match(line, '[\\x00-\\x20]*'))"""


def _file_list_sql(paths: Iterable[str | Path]) -> str:
    """These files and no others: a path is a pattern for DuckDB, and what looks like a partition in it a column."""
    return f"[{', '.join(_sql_literal(escape(str(path))) for path in paths)}], hive_partitioning = false"


def _sql_literal(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _write_parquet(duck: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    # Small row groups: a task is given whole ones, and parsing a line is dearer than reading it.
    duck.execute(f"COPY ({query}) TO {_sql_literal(path)} (FORMAT parquet, ROW_GROUP_SIZE 10240)")


def _contains(path: Path, byte: bytes) -> bool:
    with path.open("rb") as file:
        return any(byte in chunk for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""))
