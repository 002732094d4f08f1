"""A file of another format than its table's is named by its first bytes."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.storage.file_kind import other_format


def packed(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return out.getvalue()


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"id": [1]}), out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "kind", "advice"),
    [
        (packed(clientes=b"id\n1\n"), "a zip archive", "call it .zip"),
        (packed(xl__workbook=b"<x/>"), "an Excel workbook", "export its sheet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "an Excel workbook or another", "export its sheet"),
        (gzip.compress(b"id\n1\n"), "a gzip file", "call it .gz"),
        (parquet(), "a Parquet file", "format: parquet"),
        (b"\xef\xbb\xbf \n<!DOCTYPE html><html>", "an HTML page", "needs a login"),
        (b"<HTML lang=pt>", "an HTML page", "needs a login"),
        (b"<?xml version='1.0'?>", "an XML document", "format"),
        (b"%PDF-1.7", "a PDF document", "format"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # a packed file has the time in it
)
def test_a_file_of_another_format_is_named_with_what_to_do(
    tmp_path: Path, content: bytes, kind: str, advice: str
) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(content)
    refused = other_format(file, "csv")

    assert refused is not None
    assert refused.found.startswith(f"t.csv is {kind}")
    assert refused.found.endswith(", called .csv")
    assert advice in refused.next_step


@pytest.mark.parametrize(
    "content", [b"", b"id,qty\n1,2\n", b"P", b"PK,qty\n1,2\n", b"<a>,b\n", b'{"id": 1}', b"ORCAMENTO,x\n", b"PAR1,x\n"]
)
def test_other_files_are_of_no_other_format(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(content)

    assert other_format(file, "csv") is None


def test_a_parquet_table_may_have_parquet_files(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    file.write_bytes(parquet())

    assert other_format(file, "parquet") is None
