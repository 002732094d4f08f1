"""CSV as the contract defines it, read by Python's own strict reader: headers, record counts, open quotes.

Spark parses the rows; this is the second opinion on files whose records may span lines.
"""

from __future__ import annotations

import codecs
import csv
import sys
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from lakehouse.errors import ConfigError, DataRefused
from lakehouse.landing import LandedFile

if TYPE_CHECKING:
    import _csv

_DEFAULTS = {"header": "true", "sep": ",", "encoding": "UTF-8", "quote": '"'}
_LONGEST_LINE = 1 << 20
_ALIASES = {"delimiter": "sep", "charset": "encoding"}


@dataclass(frozen=True)
class Dialect:
    """Reader options by Spark's names, in lower case, over the contract's defaults (RFC 4180, UTF-8, a header)."""

    options: Mapping[str, str]

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Dialect:
        """The dialect that a table's options describe.

        Raises:
            ConfigError: a separator or quote of several characters, or an unknown encoding.
        """
        chosen = _DEFAULTS | {_ALIASES.get(k.lower(), k.lower()): v for k, v in options.items()}
        chosen["sep"] = "\t" if chosen["sep"] == r"\t" else chosen["sep"]
        chosen = {"escape": chosen["quote"]} | chosen  # a quote inside is doubled, whichever the quote is
        limits = {"sep": (1, 1), "quote": (0, 1), "escape": (0, 1)}
        wrong = [name for name, (least, most) in limits.items() if not least <= len(chosen[name]) <= most]
        try:
            codecs.lookup(chosen["encoding"])
        except LookupError:
            wrong.append("encoding")
        if wrong:
            raise ConfigError(
                "; ".join(f"options.{name}: {chosen[name]!r}" for name in wrong),
                expected="one character for sep, quote and escape; an encoding such as UTF-8 or ISO-8859-1",
            )
        return cls(chosen)

    @property
    def has_header(self) -> bool:
        return self.options["header"].lower() == "true"

    @property
    def is_utf8(self) -> bool:
        return self.options["encoding"].upper().replace("-", "") == "UTF8"

    def may_span_lines(self, file: LandedFile) -> bool:
        """Whether a record of `file` could span lines. If not, Spark may split it and read in parallel."""
        if not self.options["quote"]:
            return False
        # Spark drops lines of white space alone before it looks for separators, unless it parses the whole file.
        is_blank = self.options["sep"].isspace()
        return file.has_quote or self.options["quote"] != '"' or not self.is_utf8 or is_blank

    def ends_lines_with_crlf(self, path: Path) -> bool:
        """Whether lines end in CR LF, judged by the first one."""
        with self._open(path) as file:
            return file.readline(_LONGEST_LINE).endswith("\r\n")

    def header(self, path: Path) -> list[str] | None:
        """The first record, or None if there is none.

        Raises:
            DataRefused: it cannot be read.
        """
        with self._open(path) as file:
            reader = self._reader(file)
            try:
                return next((record for record in reader if record), None)
            except csv.Error as error:
                raise self._refused(path, reader.line_num, error) from error

    def count(self, path: Path) -> int | None:
        """The number of data records; None where quotes are escaped by a sign of their own.

        Outside quotes that sign is a character to Spark and an escape to Python: there is no second opinion then.

        Raises:
            DataRefused: a quote that is never closed, or text after a closing quote.
        """
        if self.options["escape"] != self.options["quote"]:
            return None
        records = 0
        with self._open(path) as file:
            reader = self._reader(file)
            try:
                for record in reader:
                    records += bool(record)
            except csv.Error as error:
                raise self._refused(path, reader.line_num, error) from error
        return records - self.has_header

    def lines(self, path: Path, wanted: Set[tuple[str, ...]], width: int) -> dict[tuple[str, ...], int]:
        """The line on which each of these records first begins; records are padded or cut to `width` fields."""
        found: dict[tuple[str, ...], int] = {}
        with self._open(path) as file:
            reader = self._reader(file)
            begins = 1
            for record in reader:
                fields = tuple((record + [""] * width)[:width])
                if fields in wanted:
                    found.setdefault(fields, begins)
                begins = reader.line_num + 1
        return found

    def _open(self, path: Path) -> TextIO:
        encoding = "utf-8-sig" if self.is_utf8 else self.options["encoding"]
        return path.open(encoding=encoding, errors="replace", newline="")

    def _reader(self, file: TextIO) -> _csv.Reader:
        csv.field_size_limit(sys.maxsize)
        quote, escape = self.options["quote"], self.options["escape"]
        doubled = escape == quote or not escape
        return csv.reader(
            file,
            delimiter=self.options["sep"],
            quotechar=quote or None,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
            doublequote=doubled,
            escapechar=None if doubled or not quote else escape,
            strict=True,
        )

    @staticmethod
    def _refused(path: Path, line: int, error: Exception) -> DataRefused:
        return DataRefused(
            f"{path.name} is not well-formed CSV: {error}",
            expected="every quote closed, and a separator or a line end right after a closing quote",
            where=f"{path}, at or before line {line}",
            next_step="look for an open quote there; the file may be cut short",
        )
