"""Finds the lines that only one of two text files has: by their hashes, on this machine, with DuckDB.

Spark is not needed: the files are on this machine's disk, and one process hashes a gigabyte of lines in a second.
Lines are matched by their MD5: equal hashes mean equal lines, except for one pair in 2**128.
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

_SEPARATOR = "\x01"  # of the one column of a file; must not occur in it
_CHUNK_BYTES = 1 << 20
_MEMORY_LIMIT = "2GB"  # beyond it DuckDB works on disk


@dataclass(frozen=True)
class LineDifferences:
    """The lines that only one of two files has.

    Attributes:
        added_file: A Parquet file with the column `line`: the lines that only the second file has.
        removed_file: The same for the lines that only the first file has, and all its faulty lines.
        added_count: The number of added lines.
        removed_count: The number of removed lines, without the faulty ones.
        faulty_count: The number of faulty lines.
        common_count: The number of lines that both have; None if some were skipped without counting.
    """

    added_file: Path
    removed_file: Path
    added_count: int
    removed_count: int
    faulty_count: int
    common_count: int | None

    @property
    def size(self) -> int:
        """The bytes of both files."""
        return self.added_file.stat().st_size + self.removed_file.stat().st_size


def diff_lines(
    before: list[Path], after: list[Path], header: str, faulty_lines: Path | None, folder: Path
) -> LineDifferences | None:
    """Find the lines that only `before` or only `after` has, without blank lines and headers.

    Args:
        before: Files in which no line occurs twice, except faulty ones.
        after: The files to compare them with.
        header: The first line of each file; empty if there is no header.
        faulty_lines: A Parquet file with lines of `before` to report as removed, even if `after` has them.
        folder: An empty folder to write to.

    Returns:
        None if rows cannot be compared by their lines: there are several kinds of line ends, or a line of `before`
        or the header occurs twice now.
    """
    header_count = len(after) if header else 0
    rest = None
    if faulty_lines is None and len(before) == len(after) == 1:
        rest = remove_common_lines(before[0], after[0], folder)
    if rest:
        before, after, header_count = [rest[0]], [rest[1]], 0
    if any(_contains(path, _SEPARATOR.encode()) for path in [*before, *after]):
        return None
    with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": str(folder / "spilled")}) as duck:
        duck.execute("SET preserve_insertion_order = false; SET enable_progress_bar = false")
        duck.execute("CREATE TEMP TABLE faulty (line VARCHAR)")
        try:
            if faulty_lines is not None:
                duck.execute(f"INSERT INTO faulty SELECT line FROM read_parquet({_file_list_sql([faulty_lines])})")
            result = _compare(duck, before, after, header, folder)
        except duckdb.InvalidInputException:  # DuckDB is strict about input that Spark may read in another way
            return None
    if result is None or result[1] != header_count:
        return None
    return replace(result[0], common_count=None) if rest else result[0]


def may_contain_keys(files: list[str], keys: pa.Table) -> bool:
    """Return whether one of these Parquet files of a table may have a row with one of these keys.

    DuckDB reads the files completely, deleted rows included, in a fraction of Spark's time for one column. So if it
    finds nothing, there is nothing. If it finds a key, or if Spark may compare a type differently, Spark has to check.

    Args:
        files: The files, as Spark names them.
        keys: The keys, under the columns' names.
    """
    if not keys.num_rows:
        return False
    exact_types = (pa.types.is_string, pa.types.is_integer, pa.types.is_date)  # which Spark compares in the same way
    if not all(any(is_type(t) for is_type in exact_types) for t in keys.schema.types):
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


def _compare(
    duck: duckdb.DuckDBPyConnection, before: list[Path], after: list[Path], header: str, folder: Path
) -> tuple[LineDifferences, int] | None:
    """Return the differences, and how many headers `after` has; None if a common line now occurs twice."""
    duck.execute(f"CREATE TEMP TABLE known AS SELECT md5_number(line) AS hash FROM {_lines_sql(before)}")
    settled = f"""
        SELECT hash FROM known
        WHERE hash <> md5_number({_sql_literal(header)}) AND hash NOT IN (SELECT md5_number(line) FROM faulty)"""
    # A line that both sides have gets a row of nulls, which costs nothing and is counted.
    duck.execute(
        f"""
        CREATE TEMP TABLE joined AS
        SELECT CASE WHEN k.hash IS NULL THEN n.line END AS line, CASE WHEN n.hash IS NULL THEN k.hash END AS removed
        FROM (SELECT line, md5_number(line) AS hash FROM {_lines_sql(after)}) AS n
        FULL JOIN ({settled}) AS k USING (hash)
        """
    )
    counts = f"count(*), count(removed), count(line), count(*) FILTER (line = {_sql_literal(header)})"
    rows, removed, added, headers = duck.execute(f"SELECT {counts} FROM joined").fetchall()[0]
    settled_count, faulty_count = duck.execute(
        f"SELECT count(*), (SELECT count(*) FROM faulty) FROM ({settled})"
    ).fetchall()[0]
    common = rows - removed - added
    if common != settled_count - removed:
        return None
    added_file, removed_file = folder / "new.parquet", folder / "gone.parquet"
    _write_parquet(duck, f"SELECT line FROM joined WHERE line <> {_sql_literal(header)}", added_file)
    removed_lines = f"""
        SELECT line FROM {_lines_sql(before)}
        WHERE md5_number(line) IN (SELECT removed FROM joined WHERE removed IS NOT NULL)
        UNION ALL"""
    _write_parquet(duck, f"{removed_lines if removed else ''} SELECT line FROM faulty", removed_file)
    return LineDifferences(added_file, removed_file, added - headers, removed, faulty_count, common), headers


def _lines_sql(paths: list[Path]) -> str:
    """Return the SQL for the lines of text files without those that Spark's CSV reader takes for blank."""
    options = "header = false, auto_detect = false, quote = '', escape = '', max_line_size = 16777216"
    columns = "columns = {'line': 'VARCHAR'}"
    return f"""(
        SELECT line FROM read_csv({_file_list_sql(paths)}, delim = '{_SEPARATOR}', {options}, {columns})
        WHERE line IS NOT NULL AND NOT regexp_full_match(line, '[\\x00-\\x20]*'))"""


def _file_list_sql(paths: Iterable[str | Path]) -> str:
    """Return the SQL for exactly these files, since DuckDB takes a path for a pattern, and may see partitions in it."""
    return f"[{', '.join(_sql_literal(escape(str(path))) for path in paths)}], hive_partitioning = false"


def _sql_literal(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _write_parquet(duck: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    # Small row groups, since a task gets complete ones, and parsing a line costs more than reading it.
    duck.execute(f"COPY ({query}) TO {_sql_literal(path)} (FORMAT parquet, ROW_GROUP_SIZE 10240)")


def _contains(path: Path, byte: bytes) -> bool:
    with path.open("rb") as file:
        return any(byte in chunk for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""))
