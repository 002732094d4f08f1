"""Reads a landed CSV file in the driver with PyArrow: every field as text, as Spark's reader returns it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from io import BufferedReader, RawIOBase
from typing import IO, TYPE_CHECKING, Any, TextIO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from lakehouse.ingest.local.errors import NeedsSparkError
from lakehouse.ingest.local.local_file import BrokenRow, LocalColumn, LocalFile, column_of_name
from lakehouse.ingest.local.sql_casts import cast_sql, in_range_sql
from lakehouse.ingest.readers import csv_reader
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake.duckdb_sql import literal
from lakehouse.lake.small_tables import int_array
from lakehouse.schema.cast import type_fault
from lakehouse.storage.csv_dialect import Dialect
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.landing import LandedFile

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BLOCK_BYTES = 4 << 20  # of a batch; a longer record is left to Spark
_MAX_BROKEN_ROWS = 10_000
_OPTIONS = frozenset(
    {"sep", "encoding", "quote", "escape", "header", "nullvalue", "maxcolumns", "locale"}
    | {"dateformat", "timestampformat", "timestampntzformat"}
)
_CHUNK = 1 << 20  # characters
_BLANK = r"^[\x00-\x20]*$"  # Spark takes a line of these for an empty one


def open_file(settings: ReadSettings, file: LandedFile, path: StorePath) -> LocalFile:
    """Return the rows of a CSV file.

    Args:
        settings: The reader's settings.
        file: The file as landed.
        path: Where it is.

    Raises:
        DataRefused: There is no header, a column is missing or occurs twice, or a quote is not closed.
        NeedsSparkError: Only Spark reads the file by the table's options.
    """
    dialect = Dialect.from_options(settings.table.options)
    quote = dialect.options["quote"]
    is_known = dialect.options.keys() <= _OPTIONS and dialect.options["sep"].isascii() and quote.isascii()
    if not is_known or (quote and dialect.options["escape"] != quote):
        raise NeedsSparkError
    header, positions = csv_reader.locate_columns(settings, path)
    in_name = settings.name_texts(file)
    nulls = [settings.table.null_texts(name) for name in settings.declared.names]
    reader = _CsvReader(dialect, file, path, header, nulls, in_name)
    columns: dict[str, LocalColumn] = {}
    names: list[int | None] = []
    for n, column in enumerate(settings.declared):
        if column.name in in_name:
            columns[column.name] = column_of_name(settings, n, column.dataType, in_name[column.name])
            names.append(None)
            continue
        text, options = f"c{n}", settings.table.options
        cast = cast_sql(text, column.dataType, settings.time_zone, options)
        if cast is None:
            raise NeedsSparkError
        fault = f"WHEN v{n} IS NULL AND {text} IS NOT NULL THEN {literal(type_fault(column.dataType, options))}"
        if not reader.is_decodable:
            undecodable = literal(csv_reader.UNDECODABLE)
            fault = f"WHEN contains({text}, {literal(csv_reader.REPLACEMENT)}) THEN {undecodable} {fault}"
        columns[column.name] = LocalColumn(text, in_range_sql(cast, column.dataType), f"CASE {fault} END")
        names.append(positions.get(column.name))
    opened = LocalFile(
        columns,
        lambda: reader.read(names, opened.broken),
        reader.received,
        unknown_columns=tuple(name for i, name in enumerate(header) if i not in positions.values()),
        missing_columns=frozenset(settings.names_in_files).difference(positions),
        record_count=dialect.count_records(path) if dialect.may_span_lines(file) else None,
        in_name=in_name,
    )
    return opened


class _CsvReader:
    """Reads the fields of one file."""

    def __init__(
        self,
        dialect: Dialect,
        file: LandedFile,
        path: StorePath,
        header: list[str],
        nulls: list[tuple[str, ...]],
        in_name: Mapping[str, str],
    ) -> None:
        self._dialect, self._path, self._header, self._nulls, self._in_name = dialect, path, header, nulls, in_name
        self._is_line_by_line = not dialect.may_span_lines(file)
        self.is_decodable = dialect.is_utf8 and file.is_utf8
        self._names = [f"f{i}" for i in range(len(header))]

    def read(self, positions: list[int | None], broken: list[BrokenRow]) -> Iterator[pa.RecordBatch]:
        """Yield the fields at these positions as `c0`, `c1` and so on; a position of None is null.

        Args:
            positions: The positions in the header.
            broken: Gets the records that have another number of fields.
        """
        broken.clear()
        wanted = [self._names[p] for p in positions if p is not None]
        for batch in self._batches(list(dict.fromkeys(wanted)) or self._names[:1], broken):
            nothing = pa.nulls(batch.num_rows, pa.string())
            fields = [nothing if p is None else batch.column(self._names[p]) for p in positions]
            fields = [without_texts(f, nulls) for f, nulls in zip(fields, self._nulls, strict=True)]
            yield pa.RecordBatch.from_arrays(fields, names=[f"c{n}" for n in range(len(fields))])

    def received(self, rows: Collection[int]) -> dict[int, str]:
        """Return the rows at these positions as JSON, by the names in the header."""
        found: dict[int, str] = {}
        start, wanted = 0, sorted(rows)
        for batch in self._batches(self._names, []):
            inside = [n for n in wanted if start <= n < start + batch.num_rows]
            texts = batch.take(int_array(n - start for n in inside)).to_pylist()
            found |= {
                n: to_json(dict(zip(self._header, text.values(), strict=True)) | dict(self._in_name))
                for n, text in zip(inside, texts, strict=True)
            }
            start += batch.num_rows
        return found

    def _batches(self, columns: list[str], broken: list[BrokenRow]) -> Iterator[pa.RecordBatch]:
        null_value = self._dialect.options.get("nullvalue")
        is_first = self._dialect.has_header
        with self._open() as source:
            try:
                for batch in self._open_csv(source, columns, broken):
                    rows = batch.slice(1) if is_first and batch.num_rows else batch
                    is_first = is_first and not batch.num_rows
                    if self._is_line_by_line and len(self._header) == 1:  # lines that are no records for Spark
                        is_blank = pc.fill_null(pc.match_substring_regex(rows.column(0), _BLANK), False)
                        rows = rows.filter(pc.invert(is_blank))
                    if null_value:
                        fields = [
                            pc.replace_with_mask(f, pc.fill_null(pc.equal(f, null_value), False), None) for f in rows
                        ]
                        rows = pa.RecordBatch.from_arrays(fields, names=rows.schema.names)
                    yield rows
            except pa.ArrowInvalid as error:
                raise NeedsSparkError from error

    def _open_csv(self, source: IO[bytes], columns: list[str], broken: list[BrokenRow]) -> Iterator[pa.RecordBatch]:
        def on_broken(row: csv.InvalidRow) -> str:
            is_blank = self._is_line_by_line and not row.text.strip("".join(map(chr, range(0x21))))
            if not is_blank:
                broken.append(self._broken_row(row.text))
            return "error" if len(broken) > _MAX_BROKEN_ROWS else "skip"

        quote = self._dialect.options["quote"] or False
        return iter(
            csv.open_csv(
                source,
                csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=self._names),
                csv.ParseOptions(
                    delimiter=self._dialect.options["sep"],
                    quote_char=quote,
                    double_quote=bool(quote),
                    newlines_in_values=not self._is_line_by_line,
                    ignore_empty_lines=True,
                    invalid_row_handler=on_broken,
                ),
                csv.ConvertOptions(
                    check_utf8=False,  # known from landing
                    column_types=dict.fromkeys(self._names, pa.string()),
                    include_columns=columns,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        )

    def _broken_row(self, text: str) -> BrokenRow:
        fields = self._split(text)
        received = dict(zip(self._header, fields + [None] * (len(self._header) - len(fields)), strict=True))
        return BrokenRow(text, to_json(received | dict(self._in_name)), csv_reader.ragged_fault(self._header))

    def _split(self, text: str) -> list[str | None]:
        """Return the first fields of a record, at most as many as the header has."""
        sep, quote = self._dialect.options["sep"], self._dialect.options["quote"]
        fields: list[str | None] = []
        sign = re.escape(quote)
        quoted = re.compile(f"{sign}((?:[^{sign}]|{sign}{sign})*){sign}" if quote else "(?!)")
        at = 0
        while at <= len(text) and len(fields) < len(self._header):
            if match := quoted.match(text, at):
                field: str | None = match[1].replace(quote * 2, quote)
                end = match.end()
            else:
                end = at_sep if (at_sep := text.find(sep, at)) >= 0 else len(text)
                field = text[at:end] or None
            fields.append(None if field == self._dialect.options.get("nullvalue") else field)
            at = end + 1
        return fields

    def _open(self) -> IO[bytes]:
        if self.is_decodable:
            return self._path.open("rb")
        return BufferedReader(_Utf8Stream(self._dialect.open_text(self._path)))


class _Utf8Stream(RawIOBase):
    """The text of a file as UTF-8; bytes that are not valid in the file's encoding become U+FFFD, as for Spark."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._rest = file, b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Read the next bytes."""
        view = memoryview(buffer).cast("B")
        self._rest = self._rest or self._file.read(_CHUNK).encode()
        count = min(len(view), len(self._rest))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def without_texts(column: pa.Array, nulls: tuple[str, ...]) -> pa.Array:
    """Return a column of texts with null in place of those that stand for null."""
    if not nulls:
        return column
    return pc.if_else(pc.is_in(column, pa.array(nulls, pa.string())), pa.scalar(None, pa.string()), column)


def to_json(row: dict[str, Any]) -> str:
    """Return a row as JSON in the form that Spark writes."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))
