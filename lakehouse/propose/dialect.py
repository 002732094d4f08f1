"""Detects how a table's CSV files are written: encoding, separator, quote, escape, header, and lines before it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lakehouse.propose.signs import VALUE, UnusableFile, find_signs, split_lines, title_lines
from lakehouse.propose.sources import shown
from lakehouse.storage.csv_dialect import Dialect
from lakehouse.text import counted

_SAMPLE_BYTES = 1 << 19
_CHUNK_BYTES = 1 << 20
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\r\f"))
_MIN_BYTES_OF_TEXT = 50
_UTF8_SEQUENCE = re.compile(rb"[\xc3-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_UNDEFINED_IN_1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
_YEAR = re.compile(r"(19|20)\d\d")
_GAP = re.compile(r"\S {2,}\S")


@dataclass
class DetectedDialect:
    """How the CSV files of a table are written.

    Attributes:
        options: The reader options that differ from the defaults.
        notes: The doubts, and why.
        skip_lines: The number of lines before the header.
        first_record: The fields of the first record of the newest file, which is the header if there is one.
    """

    options: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    skip_lines: int = 0
    first_record: list[str] = field(default_factory=list)

    @property
    def reader(self) -> Dialect:
        """The product's own reader with these options."""
        return Dialect.from_options(self.options)


def detect_dialect(paths: Sequence[Path]) -> DetectedDialect:
    """Return how files are written, judging by all their bytes for the encoding and by the beginnings for the rest.

    Args:
        paths: The unpacked files of a table, oldest first.

    Raises:
        UnusableFile: All files are empty, or there is no consistent way to read them.
    """
    filled = [path for path in paths if path.stat().st_size]
    if not filled:
        raise UnusableFile("the file is empty" if len(paths) == 1 else "all files are empty")
    dialect = DetectedDialect()
    _detect_encoding(filled, dialect)
    encoding = dialect.options.get("encoding", "UTF-8")
    samples = [_sample(path, encoding) for path in filled]
    if re.match(r"\s*<(!doctype|html|\?xml)", samples[-1][0], re.IGNORECASE):
        raise UnusableFile("it is an HTML or XML page")
    samples = _cut_titles(samples, filled, dialect)
    newest, is_complete = samples[-1]
    records = _detect_signs(newest, is_complete, filled[-1].name, dialect)
    dialect.first_record = records[0]
    _check_width(records)
    _detect_header(records, [_first_line(text) for text, _ in samples], dialect)
    return dialect


def transcode(path: Path, encoding: str, target: Path) -> None:
    """Copy a file as UTF-8; bytes that are not valid in its encoding become U+FFFD.

    Args:
        path: The file.
        encoding: Its encoding.
        target: The copy.
    """
    with (
        path.open(encoding=encoding, errors="replace", newline="") as source,
        target.open("w", encoding="utf-8", newline="") as out,
    ):
        while text := source.read(_CHUNK_BYTES):
            out.write(text)


def _detect_encoding(paths: Iterable[Path], dialect: DetectedDialect) -> None:
    found: dict[str, None] = {}
    foreign: dict[tuple[str, str], Counter[str]] = {}
    for path in paths:
        found.pop(encoding := _encoding(path, dialect, foreign), None)
        found[encoding] = None
    for (name, assumed), letters in foreign.items():
        common = " ".join(sorted(char for char, _ in letters.most_common(8)))
        dialect.notes.append(
            f"encoding: {shown(name)} is not UTF-8; {assumed} is assumed, in which its letters beyond ASCII"
            f" are {common}"
        )
    found.pop("ASCII", None)
    if not found:
        return
    *others, chosen = found
    if others:
        dialect.notes.append(
            f"encoding: files are in {' and '.join(found)}, and one encoding is read; rows of the others with letters"
            " beyond ASCII go to quarantine"
        )
    if chosen != "UTF-8":
        dialect.options["encoding"] = chosen


def _encoding(path: Path, dialect: DetectedDialect, foreign: dict[tuple[str, str], Counter[str]]) -> str:
    """Return the encoding of a file; ASCII if any encoding reads it the same.

    Of a file in an encoding of single bytes, `foreign` counts the letters beyond ASCII, by its name and encoding.
    """
    with path.open("rb") as file:
        head = file.read(_SAMPLE_BYTES)
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise UnusableFile("it is in UTF-32, which Spark does not read; deliver it in UTF-8")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    if head.startswith(b"PK\x03\x04"):
        raise UnusableFile("it is a zip archive by its content; a name that ends in .zip has it unpacked")
    if head.startswith(b"\x1f\x8b"):
        raise UnusableFile("it is packed with gzip by its content; a name that ends in .gz has it unpacked")
    if re.match(rb"%PDF|\x89PNG|\xd0\xcf\x11\xe0|PAR1", head):
        raise UnusableFile("it is no text by its content")
    if len(head) > 3 and (nul := head.count(0)) > len(head) // 4:
        dialect.notes.append("encoding: UTF-16 without a byte order mark, judging by its zero bytes")
        return "UTF-16LE" if head[1::2].count(0) > nul // 2 else "UTF-16BE"
    if len(head.translate(None, _CONTROL_BYTES)) < len(head) * 0.95 and len(head) > _MIN_BYTES_OF_TEXT:
        raise UnusableFile("it is no text: it has many control characters")
    return _single_byte_or_utf8(path, dialect, foreign)


