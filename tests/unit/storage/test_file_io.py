"""Files are written completely or not at all, and never through a link that somebody has put in their place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lakehouse.storage import file_io


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    file = tmp_path / "victim"
    file.write_text("precious")
    return file


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "file", "pipe"])
def test_what_lies_in_the_place_of_a_new_file_is_replaced_and_never_followed(
    tmp_path: Path, victim: Path, kind: str
) -> None:
    file, partial = tmp_path / "clean.json", tmp_path / ".clean.json.partial"
    match kind:
        case "link":
            partial.symlink_to(victim)
        case "dangling link":
            partial.symlink_to(tmp_path / "new")
        case "folder":
            (partial / "inner").mkdir(parents=True)
        case "file":
            partial.write_text("left by a killed run, and longer than the new content")
        case "pipe":
            os.mkfifo(partial)

    file_io.write_atomically(file, b"{}")

    assert file.read_bytes() == b"{}"
    assert victim.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.json", "victim"]


def test_a_link_in_the_place_of_a_file_is_replaced_by_the_file(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "clean.json").symlink_to(victim)

    file_io.write_atomically(tmp_path / "clean.json", b"{}")

    assert victim.read_text() == "precious"
    assert not (tmp_path / "clean.json").is_symlink()


def test_a_rewrite_is_not_written_through_a_link(tmp_path: Path, victim: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text("id\n1\n")
    (tmp_path / ".items.csv.partial").symlink_to(victim)

    with file_io.atomic_rewrite(file, tmp_path) as (old, new):
        new.write_text(old.read_text().replace("1", "2"))

    assert file.read_text() == "id\n2\n"
    assert victim.read_text() == "precious"


def test_a_new_folder_is_not_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / ".20250101_000000.partial").symlink_to(outside)

    with file_io.atomic_folder(tmp_path / "landing" / "20250101_000000") as folder:
        assert isinstance(folder, Path)
        (folder / "items.csv").write_text("id\n")

    assert list(outside.iterdir()) == []
    assert (tmp_path / "landing" / "20250101_000000" / "items.csv").exists()


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("")
    (tmp_path / "link").symlink_to(outside)

    file_io.remove(tmp_path / "link")

    assert (outside / "file").exists()
    assert not (tmp_path / "link").is_symlink()


def test_a_file_that_does_not_fit_on_the_disk_leaves_the_old_one_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "clean.json"
    file_io.write_atomically(file, b"old")

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        file_io.write_atomically(file, b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"clean.json": b"old"}


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o007, 0o660)])
def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        file_io.write_atomically(tmp_path / "clean.json", b"{}")
    finally:
        os.umask(before)

    assert (tmp_path / "clean.json").stat().st_mode & 0o777 == mode


def test_a_file_that_a_writer_completes_follows_no_link_and_replaces_nothing_if_it_fails(
    tmp_path: Path, victim: Path
) -> None:
    file, partial = tmp_path / "rows.csv", tmp_path / ".rows.csv.partial"
    partial.symlink_to(victim)

    with file_io.replace_when_complete(file) as path:
        path.write_text("a\n")
    with pytest.raises(ValueError, match="no such row"), file_io.replace_when_complete(file) as path:
        path.write_text("half")
        raise ValueError("no such row")

    assert (file.read_text(), victim.read_text()) == ("a\n", "precious")
    assert not partial.exists()
