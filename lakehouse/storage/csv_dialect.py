"""Reads CSV with Python's strict reader: headers, record counts and line numbers.

Spark parses the rows. This second reader checks files whose records may span lines, and rewrites those that Spark would
misread.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from lakehouse.config.options import ALIASES, REDUNDANT_OPTIONS, canonical_charset
from lakehouse.errors import DataRefused
from lakehouse.storage.file_io import UTF8_COPIES, StorePath, is_utf8_copy
from lakehouse.storage.landing import LandedFile

if TYPE_CHECKING:
    import _csv

_DEFAULTS = {"header": "true", "sep": ",", "encoding": "UTF-8", "quote": '"'}
_CHUNK_BYTES = 1 << 20
_SPARKS_MAX_COLUMNS = 20_480
# A quote that is never closed makes one field of all that follows it, and a file without line ends is one header.
_MAX_FIELD_CHARS, _MAX_HEADER_CHARS = 1 << 26, 1 << 20

IsExcluded = Callable[[Mapping[str, str], str], bool]


class RewriteReasons(NamedTuple):
    """The contents that Spark's parser misreads if records may span lines, or if no quote character is set.

    Attributes:
        has_nul: Spark drops NUL inside quotes, and without a quote character takes NUL for one.
        mixes_line_ends: Spark detects one kind of line end, and leaves the CR of others in the last column.
    """

    has_nul: bool
    mixes_line_ends: bool


@dataclass(frozen=True)
class Dialect:
    """The CSV reader options of a table.

    Attributes:
        options: By Spark's names in lower case; those not given have the defaults (RFC 4180, UTF-8, a header).
    """

    options: Mapping[str, str]

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Dialect:
        """Return the dialect of a table's options, which `validate` has checked."""
        given = {ALIASES.get(k.lower(), k.lower()): v for k, v in options.items() if k.lower() not in REDUNDANT_OPTIONS}
        chosen = _DEFAULTS | given
        chosen["sep"] = "\t" if chosen["sep"] == r"\t" else chosen["sep"]
        chosen["encoding"] = canonical_charset(chosen["encoding"]) or chosen["encoding"]
        return cls({"escape": chosen["quote"]} | chosen)  # by default a quote inside quotes is doubled

    @property
    def has_header(self) -> bool:
        """Whether the first record of each file names the columns."""
        return self._is_enabled("header")

    @property
    def is_utf8(self) -> bool:
        """Whether the encoding is UTF-8."""
        return self.options["encoding"] == "UTF-8"

    @property
    def max_columns(self) -> int:
        """The most columns that a record may have."""
        return int(self.options.get("maxcolumns", _SPARKS_MAX_COLUMNS))

    def encoding_of(self, path: StorePath) -> str:
        """Return the encoding of a file: that of the table, unless it is a copy which `rewrite` has made in UTF-8."""
        return "UTF-8" if is_utf8_copy(path) else self.options["encoding"]

    @property
    def rewrite_folder(self) -> str:
        """The folder for rewritten files, relative to that of all; empty if they are in the table's encoding."""
        try:
            "\ufffd".encode(self.options["encoding"])
        except UnicodeEncodeError:
            return UTF8_COPIES
        return ""

    def may_span_lines(self, file: LandedFile) -> bool:
        """Return whether a record of a file could span lines. If not, Spark may read parts of it in parallel."""
        if not self.options["quote"]:
            return self.options["encoding"].startswith("UTF-16")  # Spark cannot split it at single bytes
        # Unless it parses the whole file, Spark drops lines of white space before it looks for separators.
        is_blank = self.options["sep"].isspace()
        return file.has_quote or self.options["quote"] != '"' or not self.is_utf8 or is_blank

    def may_need_rewrite(self, file: LandedFile) -> bool:
        """Return whether `rewrite_reasons` has to be called for a file."""
        return self.may_span_lines(file) or not self.options["quote"]

    def line_end(self, path: StorePath) -> str:
        """Return the line end of the first line, or LF if the file is one line."""
        with self.open_text(path) as file:
            first = file.readline()
        return first[len(first.rstrip("\r\n")) :] or "\n"

    def rewrite_reasons(self, path: StorePath) -> RewriteReasons:
        """Return the parts of a file that Spark's parser would silently misread."""
        with path.open("rb") as raw:
            if not any(b"\r" in chunk or b"\0" in chunk for chunk in iter(lambda: raw.read(_CHUNK_BYTES), b"")):
                return RewriteReasons(has_nul=False, mixes_line_ends=False)
        has_nul = False
        with self.open_text(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                has_nul = has_nul or "\0" in chunk
            return RewriteReasons(has_nul, mixes_line_ends=isinstance(file.newlines, tuple))

    def rewrite(self, path: StorePath, target: Path, reasons: RewriteReasons) -> None:
        """Copy a file so that Spark reads it correctly: records end in LF, and NUL becomes U+FFFD, a reported fault.

        Line ends inside quotes stay as they are.

        Args:
            path: The file.
            target: The copy, in the folder `rewrite_folder`.
            reasons: The reasons to rewrite.

        Raises:
            DataRefused: A quote is never closed, text follows a closing quote, or line ends are mixed while `escape` is
                a character that Python and Spark treat differently.
        """
        if reasons.mixes_line_ends and self.options["escape"] != self.options["quote"]:
            raise DataRefused(
                f"{path.name} has line ends of several kinds",
                expected="one line end (LF, CR LF or CR) in the full file, if `escape` is not the quote character",
                where=str(path),
            )
        with self.open_text(path) as file, target.open("w", encoding=self.encoding_of(target), newline="") as out:
            records = (lines for lines, _ in self._records(file, path))
            for lines in records if reasons.mixes_line_ends else ([line] for line in file):
                if reasons.mixes_line_ends:
                    lines[-1] = lines[-1].rstrip("\r\n") + "\n"
                out.writelines(line.replace("\0", "\ufffd") for line in lines)

    def copy_without(self, path: Path, target: Path, declared: list[str], is_excluded: IsExcluded) -> None:
        """Copy a file without some records; all other bytes stay the same.

        Args:
            path: The file.
            target: The copy.
            declared: The columns of a file without a header.
            is_excluded: Called with the fields of each record by their names in lower case (empty if their number
                differs from the header's), and with its text.

        Raises:
            DataRefused: A quote is not closed.
        """
        encoding, has_header = self.options["encoding"], self.has_header
        names = [] if has_header else [name.lower() for name in declared]
        with (
            path.open(encoding=encoding, errors="surrogateescape", newline="") as file,
            target.open("w", encoding=encoding, errors="surrogateescape", newline="") as out,
        ):
            for lines, record in self._records(file, path):
                if record and not names:
                    names = [name.removeprefix("\ufeff").strip().lower() for name in record]
                    out.writelines(lines)
                    continue
                fields = [self._normalize_field(field).replace("\0", "\ufffd") for field in record]
                by_name = dict(zip(names, fields, strict=True)) if len(fields) == len(names) else {}
                if not (record and is_excluded(by_name, "".join(lines))):
                    out.writelines(lines)

    def _records(self, file: TextIO, path: StorePath) -> Iterator[tuple[list[str], list[str]]]:
        """Yield the unchanged lines of each record, and its fields."""
        pending: list[str] = []

        def lines() -> Iterator[str]:
            for line in file:
                pending.append(line)
                yield line

        reader = self._reader(lines())
        try:
            for record in reader:
                yield pending, record
                pending.clear()
        except csv.Error as error:
            raise self._malformed_error(path, reader.line_num, error) from error

    def read_header(self, path: StorePath) -> list[str] | None:
        """Return the first record, or None if there is none.

        Raises:
            DataRefused: It cannot be parsed, or is longer than any header.
        """
        with self.open_text(path) as file:
            reader = self._reader(_lines_up_to(file, _MAX_HEADER_CHARS))
            try:
                return next((record for record in reader if record), None)
            except csv.Error as error:
                raise self._malformed_error(path, reader.line_num, error) from error

    def read_records(self, path: StorePath) -> Iterator[list[str]]:
        """Yield the fields of each record, the header included; empty lines are no records.

        Args:
            path: The file.

        Raises:
            DataRefused: A quote is never closed, or text follows a closing quote.
        """
        with self.open_text(path) as file:
            reader = self._reader(file)
            try:
                yield from (record for record in reader if record)
            except csv.Error as error:
                raise self._malformed_error(path, reader.line_num, error) from error

    def count_records(self, path: StorePath) -> int | None:
        """Return the number of data records; None if `escape` is not the quote character.

        Outside quotes, such an escape character is plain text to Spark but an escape to Python, so the two readers
        cannot be compared.

        Raises:
            DataRefused: A quote is never closed, or text follows a closing quote.
        """
        if self.options["escape"] != self.options["quote"]:
            return None
        records = 0
        with self.open_text(path) as file:
            reader = self._reader(file)
            try:
                for record in reader:
                    records += bool(record)
            except csv.Error as error:
                raise self._malformed_error(path, reader.line_num, error) from error
        return records - self.has_header

    def line_numbers(self, path: StorePath, wanted: Set[tuple[str, ...]], width: int) -> dict[tuple[str, ...], int]:
        """Return the line on which each of these records first begins, as far as Python reads the file as Spark does.

        Args:
            path: The file.
            wanted: The fields of the records.
            width: Records of the file are padded or cut to this many fields.
        """
        numbers: dict[tuple[str, ...], int] = {}
        as_wanted = {tuple(map(self._normalize_field, fields)): fields for fields in wanted}
        with self.open_text(path) as file:
            reader = self._reader(file)
            begins = 1
            try:
                for record in reader:
                    fields = tuple(map(self._normalize_field, (record + [""] * width)[:width]))
                    if fields in as_wanted:
                        numbers.setdefault(as_wanted[fields], begins)
                    begins = reader.line_num + 1
            except csv.Error:  # an escape outside quotes, at the end of the file: to Spark it is plain text
                pass
        return numbers

    def _normalize_field(self, field: str) -> str:
        """Return a field as Spark reads it by the options for white space and null."""
        if self._is_enabled("ignoreleadingwhitespace") or self._is_enabled("ignoretrailingwhitespace"):
            field = field.strip()
        return "" if field in (self.options.get("nullvalue"), self.options.get("emptyvalue")) else field

    def _is_enabled(self, option: str) -> bool:
        return self.options.get(option, "false").lower() == "true"

    def open_text(self, path: StorePath, errors: str = "replace") -> TextIO:
        """Open a file as text, with U+FFFD in place of bytes that are not valid in its encoding.

        Args:
            path: The file.
            errors: Another way to treat such bytes, by Python's name.
        """
        encoding = self.encoding_of(path)
        encoding = "utf-8-sig" if encoding == "UTF-8" else encoding
        return path.open(encoding=encoding, errors=errors, newline="")

    def _reader(self, file: Iterable[str]) -> _csv.Reader:
        csv.field_size_limit(_MAX_FIELD_CHARS)
        quote, escape = self.options["quote"], self.options["escape"]
        doubled = escape == quote or not escape
        return csv.reader(
            file,
            delimiter=self.options["sep"],
            quotechar=quote or None,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
            doublequote=doubled,
            escapechar=None if doubled or not quote else escape,
            skipinitialspace=self._is_enabled("ignoreleadingwhitespace"),
            strict=True,
        )

    @staticmethod
    def _malformed_error(path: StorePath, line: int, error: Exception) -> DataRefused:
        return DataRefused(
            f"{path.name} is not well-formed CSV: {error}",
            expected="every quote closed, and a separator or a line end right after a closing quote",
            where=f"{path}, at or before line {line}",
            next_step="look for an open quote there; the file may be cut short",
        )


def _lines_up_to(file: TextIO, most: int) -> Iterator[str]:
    """Yield the lines of a file, and raise when they have more than `most` characters."""
    while line := file.readline(most + 1):
        most -= len(line)
        if most < 0:
            raise csv.Error(f"the header has more than {_MAX_HEADER_CHARS:,} characters")
        yield line