def _single_byte_or_utf8(path: Path, dialect: DetectedDialect, foreign: dict[tuple[str, str], Counter[str]]) -> str:
    invalid_at, sequences, high_bytes, has_undefined, letters = -1, 0, 0, False, Counter[str]()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK_BYTES) + file.readline(), b""):
            if chunk.isascii():
                continue
            beyond = chunk.translate(None, bytes(range(128)))
            high_bytes += len(beyond)
            sequences += sum(len(match) for match in _UTF8_SEQUENCE.findall(chunk))
            has_undefined = has_undefined or bool(_UNDEFINED_IN_1252.search(beyond))
            letters.update(beyond[:1000].decode("cp1252", errors="ignore"))
            try:
                chunk.decode("utf-8")
            except UnicodeDecodeError:
                invalid_at = max(invalid_at, 0)
    if not high_bytes:
        return "ASCII"
    if invalid_at < 0:
        return "UTF-8"
    if sequences > 0.9 * high_bytes:
        dialect.notes.append(
            f"encoding: {shown(path.name)} is UTF-8 except for {high_bytes - sequences} bytes, whose rows go to"
            " quarantine"
        )
        return "UTF-8"
    # Without a byte that one of the two does not define, both read the same; windows-1252 finds foreign bytes later.
    chosen = "ISO-8859-1" if has_undefined else "windows-1252"
    counts = foreign.setdefault((path.name, chosen), Counter())
    counts.update({char: count for char, count in letters.items() if char.isprintable()})
    return chosen


def _sample(path: Path, encoding: str) -> tuple[str, bool]:
    """Return the beginning of a file up to the end of a line, and whether it is the whole file."""
    with path.open(encoding="utf-8-sig" if encoding == "UTF-8" else encoding, errors="replace", newline="") as file:
        text = file.read(_SAMPLE_BYTES)
        is_complete = not file.read(1)
    return (text if is_complete else text[: text.rfind("\n") + 1] or text), is_complete


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")


def _cut_titles(
    samples: list[tuple[str, bool]], paths: Sequence[Path], dialect: DetectedDialect
) -> list[tuple[str, bool]]:
    """Set `skip_lines`, and return the samples without these lines.

    Raises:
        UnusableFile: The files have different numbers of lines before the header, and one number is read.
    """
    counts = [title_lines(*sample, path.name) for sample, path in zip(samples, paths, strict=True)]
    if not any(counts):
        return samples
    if len(set(counts)) > 1:
        by_file = ", ".join(f"{shown(path.name)} {count}" for path, count in zip(paths, counts, strict=True))
        raise UnusableFile(f"its files have different numbers of lines before the header ({by_file})")
    dialect.skip_lines = counts[-1]
    dialect.notes.append(f"skip_lines: the header seems to be line {counts[-1] + 1}, behind a title")
    return [("".join([*split_lines(text)][counts[-1] :]), is_complete) for text, is_complete in samples]


def _detect_signs(text: str, is_complete: bool, name: str, dialect: DetectedDialect) -> list[list[str]]:
    """Set `sep`, `quote` and `escape`, and return the records of the sample."""
    sep, quote, escape, records, _ = find_signs(text, is_complete, name)
    if sep != ",":
        dialect.options["sep"] = r"\t" if sep == "\t" else sep
    if quote != '"':
        dialect.options["quote"] = quote
        dialect.notes.append(
            "quote: fields are in single quotes" if quote else 'quote: " is plain text, since it is not used in pairs'
        )
    elif escape == "\\":
        dialect.options["escape"] = "\\"
    return records


def _check_width(records: list[list[str]]) -> None:
    """Raise if the first record does not have the fields of the others: it is no header, and no title either."""
    width, count = Counter(map(len, records)).most_common(1)[0]
    if width == 1 and all(record and _GAP.search(record[0].strip()) for record in records[:20]):
        raise UnusableFile("its fields seem to have fixed widths, which are not read: export it with a separator")
    if len(records) > 3 and len(records[0]) != width and count > len(records) / 2:
        raise UnusableFile(
            f"its first line has {counted(len(records[0]), 'field')} and most lines have {width}: correct the header,"
            " or write the table by hand, with `skip_lines` if lines before the header are no data"
        )
    if len(records[0]) > 1 and sum(bool(field.strip()) for field in records[0]) <= len(records[0]) / 2:
        raise UnusableFile("most names in its first line are blank: give each column a name")


def _detect_header(records: list[list[str]], first_lines: list[str], dialect: DetectedDialect) -> None:
    """Set `header: false` if the first record looks like the others."""
    header, rows = records[0], [record for record in records[1:1000] if len(record) == len(records[0])]
    names = [name.strip() for name in header]
    typed_names = [name for name in names if VALUE.fullmatch(name) and not _YEAR.fullmatch(name)]
    if not typed_names:
        if header in rows:
            dialect.notes.append(
                "header: the first line occurs again below, as in files put together; it is a row there"
            )
            return
        columns = list(zip(*rows, strict=True))
        is_repeated = bool(rows) and all(name in column for name, column in zip(header, columns, strict=True) if name)
        if is_repeated and any(names) and (len(set(first_lines)) > 1 or len(rows) > 1):
            _set_headless(dialect, "each text of the first line comes again below it")
        return
    below = [
        sum(bool(VALUE.fullmatch(value.strip())) for value in column) > len(column) / 2
        for column in zip(*rows, strict=True)
    ]
    if rows and not any(is_typed and not VALUE.fullmatch(n) for is_typed, n in zip(below, names, strict=True)):
        _set_headless(dialect, "the first line has values, such as numbers or dates")
    elif not rows and len(typed_names) > len(names) / 2:
        _set_headless(dialect, "the only line has values")


def _set_headless(dialect: DetectedDialect, reason: str) -> None:
    dialect.options["header"] = "false"
    dialect.notes.append(f"header: none, since {reason}; the columns are numbered, give them names in `schema`")
