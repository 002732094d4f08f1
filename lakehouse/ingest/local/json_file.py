"""Reads a landed JSON file in the driver: every member as text, as `readers/json_fields.py` returns it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T

from lakehouse.ingest.local.errors import NeedsSparkError
from lakehouse.ingest.local.local_file import BrokenRow, LocalColumn, LocalFile, column_of_name
from lakehouse.ingest.local.sql_casts import cast_sql, in_range_sql
from lakehouse.ingest.readers import json_fields, json_reader
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake.duckdb_sql import literal
from lakehouse.schema.cast import type_fault
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.json_text import refuse_constant
from lakehouse.storage.landing import LandedFile
from lakehouse.text import is_encodable

_BATCH_ROWS = 20_000  # of an array
_BLOCK_BYTES = 4 << 20  # of a file of lines
_BOM = "\ufeff".encode()


class _Number(str):
    """A number, by its text."""


class _Members(list[tuple[str, Any]]):
    """The members of an object."""


_DECODER = json.JSONDecoder(
    parse_int=_Number,
    parse_float=_Number,
    parse_constant=refuse_constant,
    object_pairs_hook=_Members,
)
_LITERALS = {True: "true", False: "false"}

# Most files have objects of one form: the same members in the same order, with plain values. They are taken apart by a
# regular expression, in C++, which knows JSON's grammar without escapes and nesting. All others are parsed.
_STRING = r'"[^"\\\x00-\x1f]*"'
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_PLAIN_VALUE = f"{_STRING}|{_NUMBER}|true|false|null"
_PLAIN_NAME = re.compile(r'[^"\\\x00-\x1f]+')
_MAX_MEMBERS = 100  # of an expression


def open_file(settings: ReadSettings, file: LandedFile, path: StorePath) -> LocalFile:
    """Return the rows of a JSON file.

    Args:
        settings: The reader's settings.
        file: The file as landed.
        path: Where it is.

    Raises:
        DataRefused: The file is not UTF-8, or is cut short; or, when its rows are read, none has a required column.
        NeedsSparkError: The schema has types that only Spark reads.
    """
    json_reader.require_utf8(file, path)
    in_name = settings.name_texts(file)
    columns = {
        field.name: column_of_name(settings, n, field.dataType, in_name[field.name])
        if field.name in in_name
        else _column_sql(settings, n, field.dataType)
        for n, field in enumerate(settings.declared)
    }
    objects = json_reader.split_objects(path)
    reader = _JsonReader(settings, path, objects, in_name)
    opened = LocalFile(
        columns,
        lambda: reader.read(opened),
        reader.received,
        record_count=None if objects is None else len(objects),
        in_name=in_name,
    )
    return opened


def _column_sql(settings: ReadSettings, n: int, data_type: T.DataType) -> LocalColumn:
    """Return the SQL for a member; a locale applies to numbers in quotes only."""
    options = settings.table.options
    without_locale = {name: value for name, value in options.items() if name.lower() != "locale"}
    text, is_localized = f"c{n}", isinstance(data_type, T.NumericType) and len(without_locale) < len(options)
    forms = [without_locale, options] if is_localized else [options]
    casts = [cast_sql(text, data_type, settings.time_zone, form) for form in forms]
    faults = [literal(type_fault(data_type, form)) for form in forms]
    if None in casts:
        raise NeedsSparkError
    value, fault = casts[0], faults[0]
    if is_localized:
        value, fault = (f"CASE WHEN q{n} THEN {by} ELSE {plain} END" for plain, by in (casts, faults))
    is_wrong = f"v{n} IS NULL AND {text} IS NOT NULL"
    return LocalColumn(text, in_range_sql(str(value), data_type), f"CASE WHEN {is_wrong} THEN {fault} END")


class _JsonReader:
    """Reads the objects of one file."""

    def __init__(
        self, settings: ReadSettings, path: StorePath, objects: list[str] | None, in_name: Mapping[str, str]
    ) -> None:
        self._settings, self._path, self._objects, self._in_name = settings, path, objects, in_name
        names, declared = settings.names_in_files, settings.declared.names
        self._positions = {names[column].lower(): n for n, column in enumerate(declared) if column in names}
        self._width = len(declared)
        self._nulls = [settings.table.null_texts(name) for name in declared]
        types = [field.dataType for field in settings.declared]
        has_locale = any(name.lower() == "locale" for name in settings.table.options)
        self._localized = [n for n, t in enumerate(types) if has_locale and isinstance(t, T.NumericType)]
        self._names_seen: set[str] = set()
        self._by_names: dict[tuple[str, ...], list[tuple[int, int]] | None] = {}

    def read(self, file: LocalFile) -> Iterator[pa.RecordBatch]:
        """Yield the members that the schema names as `c0`, `c1` and so on, and whether they are in quotes as `q0`.

        Args:
            file: Gets the lines that are no object, and the columns that are unknown or missing.
        """
        file.broken.clear()
        for texts in self._text_arrays():
            yield self._batch(texts, file.broken)
        spellings: dict[str, set[str]] = {}
        for name in self._names_seen:
            spellings.setdefault(name.lower(), set()).add(name)
        file.missing_columns, file.unknown_columns = json_reader.check_members(self._settings, spellings, self._path)

    def received(self, rows: Collection[int]) -> dict[int, str]:
        """Return the text of the objects at these positions."""
        objects = (text for text in self._texts() if self._parse(text) is not None)
        wanted = set(rows)
        return {n: json_reader.with_members(text, self._in_name) for n, text in enumerate(objects) if n in wanted}

    def _texts(self) -> Iterator[str]:
        if self._objects is not None:
            yield from self._objects
            return
        with self._path.open(encoding="utf-8-sig") as file:
            for line in file:
                if (text := line.removesuffix("\n")).strip(" "):
                    yield text

    def _text_arrays(self) -> Iterator[pa.StringArray]:
        """Yield the texts of `_texts`, and empty lines, without making strings of Python of them."""
        if self._objects is not None:
            objects = iter(self._objects)
            while some := list(islice(objects, _BATCH_ROWS)):
                yield pa.array(some, pa.string())
            return
        with self._path.open("rb") as file:
            rest = file.read(len(_BOM)).removeprefix(_BOM)
            while block := file.read(_BLOCK_BYTES):
                content = rest + block
                end = content.rfind(b"\n") + 1
                if end:
                    yield _split_lines(content[:end])
                rest = content[end:]
            if rest:
                yield _split_lines(rest + b"\n")

    def _batch(self, texts: pa.StringArray, broken: list[BrokenRow]) -> pa.RecordBatch:
        plain = self._match_plain_objects(texts)
        others = range(len(texts)) if plain is None else pc.indices_nonzero(plain.is_null()).to_pylist()
        width = self._width
        rows: list[list[str | None]] = []
        quoted: list[list[bool]] = []
        parsed: list[int] = []
        removed: list[int] = []
        for n in others:
            text = texts[n].as_py().removesuffix("\n")
            values = self._parse(text) if text.strip(" ") else None
            if values is None:
                removed.append(n)
                if text.strip(" "):
                    broken.append(BrokenRow(text, text, json_reader.NOT_AN_OBJECT))
                continue
            row: list[str | None] = [None] * width
            for position, value in values:
                is_null = type(value) is str and value in self._nulls[position]  # a number is no string
                row[position] = None if is_null else value
            rows.append(row)
            parsed.append(n)
            if self._localized:
                quoted.append([row[n] is not None and type(row[n]) is str for n in self._localized])
        fields = zip(*rows, strict=True) if rows else ([] for _ in range(width))
        arrays = [pa.array(field, pa.string()) for field in fields]
        names = [f"c{n}" for n in range(width)]
        if self._localized:
            flags = zip(*quoted, strict=True) if quoted else ([] for _ in self._localized)
            arrays += [pa.array(flag, pa.bool_()) for flag in flags]
            names += [f"q{n}" for n in self._localized]
        if plain is not None:
            arrays = _merged(self._plain_columns(plain), arrays, parsed, removed)
        return pa.RecordBatch.from_arrays(arrays, names=names)

    def _match_plain_objects(self, texts: pa.StringArray) -> pa.StructArray | None:
        """Return the members of the objects that have the form of the first one; null for each other text.

        Each member is as it is written, with its quotes, under the name `c` and its position.

        Returns:
            None if the first text is no object of plain values.
        """
        try:
            members = _DECODER.decode(texts[0].as_py())
        except (IndexError, ValueError, RecursionError):
            return None
        if type(members) is not _Members or not 0 < len(members) <= _MAX_MEMBERS:
            return None
        names = [name for name, _ in members]
        if not all(map(_PLAIN_NAME.fullmatch, names)) or (layout := self._layout(tuple(names))) is None or not layout:
            return None
        captured = dict(layout)
        space = r"[ \t]*" if self._objects is None else r"[ \t\r\n]*"  # a line of its own ends at the first line break
        parts = [
            f'"{re.escape(name)}"{space}:{space}'
            + (f"(?P<c{captured[n]}>{_PLAIN_VALUE})" if n in captured else f"(?:{_PLAIN_VALUE})")
            for n, name in enumerate(names)
        ]
        pattern = rf"^{space}\{{{space}{f'{space},{space}'.join(parts)}{space}\}}{space}\n?$"
        try:
            return pc.extract_regex(texts, pattern)
        except pa.ArrowInvalid:  # the expression takes too much memory
            return None

    def _plain_columns(self, plain: pa.StructArray) -> list[pa.Array]:
        """Return the columns of objects of plain values, as `read` yields them."""
        written = [
            plain.field(f"c{n}") if plain.type.get_field_index(f"c{n}") >= 0 else None for n in range(self._width)
        ]
        nothing = pa.nulls(len(plain), pa.string())
        values, in_quotes = [], []
        for column, nulls in zip(written, self._nulls, strict=True):
            text = nothing if column is None else column
            is_text = pc.starts_with(text, '"')
            value = pc.if_else(is_text, pc.utf8_slice_codeunits(text, 1, -1), text)
            is_null = pc.equal(text, "null")
            if nulls:
                is_null = pc.or_(is_null, pc.and_(is_text, pc.is_in(value, pa.array(nulls, pa.string()))))
            values.append(pc.if_else(is_null, nothing, value))
            in_quotes.append(pc.fill_null(is_text, False))
        return [*values, *(in_quotes[n] for n in self._localized)]

    def _parse(self, text: str) -> list[tuple[int, str | None]] | None:
        """Return the position and the text of each declared member; None if the text is not one object."""
        try:
            members = _DECODER.decode(text)
        except (ValueError, RecursionError):
            return None
        if type(members) is not _Members:
            return None
        names = tuple(name for name, _ in members)
        if names not in self._by_names:
            self._by_names[names] = self._layout(names)
        layout = self._by_names[names]
        if layout is None:
            return None
        if "\\u" in text and not is_encodable(members):
            return None
        values: list[tuple[int, str | None]] = []
        for n, position in layout:
            value = members[n][1]
            if value is None or isinstance(value, str):
                values.append((position, value))
            elif isinstance(value, bool):
                values.append((position, _Number(_LITERALS[value])))
            else:  # an array or an object: its own text
                raw = json_fields.members(text)
                if raw is None:
                    return None
                values.append((position, _Number(raw[members[n][0]] or "")))
        return values

    def _layout(self, names: tuple[str, ...]) -> list[tuple[int, int]] | None:
        """Return where the declared members are among these names, and their positions; None if one occurs twice."""
        lower = [name.lower() for name in names]
        if len(set(lower)) < len(lower):
            return None
        self._names_seen.update(names)
        return [(n, self._positions[name]) for n, name in enumerate(lower) if name in self._positions]


def _split_lines(content: bytes) -> pa.StringArray:
    """Return the lines of a text, each with the line break at its end, as a file that is opened as text has them."""
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n")) + 1
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(content))


def _merged(plain: list[pa.Array], parsed: list[pa.Array], positions: list[int], removed: list[int]) -> list[pa.Array]:
    """Return columns with the parsed values at their positions, and without the removed rows."""
    if not positions and not removed:
        return plain
    is_parsed, is_kept = np.zeros(len(plain[0]), bool), np.ones(len(plain[0]), bool)
    is_parsed[positions], is_kept[removed] = True, False
    mask, kept = pa.array(is_parsed), pa.array(is_kept)
    return [pc.replace_with_mask(p, mask, q).filter(kept) for p, q in zip(plain, parsed, strict=True)]
