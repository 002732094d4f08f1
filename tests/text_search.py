"""Finds words in the files of a folder: in their bytes, in members of archives and in values of Parquet files."""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pyarrow.parquet as pq


def find_words(folder: Path, words: Iterable[str], skipped_folders: Iterable[str] = ()) -> list[str]:
    """Return `file: word` for each word that a file below `folder` contains.

    Args:
        passed_over: Folders below it, by their paths, that are not searched.
    """
    skipped = [folder / name for name in skipped_folders]
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not any(p.is_relative_to(s) for s in skipped)]
    wanted = list(words)
    return [f"{p.relative_to(folder)}: {word}" for p in files for word in wanted if _contains(p, word)]


def find_words_in_lake(lake: Path, words: Iterable[str]) -> list[str]:
    """Return the same for a lake, without statistics in Delta's logs, which expire as `forget` reports."""
    wanted = list(words)
    return [p for p in find_words(lake, wanted) if not _is_only_in_statistics(lake / p.rpartition(": ")[0], wanted)]


def _is_only_in_statistics(path: Path, words: list[str]) -> bool:
    if "_delta_log" not in path.parts:
        return False
    if path.suffix in (".crc", ".parquet"):  # checksums and checkpoints repeat the statistics
        return True
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    bare = [{k: {n: v for n, v in e.items() if n != "stats"} for k, e in entry.items()} for entry in entries]
    return not any(word in json.dumps(bare) for word in words)


def encoded_forms(secret: str) -> list[str]:
    """Return a secret as plain text, URL-encoded, in hex, and in base64 at each of its three alignments."""
    raw = secret.encode()
    shifted = [base64.b64encode(b"\0" * n + raw).decode()[n + bool(n) : -4] for n in range(3)]
    return list(dict.fromkeys([secret, quote(secret, safe=""), quote_plus(secret), raw.hex(), *shifted]))


def written_forms(value: str) -> list[str]:
    """Return a value as it stands in text, in CSV, in JSON, in URLs and in HTML."""
    in_json = [json.dumps(value, ensure_ascii=ascii)[1:-1] for ascii in (True, False)]
    forms = [value, value.replace('"', '""'), *in_json, quote(value, safe=""), quote_plus(value), html.escape(value)]
    return list(dict.fromkeys(forms))


def _contains(path: Path, word: str) -> bool:
    return any(word.encode() in text for text in file_texts(path))


def file_texts(path: Path) -> Iterator[bytes]:
    """Yield the content of a file: its bytes, and their decoded forms."""
    raw = path.read_bytes()
    yield raw
    if raw[:4] == b"PAR1":
        table = pq.ParquetFile(io.BytesIO(raw))
        yield json.dumps(table.read().to_pylist(), ensure_ascii=False, default=_to_text).encode()
        yield repr(table.metadata.to_dict()).encode()
    if raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
    if raw[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    if not raw.isascii():
        yield raw.decode("utf-16", errors="ignore").encode()


def _to_text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
