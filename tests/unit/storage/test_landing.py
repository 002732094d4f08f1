"""The landing zone keeps received files byte for byte, and a snapshot is visible only when it is complete."""

from __future__ import annotations

import hashlib
import io
import json
import re
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.config import Table
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake

TIME = datetime(2025, 10, 3, 17, 5, 52, tzinfo=timezone.utc)
LATER = datetime(2025, 10, 4, tzinfo=timezone.utc)
CHUNK = landing._CHUNK  # the cases below are around the end of a chunk


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def write_source(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize(
    "content",
    [b"", b"id,v\r\n1,\xe3\x00\xff\n", b"\xef\xbb\xbfid\n", bytes(range(256)) * (CHUNK // 256) + b"one more"],
    ids=["empty", "not text", "BOM", "more than a chunk"],
)
def test_bytes_land_unchanged_with_their_hash(lake: Lake, source: Path, content: bytes) -> None:
    landed = landing.land_snapshot(lake, "clientes", TIME, [write_source(source, "clientes.csv", content)])

    (path,), (file,) = landed.paths, landed.files
    assert path.read_bytes() == content
    assert path == lake.landing_path("clientes") / "20251003_170552" / "clientes.csv"
    assert (file.name, file.size) == ("clientes.csv", len(content))
    assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_the_manifest_restores_the_snapshot(lake: Lake, source: Path) -> None:
    files = [write_source(source, "a.csv", b"id\n1\n"), write_source(source, "b.csv", b'id\n"2"\n')]
    landed = landing.land_snapshot(lake, "clientes", TIME, files)

    manifest = json.loads((landed.folder / landing.MANIFEST).read_text(encoding="utf-8"))
    assert manifest["table"] == "clientes"
    assert [file["name"] for file in manifest["files"]] == ["a.csv", "b.csv"]
    assert landing.load_snapshot(landed.folder, "clientes", TIME) == landed
    assert landed.file_hashes == tuple((file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files)


@pytest.mark.parametrize(
    ("content", "has_quote", "is_utf8"),
    [
        (b"", False, True),
        (b"id,v\n1,a'b\n", False, True),
        (b'id,v\n1,"a"\n', True, True),
        (b"a" * CHUNK + b'"', True, True),
        (b'"' + b"a" * CHUNK, True, True),
        ("São".encode(), False, True),
        ("São".encode("latin-1"), False, False),
        ("ids".encode("utf-16"), False, False),
        (b"a" * (CHUNK - 1) + "ã".encode(), False, True),
        (b"a" * (CHUNK - 2) + "\U0001f600".encode() + b'"', True, True),
        (b"a" * (CHUNK - 1) + b"\xc3", False, False),
        (b"a" * CHUNK + b"\xa3", False, False),
        (b"\xe3" + b"a" * CHUNK + b'"', True, False),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else None,
)
def test_quotes_and_encoding_are_detected_at_any_position(
    source: Path, content: bytes, has_quote: bool, is_utf8: bool
) -> None:
    file = landing.inspect_file(write_source(source, "f.csv", content))

    assert (file.has_quote, file.is_utf8) == (has_quote, is_utf8)


@given(
    st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"bc" * 9, b"d" * 30])).map(b"".join),
    st.integers(1, 40),
)
def test_a_line_longer_than_what_is_read_at_a_time_is_measured(content: bytes, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landing, "_CHUNK", size)
        reader = landing.HashingReader(io.BytesIO(content))
        while reader.read(size):
            pass

        longest = max(map(len, re.split(rb"[\r\n]", content)))
        assert reader.to_landed_file("a.csv", "").longest_line == (longest if longest > size else 0)


def test_files_of_a_killed_run_are_no_snapshot_and_are_replaced(lake: Lake, source: Path) -> None:
    unfinished = lake.landing_path("clientes") / ".20251003_170552.partial"
    unfinished.mkdir(parents=True)
    write_source(unfinished, "clientes.csv", b"id\n1")
    write_source(unfinished, "from another glob.csv", b"id\n")

    assert landing.list_snapshots(lake, "clientes") == []
    assert landing.newest_snapshot(lake, "clientes") is None

    landed = landing.land_snapshot(lake, "clientes", TIME, [write_source(source, "clientes.csv", b"id\n1\n2\n")])

    assert sorted(path.name for path in landed.folder.iterdir()) == [landing.MANIFEST, "clientes.csv"]
    assert landed.paths[0].read_bytes() == b"id\n1\n2\n"
    assert [path.name for path in lake.landing_path("clientes").iterdir()] == ["20251003_170552"]


def test_a_failed_copy_leaves_no_snapshot(lake: Lake, source: Path) -> None:
    files = [write_source(source, "a.csv", b"id\n1\n"), source / "vanished.csv"]

    with pytest.raises(FileNotFoundError):
        landing.land_snapshot(lake, "clientes", TIME, files)

    assert landing.list_snapshots(lake, "clientes") == []


def test_snapshots_of_a_table_are_listed_oldest_first(lake: Lake, source: Path) -> None:
    file = write_source(source, "clientes.csv", b"id\n1\n")
    newer = landing.land_snapshot(lake, "clientes", LATER, [file])
    older = landing.land_snapshot(lake, "clientes", TIME, [])
    landing.land_snapshot(lake, "produtos", TIME, [file])
    (lake.landing_path("clientes") / "notes").mkdir()

    assert landing.list_snapshots(lake, "clientes") == [older, newer]
    assert landing.newest_snapshot(lake, "clientes") == newer
    assert landing.list_snapshots(lake, "nobody") == []
    assert landing.newest_snapshot(lake, "nobody") is None
    assert older.files == ()


def test_the_fingerprint_depends_on_names_bytes_and_settings_and_not_on_the_time(lake: Lake, source: Path) -> None:
    settings = {"file": "*.csv", "format": "csv", "schema": "id STRING", "keys": ["id"]}
    table = Table.model_validate(settings)
    landed = landing.land_snapshot(lake, "items", TIME, [write_source(source, "a.csv", b"id\n1\n")])
    later = landing.land_snapshot(lake, "items", LATER, [source / "a.csv"])
    renamed = landing.land_snapshot(lake, "renamed", TIME, [write_source(source, "b.csv", b"id\n1\n")])
    changed = landing.land_snapshot(lake, "changed", TIME, [write_source(source, "a.csv", b"id\n2\n")])

    fingerprint = landing.fingerprint(landed, table, "UTC")
    assert landing.fingerprint(later, table, "UTC") == fingerprint
    others = {
        landing.fingerprint(renamed, table, "UTC"),
        landing.fingerprint(changed, table, "UTC"),
        landing.fingerprint(landed, Table.model_validate(settings | {"options": {"sep": ";"}}), "UTC"),
        landing.fingerprint(landed, table, "America/Sao_Paulo"),
    }
    assert len(others) == 4
    assert fingerprint not in others


@pytest.mark.parametrize("manifest", [None, b"", b"{", b"[]", b'{"files": [{"name": 1}]}', b"[" * 100_000])
def test_a_snapshot_whose_manifest_is_lost_or_damaged_lands_again(
    lake: Lake, source: Path, manifest: bytes | None
) -> None:
    file = write_source(source, "clientes.csv", b"id\n1\n")
    landed = landing.land_snapshot(lake, "clientes", TIME, [file])
    path = Path(str(landed.folder), landing.MANIFEST)
    path.unlink() if manifest is None else path.write_bytes(manifest)
    assert landing.list_snapshots(lake, "clientes") == []
    assert landing.find_snapshot(lake, "clientes", TIME) is None
    assert landing.newest_snapshot(lake, "clientes") is None

    assert landing.land_snapshot(lake, "clientes", TIME, [file]) == landed
    assert landing.list_snapshots(lake, "clientes") == [landed]
