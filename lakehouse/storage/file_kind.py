"""Recognises a file that is of another format than its table says, by its first bytes, to name it in a message."""

from __future__ import annotations

import re

from lakehouse.errors import DataRefused
from lakehouse.storage.file_io import StorePath

_UNPACKED = "call it .{0} at the source, and have `file` match that name: it is unpacked while it is read"
_SHEET = "have the source export its sheet in the format of the table"
_PAGE = "look at it in a browser: a download that needs a login, or failed, is often such a page; then deliver the file"
_OTHER = "have the source deliver the format of the table, or set `format`"
_KINDS = (
    (re.compile(rb"PK\x03\x04.{26,80}(?:xl/|\[Content_Types\])", re.DOTALL), "an Excel workbook", _SHEET),
    (re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "an Excel workbook or another document of Office", _SHEET),
    (re.compile(rb"PK(?:\x03\x04|\x05\x06)"), "a zip archive", _UNPACKED.format("zip")),
    (re.compile(rb"\x1f\x8b\x08"), "a gzip file", _UNPACKED.format("gz")),
    (re.compile(rb"BZh[1-9]1AY"), "a bzip2 file", "have the source pack it as .gz or .zip"),
    (re.compile(rb"\xfd7zXZ\x00"), "an xz file", "have the source pack it as .gz or .zip"),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), "a 7z archive", "have the source pack it as .gz or .zip"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "a zstd file", "have the source pack it as .gz or .zip"),
    (re.compile(rb"Rar!\x1a\x07"), "a rar archive", "have the source pack it as .gz or .zip"),
    (
        re.compile(rb"PAR1[\x00-\x1f]"),
        "a Parquet file",
        "set `format: parquet`, or have the source deliver the format of the table",
    ),
    (re.compile(rb"Obj\x01"), "an Avro file", _OTHER),
    (re.compile(rb"ORC[\x00-\x1f\x80-\xff]"), "an ORC file", _OTHER),
    (re.compile(rb"SQLite format 3\x00"), "a SQLite database", _OTHER),
    (re.compile(rb"%PDF-"), "a PDF document", _OTHER),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE), "an HTML page", _PAGE),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml\b", re.IGNORECASE), "an XML document", _OTHER),
)
_HEAD_BYTES = 512


def other_format(path: StorePath, expected: str) -> DataRefused | None:
    """Return the refusal of a file of another format, by its first bytes; None if they are of none that is known.

    Args:
        path: The file.
        expected: The format that the table names: `csv`, `json` or `parquet`.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for pattern, kind, next_step in _KINDS:
        if pattern.match(head) and not (expected == "parquet" and head.startswith(b"PAR1")):
            suffix = path.name.rpartition(".")[2]
            return DataRefused(
                f"{path.name} is {kind}, called .{suffix}" if "." in path.name else f"{path.name} is {kind}",
                expected=f"a file in the format {expected}",
                where=str(path),
                next_step=next_step,
            )
    return None
