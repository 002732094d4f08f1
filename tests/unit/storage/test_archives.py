"""Archives are unpacked as if their files had landed by themselves, or not at all."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import DataRefused
from lakehouse.storage import archives, landing

TEXT = b'id,v\n1,"S\xe3o"\n'
Member = str | zipfile.ZipInfo


def zipped(*members: tuple[Member, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return data.getvalue()


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link.csv")
    info.external_attr = 0o120777 << 16
    return info


def encrypted(content: bytes) -> bytes:
    """Return a zip whose only member is marked as encrypted, in both places."""
    data = bytearray(zipped(("a.csv", content)))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


Unpack = Callable[..., dict[str, bytes]]


@pytest.fixture
def unpack(tmp_path: Path) -> Unpack:
    def one(content: bytes, name: str = "items.zip") -> dict[str, bytes]:
        packed, folder = tmp_path / name, tmp_path / "out" / "here"
        packed.write_bytes(content)
        folder.mkdir(parents=True)
        unpacked = list(archives.unpack(packed, landing.inspect_file(packed), folder))
        for file, path in unpacked:
            assert path == folder / file.name
            as_landed = landing.inspect_file(path)
            assert (file.size, file.sha256) == (as_landed.size, as_landed.sha256)
            assert (file.has_quote, file.is_utf8) == (as_landed.has_quote, as_landed.is_utf8)
        return {file.name: path.read_bytes() for file, path in unpacked}

    return one


def rejection_reason(unpack: Unpack, tmp_path: Path, content: bytes, name: str = "items.zip") -> str:
    """Return the reason of the rejection, and check that no file was written outside the folder."""
    with pytest.raises(DataRefused) as error:
        unpack(content, name)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "out"])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["here"]
    assert error.value.where == str(tmp_path / name)
    return error.value.found


def test_a_gzip_file_unpacks_to_one_file(unpack: Unpack) -> None:
    assert unpack(gzip.compress(TEXT), "items.csv.gz") == {"items.csv.gz/items.csv": TEXT}


def test_a_gzip_file_may_have_several_members(unpack: Unpack) -> None:
    assert unpack(gzip.compress(TEXT) + gzip.compress(b"2,b\n"), "A.GZ") == {"A.GZ/A": TEXT + b"2,b\n"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_unpacks_to_all_its_files_except_those_added_by_systems(unpack: Unpack, method: int) -> None:
    hidden = [("__MACOSX/._a.csv", b"x"), (".DS_Store", b"x"), ("sub/.hidden/b.csv", b"x"), ("sub/", b"")]
    content = zipped(("a.csv", TEXT), ("sub/b.csv", b"id\n"), *hidden, method=method)

    assert unpack(content) == {"items.zip/a.csv": TEXT, "items.zip/sub/b.csv": b"id\n"}


@pytest.mark.parametrize("cut", [1, 9, 20, 30])
def test_a_truncated_gzip_file_is_rejected(unpack: Unpack, tmp_path: Path, cut: int) -> None:
    assert "items.csv.gz is truncated or damaged" in rejection_reason(
        unpack, tmp_path, gzip.compress(TEXT)[:-cut], "items.csv.gz"
    )


def test_other_damage_is_detected(unpack: Unpack, tmp_path: Path) -> None:
    data = bytearray(gzip.compress(TEXT))
    data[-6] ^= 1  # the checksum

    assert "damaged" in rejection_reason(unpack, tmp_path, bytes(data), "items.csv.gz")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"id,v\n1,a\n", "damaged"),
        (b"", "damaged"),
        (zipped(("a.csv", TEXT))[:-10], "damaged"),
        (zipped(("a.csv", TEXT), method=zipfile.ZIP_STORED).replace(b"id,v", b"id,w", 1), "Bad CRC-32"),
        (zipped(), "contains no file"),
        (zipped((".DS_Store", b"")), "contains no file"),
        (zipped(("a.csv", b""), ("../evil.csv", b"x")), "'../evil.csv'"),
        (zipped(("a/../../evil.csv", b"x")), "not a valid name below its folder"),
        (zipped(("/evil.csv", b"x")), "'/evil.csv'"),
        (zipped(("C:\\evil.csv", b"x")), "not a valid name below its folder"),
        (zipped(("..\\evil.csv", b"x")), "not a valid name below its folder"),
        (zipped(("x" * 300, b"x")), "not a valid name below its folder"),
        (zipped((link(), b"/etc/passwd")), "'link.csv', a link"),
        (encrypted(TEXT), "'a.csv', which is encrypted"),
        (zipped(("a.csv", TEXT), ("b.zip", zipped(("c.csv", TEXT)))), "'b.zip', which is an archive itself"),
        (zipped(("a.csv", TEXT), method=zipfile.ZIP_BZIP2), "packed by method 12"),
        (zipped(("a.csv", b"x"), ("A.csv", b"y")), "several files with the same name"),
        (zipped(("a", b"x"), ("a/b.csv", b"y")), "a file and a folder with the same name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unsafe_zip_is_rejected_completely(unpack: Unpack, tmp_path: Path, content: bytes, reason: str) -> None:
    found = rejection_reason(unpack, tmp_path, content)

    assert found.startswith("items.zip ")
    assert reason in found
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file() and "CRC" not in reason] == []


def directory(entries: int, name: str = "a", stated: int | None = None, comment: bytes = b"") -> bytes:
    """Return a zip that has only a directory, with this many entries of one name."""
    filename = name.encode()
    numbers = (20, 3, 20, *[0] * 8, len(filename), 0, len(comment), 0, 0, 0, 0)
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", *numbers) + filename + comment
    count = min(entries if stated is None else stated, 0xFFFF)
    size = entries * len(entry)
    return entry * entries + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, 0, 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (directory(300_000), "contains more than 10,000 files"),
        (directory(150_000, stated=1), "contains more than 10,000 files"),
        (directory(12_000, "x/" * 20 + "a"), "contains more than 10,000 files"),
        (directory(8_000, "d/" * 450 + "a"), "a path of more than 32 parts"),
        (directory(100, "d/" * 32 + "a"), "a path of more than 32 parts"),
        (directory(100, "d/" * 32_000 + "a"), "a name of more than 1,000 bytes"),
        (directory(6, "\u20ac" * 334), "a name of more than 1,000 bytes"),
        (directory(3_000, comment=b"x" * 60_000), "names and comments of 171 MiB"),
        (directory(1, "__MACOSX/" + "d/" * 40 + "a"), "a path of more than 32 parts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_zip_with_too_many_or_too_long_names_is_rejected_at_once_and_within_100_mb(
    unpack: Unpack, tmp_path: Path, content: bytes, reason: str
) -> None:
    started = time.process_time()
    tracemalloc.start()
    try:
        found = rejection_reason(unpack, tmp_path, content)
        memory = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert reason in found
    assert len(found) < 300
    assert memory < 100 << 20
    assert time.process_time() - started < 5
    assert list((tmp_path / "out" / "here").iterdir()) == []


def test_a_name_at_the_limits_is_accepted(unpack: Unpack) -> None:
    deep, long = "d/" * 31 + "a.csv", "/".join(["x" * 199] * 5)

    assert unpack(zipped((deep, TEXT), (long, b"id\n"))) == {f"items.zip/{deep}": TEXT, f"items.zip/{long}": b"id\n"}


@pytest.mark.parametrize("name", ["bomb.gz", "bomb.zip"])
@pytest.mark.parametrize(("ceiling", "free"), [(1 << 30, 10 << 20), (3 << 30, 400 << 30)])
def test_an_archive_that_needs_more_than_the_disk_or_the_ceiling_is_rejected(
    unpack: Unpack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ceiling: int, free: int
) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", ceiling if free < ceiling else 9 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    zeros = bytes(16 << 20)

    found = rejection_reason(
        unpack, tmp_path, gzip.compress(zeros) if name == "bomb.gz" else zipped(("a", zeros)), name
    )

    assert found.endswith("90% of the free disk (9 MiB)" if free < ceiling else "unpacks to more than 0 GiB")
    assert sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file()) <= 9 << 20


def test_a_name_in_a_reason_is_printable(unpack: Unpack, tmp_path: Path) -> None:
    content = zipped(("../\x1b]52;c;aGk=\x07\u202e.csv", b"x"))

    assert "'../\\x1b]52;c;aGk=\\x07\\u202e.csv'" in rejection_reason(unpack, tmp_path, content)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_damage_of_an_archive_is_a_rejection(data: st.DataObject) -> None:
    names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
    members = data.draw(st.dictionaries(names, st.binary(max_size=50), max_size=4))
    packed = bytearray(zipped(*members.items()) if data.draw(st.booleans()) else gzip.compress(TEXT))
    for at in data.draw(st.lists(st.integers(0, len(packed) - 1), max_size=4)):
        packed[at] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as root:
        file, folder = Path(root, "items.zip" if packed[:2] == b"PK" else "items.gz"), Path(root, "out", "here")
        file.write_bytes(packed[: data.draw(st.integers(0, len(packed)))] if data.draw(st.booleans()) else packed)
        folder.mkdir(parents=True)
        with suppress(DataRefused):
            for unpacked, _ in archives.unpack(file, landing.inspect_file(file), folder):
                assert unpacked.name.startswith(file.name)
        written = [path for path in Path(root).rglob("*") if path.is_file() and path != file]
        assert all(path.resolve().is_relative_to(folder) for path in written)


@pytest.mark.parametrize("name", ["items.csv.bz2", "items.zst", "items.tar.gz", "ITEMS.TGZ", "items.7z"])
def test_other_kinds_of_archives_are_rejected_by_their_name(unpack: Unpack, tmp_path: Path, name: str) -> None:
    assert "an archive of a kind that is not supported" in rejection_reason(unpack, tmp_path, b"x", name)


def test_an_archive_in_an_archive_is_rejected(unpack: Unpack, tmp_path: Path) -> None:
    assert "packed twice" in rejection_reason(unpack, tmp_path, gzip.compress(gzip.compress(TEXT)), "items.csv.gz.gz")


@pytest.mark.parametrize("name", ["bomb.gz", "bomb.zip", "liar.zip"])
def test_a_bomb_is_rejected(unpack: Unpack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED_BYTES", 2 << 20)
    zeros = bytes(8 << 20)
    bomb = gzip.compress(zeros) if name.endswith(".gz") else zipped(("a.csv", zeros))
    if name.startswith("liar"):  # its directory states a small size
        at = bomb.index(b"PK\x01\x02") + 24
        bomb = bomb[:at] + (100).to_bytes(4, "little") + bomb[at + 4 :]

    found = rejection_reason(unpack, tmp_path, bomb, name)

    assert "200 times its size" in found or "damaged" in found
    assert sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file()) <= 2 << 20


def test_a_well_compressed_file_is_accepted(unpack: Unpack) -> None:
    text = b"id,v\n" + b"1,aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n" * 100_000

    assert unpack(gzip.compress(text), "items.csv.gz") == {"items.csv.gz/items.csv": text}
